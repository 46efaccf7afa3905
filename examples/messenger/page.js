// SPDX-License-Identifier: BSL-1.0
//
// The page: shows what `chats.js` knows, and hands on what a person does.

import { is_name, Messenger } from './chats.js';
import { connect, transports } from './hailwire.js';
import { browser_keys, can_seal, Vault } from './seal.js';

const $ = (id) => document.getElementById(id);
const short_titles = { websocket: 'WebSocket', sse: 'SSE', long_poll: 'long poll', short_poll: 'short poll' };
const show_at_once = 8 * 1024 * 1024;  // bytes: larger pictures are fetched when they are asked for
const safe_pictures = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];

let config;     // what the server says of itself
let messenger;  // undefined until somebody has come in
let open;       // the chat that is shown
let away;       // there was a connection, and there is none now
let divider;    // the offset before which "new" stands in it
const drafts = new Map();

// ---- small things

const time = (at) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
const day = (at) => new Date(at).toDateString();
function day_name(at) {
  if (day(at) === day(Date.now())) return 'Today';
  if (day(at) === day(Date.now() - 86_400_000)) return 'Yesterday';
  return new Date(at).toLocaleDateString([], { weekday: 'long', day: 'numeric', month: 'long' });
}
const bytes = (n) => (n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1000).toFixed(0)} kB` : `${(n / 1e6).toFixed(1)} MB`);
const hue = (name) => [...name].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 360, 7);

/** An element: `make('b', { class: 'x' }, 'text', child)`. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element[name] = value;
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ''));
  return element;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(document.createElementNS('http://www.w3.org/2000/svg', 'use'));
  svg.firstChild.setAttribute('href', `#i-${name}`);
  return svg;
}

function avatar(name, { online = false, group = false } = {}, element = make('span', { 'aria-hidden': 'true' })) {
  element.className = `avatar${online ? ' online' : ''}`;
  element.style.setProperty('--hue', hue(name));
  element.replaceChildren(group ? icon('group') : name.slice(0, 2));
  return element;
}

/** Makes the children of `list` those of `items`, keeping the elements of items that stay: the focus stays, and a screen
 *  reader reads only what is new. `look(item)`: all that is shown of it, as text; `draw(item)`: a new element. */
function reconcile(list, items, key, look, draw) {
  const old = new Map([...list.children].map((element) => [element.dataset.key, element]));
  let at = list.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const shown = look(item);
    let element = old.get(name);
    if (!element || element.look !== shown) {
      const anew = draw(item, element);
      anew.dataset.key = name;
      anew.look = shown;
      if (element && element !== anew) {
        const focused = element.contains(document.activeElement);
        if (at === element) at = anew;
        element.replaceWith(anew);
        if (focused) (anew.matches('button') ? anew : anew.querySelector('button'))?.focus();
      }
      element = anew;
    }
    old.delete(name);
    if (at === element) at = at.nextElementSibling;
    else list.insertBefore(element, at);
  }
  for (const [, element] of old) element.remove();
}

// ---- the side: chats and people

function last_line(chat) {
  if (chat.typing.size) return { text: 'typing…', live: true };
  const waiting = chat.outbox.at(-1);
  const last = chat.messages.at(-1);
  const { text, file, state, from } = waiting ?? last ?? {};
  const what = state === 'erased' ? 'Message taken back' : state === 'locked' ? 'Cannot be read here' : state === 'opening' ? '…' : text || file?.name;
  if (!what) return { text: chat.kind === 'group' ? `${chat.members.size} members` : '' };
  return { text: waiting || from === messenger.me ? `You: ${what}` : chat.kind === 'group' && from ? `${from}: ${what}` : what };
}

const last_time = (chat) => chat.outbox.at(-1)?.at ?? chat.messages.at(-1)?.at ?? 0;

function show_side() {
  const { state, reason, transport, retryIn } = messenger.status;
  away = state !== 'open' && (away || state !== 'connecting');
  $('status').dataset.state = state;
  $('status').dataset.transport = transport;
  set_text($('status-text'), {
    connecting: away ? 'Reconnecting…' : 'Connecting…', open: `Online · ${short_titles[transport]}`, offline: 'Offline', stopped: `Stopped: ${reason}`,
    waiting: retryIn > 3000 ? 'Offline, trying again soon…' : 'Reconnecting…',
  }[state]);
  $('offline').hidden = !away;
  $('around').hidden = state !== 'open';  // it is not known now
  const chats = [...messenger.chats.values()].sort((a, b) => last_time(b) - last_time(a));
  const look = (chat) => JSON.stringify([chat.title, last_line(chat), last_time(chat), unread(chat), chat === open && shown_room(), chat.other && messenger.is_online(chat.other)]);
  reconcile($('chats'), chats, (chat) => chat.channel, look, (chat, old) => {
    const count = unread(chat);
    const { text, live } = last_line(chat);
    const at = last_time(chat);
    const online = !!chat.other && messenger.is_online(chat.other);
    const button = old?.firstChild ?? make('button', { type: 'button', onclick: () => enter(chat) });
    button.setAttribute('aria-current', chat === open && shown_room());
    button.replaceChildren(
      avatar(chat.title, { online, group: chat.kind === 'group' }),
      make('span', { class: 'who' },
        make('span', { class: 'line' }, chat.kind === 'secret' ? icon('lock') : '', make('b', {}, chat.title, chat.kind === 'secret' ? make('span', { class: 'hidden' }, ', encrypted') : '', online ? make('span', { class: 'hidden' }, ', online') : ''),
          at ? make('time', {}, day(at) === day(Date.now()) ? time(at) : new Date(at).toLocaleDateString([], { day: 'numeric', month: 'short' })) : ''),
        make('span', { class: 'line' }, make('span', { class: `last${live ? ' live' : ''}` }, text || ' '),
          count ? make('span', { class: 'badge' }, String(count), make('span', { class: 'hidden' }, ' unread')) : '')));
    return old ?? make('li', {}, button);
  });
  const around = [...messenger.online].filter((name) => name !== messenger.me && is_name(name)).sort();
  reconcile($('people'), around, (name) => name, (name) => name, (name) => make('li', {},
    make('button', { type: 'button', onclick: () => enter(messenger.start(name)) }, avatar(name, { online: true }), make('span', { class: 'who' }, name, make('span', { class: 'hidden' }, ': write a direct message')))));
  const all = chats.reduce((sum, chat) => sum + unread(chat), 0);
  document.title = `${all ? `(${all}) ` : ''}${open ? `${open.title} · ` : ''}hailwire messenger`;
}

const looking = () => document.visibilityState === 'visible' && document.hasFocus();
const unread = (chat) => (chat === open && looking() && shown_room() ? 0 : chat.unread);
const shown_room = () => document.body.dataset.view === 'room' || matchMedia('(min-width: 761px)').matches;

function set_text(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- the conversation

function enter(chat) {
  if (open) drafts.set(open, $('text').value);
  const again = open === chat;
  open = chat;
  document.body.dataset.view = 'room';
  if (!again) {
    divider = chat.unread ? chat.messages.find(({ offset, from }) => offset > (chat.marks.get(messenger.me)?.read ?? 0) && from !== messenger.me)?.offset : undefined;
    chat.caught_from = undefined;
    $('log').replaceChildren();
    $('text').value = drafts.get(chat) ?? '';
  }
  for (const id of ['room-head', 'log', 'write']) $(id).hidden = false;
  $('nothing').hidden = true;
  grow();
  show_now();
  $('log').scrollTop = $('log').scrollHeight;
  if (matchMedia('(hover: hover)').matches) $('text').focus();
  else $('room-title').focus();
}

function leave() {
  document.body.dataset.view = 'list';
  const chat = open;
  show_now();
  $('chats').querySelector(`[data-key="${CSS.escape(chat?.channel ?? '')}"] button`)?.focus();
}

function room_state(chat) {
  const typing = [...chat.typing.keys()];
  if (typing.length) return [chat.other ? 'typing…' : `${typing.join(', ')} ${typing.length > 1 ? 'are' : 'is'} typing…`, true];
  if (messenger.status.state !== 'open') return ['waiting for the connection', false];
  if (chat.other) return [messenger.is_online(chat.other) ? 'online' : 'offline', messenger.is_online(chat.other)];
  const there = [...chat.members].filter((name) => name === messenger.me || messenger.is_online(name)).length;
  return [`${chat.members.size} members, ${there} online`, false];
}

function show_room() {
  const chat = open;
  avatar(chat.title, { online: chat.other && messenger.is_online(chat.other), group: chat.kind === 'group' }, $('room-avatar'));
  if ($('room-title').dataset.of !== chat.channel) {
    $('room-title').dataset.of = chat.channel;
    $('room-title').replaceChildren(chat.title, ...(chat.kind === 'secret' ? [icon('lock'), make('span', { class: 'hidden' }, 'encrypted from end to end')] : []));
  }
  const [words, live] = room_state(chat);
  set_text($('room-state'), words);
  $('room-state').className = live ? 'live' : '';
  if (chat.caught_from !== undefined) {
    divider = chat.caught_from;
    chat.caught_from = undefined;
  }

  const log = $('log');
  const at_end = log.scrollHeight - log.scrollTop - log.clientHeight < 120;
  const height = log.scrollHeight;
  const first = log.querySelector('.message');
  const items = [];
  const note = (words) => items.push({ slot: `note ${words}`, look: words, draw: () => make('li', { class: 'note' }, words) });
  if (chat.begins && chat.trimmed) note('Older messages are no longer kept.');
  if (chat.begins && chat.kind === 'secret') note('Only the two of you can read this. The server carries what it cannot open.');
  let before;
  const own = chat.outbox.map((entry) => ({ ...entry, from: messenger.me, entry, source: entry, tick: entry.sent ? 'sent' : 'waiting' }));
  for (const message of [...chat.messages, ...own]) {
    let first = !before || before.from !== message.from || message.at - before.at > 300_000;
    if (!before || day(before.at) !== day(message.at)) first = note(day_name(message.at)) > 0;
    if (message.offset !== undefined && message.offset === divider) first = items.push({ slot: 'new', look: '', draw: () => make('li', { class: 'new' }, 'New') }) > 0;
    const item = { source: message, ...message, first, tick: message.tick ?? (message.from === messenger.me ? chat.tick(message.offset) : undefined) };
    const readers = chat.kind === 'group' && item.tick && item.offset ? chat.readers(item.offset) : [];
    const body = JSON.stringify([item.offset, item.text, item.state, first, !item.tick, item.fault, item.progress, item.source.fetching, !!item.source.file?.blob]);
    items.push({
      slot: item.from === messenger.me && item.id ? `own ${item.id}` : `${chat.epoch}.${item.offset}`,
      look: `${body} ${item.tick} ${readers}`,
      draw: (old) => (old?.body === body ? old : Object.assign(draw_message(chat, item, old), { body })),
      draw_tick: (li) => draw_tick(li, item, readers),
    });
    before = message;
  }
  if (!items.length) note(chat.begins ? 'Nothing here yet. Say hello.' : ' ');
  reconcile(log, items, ({ slot }) => slot, ({ look }) => look, ({ draw, draw_tick: tick }, old) => {
    const li = draw(old);
    tick?.(li);
    return li;
  });
  if (at_end) log.scrollTop = log.scrollHeight;
  else if (first?.isConnected && first !== log.querySelector('.message')) log.scrollTop += log.scrollHeight - height;
  if (log.scrollTop < 200) messenger.earlier(chat);
  if (looking() && shown_room()) messenger.read(chat);
}

const tick_words = { waiting: 'not sent yet', sent: 'sent', delivered: 'delivered', read: 'read' };
const tick_icons = { waiting: 'clock', sent: 'tick', delivered: 'ticks', read: 'ticks' };

/** In place, so that a screen reader does not read the message again because somebody has read it. */
function draw_tick(li, { tick, state }, readers) {
  li.dataset.tick = tick ?? '';
  const ticks = li.querySelector('.ticks');
  if (!ticks) return;
  ticks.hidden = state === 'erased';
  ticks.className = `ticks ${tick}`;
  const words = readers.length ? `read by ${readers.join(', ')}` : tick_words[tick];
  ticks.title = words;
  ticks.querySelector('use').setAttribute('href', `#i-${tick_icons[tick]}`);
  ticks.lastChild.firstChild.data = words;
}

function draw_message(chat, item, old) {
  const mine = item.from === messenger.me;
  const li = old ?? make('li');
  li.className = `message${mine ? ' mine' : ''}${item.first ? ' first' : ''}`;
  li.dataset.offset = item.offset ?? '';
  li.dataset.state = item.state ?? '';
  const bubble = make('div', { class: 'bubble' });
  if (!mine && chat.kind === 'group' && item.first) bubble.append(make('div', { class: 'from', style: undefined }, item.from || 'anonymous'));
  else bubble.append(make('span', { class: 'hidden' }, `${mine ? 'You' : item.from || 'anonymous'}: `));
  bubble.firstChild.style.setProperty('--hue', hue(item.from));
  if (item.file) bubble.append(draw_file(chat, item));
  const still = { erased: mine ? 'You took this message back' : 'This message was taken back', locked: 'This message cannot be read on this device', opening: '…' }[item.state];
  if (still || item.text) bubble.append(make('div', { class: `text${still ? ' still' : ''}` }, still ?? item.text));
  const meta = make('div', { class: 'meta' }, make('time', { datetime: new Date(item.at).toISOString() }, time(item.at)));
  if (item.tick) meta.append(make('span', { class: 'ticks' }, icon(tick_icons[item.tick]), make('span', { class: 'hidden' }, tick_words[item.tick])));
  bubble.append(meta);
  if (item.fault) {
    bubble.append(make('div', { class: 'fault', role: 'alert' }, make('span', {}, item.fault),
      make('button', { type: 'button', onclick: () => messenger.resend(chat, item.source) }, 'Try again'), make('button', { type: 'button', onclick: () => messenger.discard(chat, item.source) }, 'Discard')));
  }
  li.replaceChildren(bubble);
  if (mine && item.offset && item.state !== 'erased') {
    li.append(make('button', { type: 'button', class: 'icon undo', 'aria-label': `Take back: ${(item.text || item.file?.name || 'message').slice(0, 60)}`, onclick: () => take_back(chat, item.source) }, icon('undo')));
  }
  return li;
}

function draw_file(chat, item) {
  const { source } = item;
  const file = source.file instanceof Blob ? { name: source.file.name, kind: source.file.type, size: source.file.size, blob: source.file } : source.file;
  const box = make('div', { class: 'file' });
  const picture = safe_pictures.includes(file.kind);
  const about = `${bytes(file.size)}${file.kind ? ` · ${file.kind.split('/').pop().slice(0, 14)}` : ''}`;
  if (picture && file.blob) {
    file.url ??= URL.createObjectURL(file.blob);
    box.append(make('img', { src: file.url, alt: file.name, onload: stay }));
  } else {
    const act = async () => {
      if (item.entry || source.fetching !== undefined) return;
      const blob = file.blob ?? await fetch_file(chat, source);
      if (blob && !picture) make('a', { href: URL.createObjectURL(blob), download: file.name }).click();
    };
    box.append(make('button', { type: 'button', onclick: act, 'aria-label': `${picture ? 'Show' : 'Save'} ${file.name}, ${about}` }, icon('file'), make('span', {}, make('b', {}, file.name), make('small', {}, about))));
    if (picture && !item.entry && source.fetching === undefined && !source.refused && file.size <= show_at_once) fetch_file(chat, source);
  }
  const done = item.entry ? item.progress ?? 0 : source.fetching;
  if (done !== undefined && !item.fault && !item.entry?.sent) {
    box.append(make('progress', { max: 1, value: done, 'aria-label': item.entry ? 'Sending' : 'Fetching' }));
    if (item.entry) box.append(make('button', { type: 'button', class: 'quiet', onclick: () => messenger.discard(chat, source) }, 'Cancel'));
  }
  return box;
}

async function fetch_file(chat, message) {
  message.fetching = 0;
  changed(chat);
  try {
    return await messenger.fetch(chat, message, (done, of) => { message.fetching = Math.min(1, done / of); changed(chat); });
  } catch (fault) {
    message.refused = true;
    say(`${message.file?.name ?? 'The file'} could not be fetched: ${fault.message}`);
  } finally {
    message.fetching = undefined;
    changed(chat);
  }
}

/** A picture that has just got its height does not push the end out of sight. */
function stay() {
  const log = $('log');
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 420) log.scrollTop = log.scrollHeight;
}

function take_back(chat, message) {
  $('take-text').textContent = message.text || message.file?.name || 'a message';
  ask($('take'), async () => {
    try {
      await messenger.erase(chat, message);
    } catch (fault) {
      say(`It could not be taken back: ${fault.message}`);
    }
  });
}

function say(text) {
  $('say').textContent = text;
  const note = make('li', { class: 'note fault' }, text);
  $('log').append(note);
  setTimeout(() => note.remove(), 8000);
}

// ---- when something has changed

let scheduled = false;
function changed() {
  if (scheduled) return;
  scheduled = true;
  // Not by animation frame alone: a page in the background has none, and its title is to count on.
  const act = () => { if (scheduled) show_now(); };
  requestAnimationFrame(act);
  setTimeout(act, 250);
}

function show_now() {
  scheduled = false;
  if (!messenger) return;
  if (open && !messenger.chats.has(open.channel)) close_room();
  if (open && shown_room()) show_room();
  show_side();
}

function close_room() {
  open = undefined;
  for (const id of ['room-head', 'log', 'write']) $(id).hidden = true;
  $('nothing').hidden = false;
  document.body.dataset.view = 'list';
}

// ---- what a person does

/** Opens a dialog; `go` is called if it is left by its main button. */
function ask(dialog, go = () => {}) {
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'go') go(); };
  dialog.showModal();
}
for (const button of document.querySelectorAll('[data-close]')) button.onclick = () => button.closest('dialog').close('');

function grow() {
  const text = $('text');
  if (CSS.supports('field-sizing', 'content')) return;
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight + 2}px`;
}
$('text').oninput = () => {
  grow();
  if ($('text').value) messenger.typing(open);
};
$('text').onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('write').requestSubmit();
};
$('write').onsubmit = (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  $('text').value = '';
  grow();
  messenger.typed();
  messenger.send(open, text);
  divider = undefined;
  show_now();
  $('log').scrollTop = $('log').scrollHeight;
};
$('back').onclick = leave;
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !document.querySelector('dialog[open]') && document.body.dataset.view === 'room' && matchMedia('(max-width: 760px)').matches) leave();
});
$('log').onscroll = () => { if ($('log').scrollTop < 200 && open) messenger.earlier(open); };
for (const kind of ['focus', 'visibilitychange', 'resize']) (kind === 'visibilitychange' ? document : window).addEventListener(kind, () => changed());

function send_files(files) {
  for (const file of files) messenger.send(open, '', file);
  $('log').scrollTop = $('log').scrollHeight;
}
$('attach').onclick = () => $('file').click();
$('file').onchange = () => { send_files([...$('file').files]); $('file').value = ''; };
$('text').onpaste = (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  send_files(event.clipboardData.files);
};
$('room').ondragover = (event) => {
  if (!open || !event.dataTransfer.types.includes('Files')) return;
  event.preventDefault();
  $('drop').hidden = false;
};
$('room').ondragleave = (event) => { if (!$('room').contains(event.relatedTarget)) $('drop').hidden = true; };
$('room').ondrop = (event) => {
  event.preventDefault();
  $('drop').hidden = true;
  if (open) send_files(event.dataTransfer.files);
};

// A new chat.
const kind_chosen = () => document.querySelector('#begin [name=kind]:checked').value;
function show_kind() {
  const group = kind_chosen() === 'group';
  $('begin-group').hidden = !group;
  $('begin-name').required = group;
  document.querySelector('#begin label[for=begin-with]').textContent = group ? 'With whom (names, with commas between)' : 'With whom';
  $('begin-with').placeholder = group ? 'bob, eve' : 'bob';
}
for (const radio of document.querySelectorAll('#begin [name=kind]')) radio.onchange = show_kind;
$('new').onclick = () => {
  $('begin-with').value = $('begin-name').value = $('begin-fault').textContent = '';
  document.querySelector('#begin [value=direct]').checked = true;
  document.querySelector('#begin [value=secret]').disabled = !messenger.can_seal;
  $('known').replaceChildren(...[...messenger.online].filter((name) => name !== messenger.me).map((name) => make('option', { value: name })));
  show_kind();
  ask($('begin'));
  $('begin-with').focus();
};
$('begin').querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  const names = [...new Set($('begin-with').value.split(/[\s,]+/).filter(Boolean))].filter((name) => name !== messenger.me);
  const kind = kind_chosen();
  const bad = names.find((name) => !is_name(name));
  const fault = bad ? `“${bad}” is no name: letters, digits, and _ . -` : !names.length ? 'With somebody else than you.' : kind !== 'group' && names.length > 1 ? 'A chat of more than two is a group.' : '';
  $('begin-fault').textContent = fault;
  if (fault) return;
  $('begin').close();
  enter(kind === 'group' ? messenger.start_group($('begin-name').value.trim(), names) : messenger.start(names[0], kind === 'secret'));
};

// The connection.
function show_line() {
  const { state, transport, reason } = messenger.status;
  $('line-state').textContent = `${$('status-text').textContent}${state === 'waiting' && reason ? ` (${reason})` : ''}. What is said while you are away comes when you are back, from where you were.`;
  $('cut').textContent = state === 'offline' ? 'Go online' : 'Go offline';
  $('cut').disabled = state === 'stopped';
}
$('status').onclick = () => { show_line(); ask($('line')); };
$('cut').onclick = () => {
  if (messenger.status.state === 'offline') messenger.live.resume(); else messenger.live.pause();
  show_now();
  show_line();
};
$('transport').onchange = () => messenger.live.use(...($('transport').value === 'auto' ? transports : [$('transport').value]));

// Being told while no page is open: the server's key is in config.json where it sends Web Push.
async function show_notify() {
  const now = await (await navigator.serviceWorker.ready).pushManager.getSubscription();
  $('notify').textContent = now ? 'Notify me no more on this device' : 'Notify me on this device';
  return now;
}
$('notify').onclick = async () => {
  $('notify-fault').textContent = '';
  try {
    const { pushManager } = await navigator.serviceWorker.ready;
    const now = await show_notify();
    if (now) {
      await messenger.live.command('device', { push: 'web', token: null });
      await now.unsubscribe();
    } else {
      const made = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: config.push_key });
      await messenger.live.command('device', { push: 'web', token: made.toJSON() });
    }
    await show_notify();
  } catch (fault) {
    $('notify-fault').textContent = `That did not work: ${fault.message}`;
  }
};
navigator.serviceWorker?.addEventListener('message', ({ data }) => {
  const chat = messenger?.chats.get(data.channel);
  if (chat) enter(chat);
});

// About a chat.
$('info-open').onclick = async () => {
  const chat = open;
  $('info-title').replaceChildren(chat.title, ...(chat.kind === 'secret' ? [icon('lock')] : []));
  $('info-kind').textContent = {
    direct: 'A chat of two. Whoever runs the server can read it.', group: 'A group. Whoever runs the server can read it.',
    secret: `Encrypted from end to end. Compare this number with ${chat.title}, over the phone say: if it is the same on both sides, nobody stands between you.`,
  }[chat.kind];
  $('info-members').replaceChildren(...[...chat.members].sort().map((name) => make('li', {}, avatar(name, { online: name === messenger.me || messenger.is_online(name) }), name,
    make('small', {}, name === messenger.me ? 'you' : messenger.is_online(name) ? 'online' : 'offline'))));
  $('info-number').hidden = chat.kind !== 'secret';
  $('info-number').textContent = '…';
  ask($('info'));
  if (chat.kind === 'secret') $('info-number').textContent = await messenger.safety_number(chat).catch(() => 'not known while offline');
};

// ---- coming in

async function start(user, device) {
  config = await fetch('config.json').then((answer) => answer.json()).catch(() => ({ path: '/live' }));
  if (config.push_key && navigator.serviceWorker && globalThis.PushManager) {
    $('notify').hidden = false;
    show_notify();
  }
  const name = `hailwire ${user} ${device}`;
  const kept = {
    get: (what) => JSON.parse(localStorage.getItem(`${name} ${what}`) ?? 'null') ?? undefined,
    put(what, value) {
      try {
        localStorage.setItem(`${name} ${what}`, JSON.stringify(value));
      } catch {  // the browser has no more room: rather nothing than what is old
        localStorage.removeItem(`${name} ${what}`);
      }
    },
  };
  const vault = can_seal() ? await Vault.open(`${user} ${device}`, await browser_keys()).catch(() => undefined) : undefined;
  const wanted = new URLSearchParams(location.search).get('transport');
  if (transports.includes(wanted)) $('transport').value = wanted;
  messenger = new Messenger({
    user, kept, vault, changed,
    connect: (options) => connect({ url: config.path, params: { user, device }, transports: transports.includes(wanted) ? [wanted] : transports, ...options }),
  });
  messenger.announce().catch(() => {});
  // A service of the host's wakes devices: it knows them by the name that it is given here.
  if (config.webhook) messenger.live.command('device', { push: 'webhook', token: device }).catch(() => {});
  avatar(user, {}, $('my-avatar'));
  $('my-name').textContent = user;
  show_now();
}

navigator.serviceWorker?.register('sw.js').catch(() => {});  // none is needed where there is a network

const query = new URLSearchParams(location.search);
const user = query.get('user')?.trim() ?? '';
if (is_name(user)) {
  // A device has a name that it keeps: its own, unless the address says another.
  const device = query.get('device') || (localStorage.hailwire_device ??= Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, '0')).join(''));
  localStorage.hailwire_user = user;
  start(user, device);
} else {
  $('enter-name').value = user || (localStorage.hailwire_user ?? '');
  $('enter').oncancel = (event) => event.preventDefault();
  $('enter').showModal();
}
