// SPDX-License-Identifier: BSL-1.0
//
// What the messenger's page knows, without a page: the test is the server.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { webcrypto } from 'node:crypto';
import { afterEach, test } from 'node:test';

globalThis.crypto ??= webcrypto;
// A page says that these are modules; to Node 18 the names alone do not.
const load = async (name) => readFile(new URL(`../../examples/messenger/${name}`, import.meta.url), 'utf8');
const as_url = (text) => `data:text/javascript;base64,${Buffer.from(text).toString('base64')}`;
const seal_url = as_url(await load('seal.js'));
const { Messenger, pair_channel } = await import(as_url((await load('chats.js')).replace('./seal.js', seal_url)));
const { open_file, safety_number, seal_file, Vault } = await import(seal_url);

const settle = async () => { for (let i = 0; i < 5; i++) await new Promise((done) => setImmediate(done)); };
/** Encryption takes its time; the watchdog ends what does not come. */
const until = async (come) => { while (!come()) await settle(); };
const people = [];
afterEach(() => { for (const one of people.splice(0)) one.close(); });

/** A connection whose other end is the test: commands land in `asked` and wait, but for what `answers` holds by name. */
class Live {
  asked = [];
  marks = [];
  listeners = { message: [], notice: [], state: [] };
  status = { state: 'connecting', transport: 'websocket' };
  followed = [];
  answers = {
    history: ({ channel }) => ({ messages: this.logs?.[channel] ?? [], epoch: 'e1', more: false }),
    presence: () => ({ members: [], count: 0 }), receipts: () => ({ epoch: 'e1', head: 0, receipts: [] }),
  };
  on(kind, listener) { this.listeners[kind].push(listener); }
  tell(kind, what) { for (const listener of this.listeners[kind]) listener(what); return settle(); }
  state(state) { this.status = { ...this.status, state }; return this.tell('state', this.status); }
  message(channel, offset, from, data, more = {}) { return this.tell('message', { channel, epoch: 'e1', offset, at: 1000 + offset, from, type: 'text', data, ...more }); }
  #command(name, body) {
    if (this.answers[name]) return Promise.resolve().then(() => this.answers[name](body));
    return new Promise((resolve, reject) => this.asked.push({ name, ...body, resolve: (ok) => { resolve(ok); return settle(); }, reject: (fault) => { reject(fault); return settle(); } }));
  }
  follow(channel, since) { this.followed.push([channel, since]); }
  publish(channel, data, more) { return this.#command('publish', { channel, data, ...more }); }
  history(channel, range) { return this.#command('history', { channel, ...range }); }
  presence(channel) { return this.#command('presence', { channel }); }
  receipts(channel) { return this.#command('receipts', { channel }); }
  erase(channel, at) { return this.#command('erase', { channel, ...at }); }
  upload(channel, content, more) { return this.#command('upload', { channel, content, ...more }); }
  received(channel, at) { this.marks.push(['received', channel, at?.offset]); }
  read(channel, at) { this.marks.push(['read', channel, at.offset]); }
  close() {}
  get published() { return this.asked.filter(({ name }) => name === 'publish'); }
}

/** Time that passes when the test says so. */
class Clock {
  time = 0;
  timers = [];
  setTimeout(act, ms) { const timer = { act, at: this.time + ms }; this.timers.push(timer); return timer; }
  clearTimeout(timer) { this.timers = this.timers.filter((one) => one !== timer); }
  async pass(ms) {
    const end = this.time + ms;
    for (let next; (next = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]);) {
      this.clearTimeout(next);
      this.time = next.at;
      next.act();
      await settle();
    }
    this.time = end;
  }
}

async function come(user, { before, vault, logs, transport = 'websocket' } = {}) {
  const live = new Live();
  live.status.transport = transport;
  const clock = new Clock();
  live.logs = logs;
  const kept = { ...before, get(name) { return this[name]; }, put(name, value) { this[name] = JSON.parse(JSON.stringify(value)); } };
  let options;
  const messenger = new Messenger({ user, kept, vault, clock, changed() {}, connect: (given) => { options = given; return live; } });
  people.push(messenger);
  await live.state('open');
  return { messenger, live, kept, options, clock };
}
const texts = (chat) => chat.messages.map(({ text, state }) => state ?? text);

test('a new device is told all there is, one that was here before what came since', async () => {
  const fresh = await come('ada');
  assert.deepEqual(fresh.options, { channels: ['@ada', 'people'], since: 'earliest,latest' });
  fresh.messenger.start('bob');
  assert.deepEqual(fresh.live.followed, [['direct:ada:bob', 'earliest']]);
  const again = await come('ada', { before: fresh.kept });
  assert.deepEqual(again.options, { channels: ['@ada', 'people', 'direct:ada:bob'], since: 'received,latest,received' });
});

test('a chat is announced to the inboxes of all who are in it, one\'s own too, once', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  assert.equal(messenger.start('bob'), chat);
  messenger.start_group('Weekend', ['bob', 'eve']);
  assert.deepEqual(live.published.map(({ channel, type }) => [channel, type]), [['@bob', 'invite'], ['@ada', 'invite'], ['@bob', 'invite'], ['@eve', 'invite'], ['@ada', 'invite']]);
  assert.match(live.published[2].data.channel, /^group:[0-9a-f]{32}$/);
  assert.deepEqual(live.published[2].data.members, ['ada', 'bob', 'eve']);
});

test('where what was missed begins is known too if the first second was cut short', async () => {
  const { messenger, live, clock } = await come('ada');
  const chat = messenger.start('bob');
  await live.message('direct:ada:bob', 1, 'bob', { id: 'b1', text: 'hello' });
  await live.state('offline');
  await clock.pass(10_000);
  await live.state('open');
  await live.message('direct:ada:bob', 2, 'bob', { id: 'b2', text: 'are you there?' });
  assert.equal(chat.caught_from, 2);
  chat.caught_from = undefined;  // it is shown
  await clock.pass(1_000);
  await live.message('direct:ada:bob', 3, 'bob', { id: 'b3', text: 'there you are' });
  assert.equal(chat.caught_from, undefined);
});

test('an invitation opens the chat, if it is one\'s own', async () => {
  const { messenger, live } = await come('bob');
  const invite = (offset, from, data, type = 'invite') => live.message('@bob', offset, from, data, { type });
  await invite(1, 'ada', { channel: 'direct:ada:bob' });
  await invite(2, 'eve', { channel: 'direct:ada:eve' });
  await invite(3, 'eve', { channel: 'direct:bob:joe' });
  await invite(4, 'eve', { channel: 'people' });
  await invite(5, 'eve', { channel: 'group:7', title: 'Weekend', members: ['bob', 'eve'] });
  await invite(6, 'eve', { channel: 'secret:bob:eve' }, 'note');
  await invite(7, 'bob', { channel: 'secret:bob:joe' });
  await invite(8, undefined, null);
  assert.deepEqual([...messenger.chats.keys()], ['direct:ada:bob', 'group:7', 'secret:bob:joe']);
  assert.equal(messenger.chats.get('group:7').title, 'Weekend');
  assert.equal(live.marks.filter(([, channel]) => channel === '@bob').length, 8, 'and the inbox is received');
});

test('an own message waits, is sent, and then stands at its place, whichever of reply and message comes first', async () => {
  for (const reply_first of [true, false]) {
    const { messenger, live, kept } = await come('ada');
    const chat = messenger.start('bob');
    messenger.send(chat, 'hello');
    const sent = live.published.at(-1);
    assert.deepEqual([sent.channel, sent.data.text, sent.type, chat.outbox.length], ['direct:ada:bob', 'hello', 'text', 1]);
    assert.equal(kept.chats.unsent['direct:ada:bob'].outbox[0].key, sent.key, 'it survives the page');
    await settle();
    if (reply_first) {
      await sent.resolve({ epoch: 'e1', offset: 1 });
      assert.equal(chat.outbox[0].sent, true);
    }
    await live.message('direct:ada:bob', 1, 'ada', sent.data);
    if (!reply_first) await sent.resolve({ epoch: 'e1', offset: 1 });
    assert.deepEqual([chat.outbox.length, texts(chat), kept.chats.unsent['direct:ada:bob'].outbox], [0, ['hello'], []]);
  }
});

test('what an earlier visit could not send is sent with its key, unless its key may be forgotten', async () => {
  const entry = { id: 'i', key: 'k', at: Date.now() - 60_000, text: 'from the tunnel' };
  const old = { ...entry, id: 'j', at: Date.now() - 600_000 };
  const { messenger, live } = await come('ada', { before: { chats: { chats: [{ channel: 'direct:ada:bob' }], unsent: { 'direct:ada:bob': { outbox: [entry, old] } } } } });
  assert.deepEqual(live.published.map(({ key, data }) => [key, data]), [['k', { id: 'i', text: 'from the tunnel' }]]);
  const chat = messenger.chats.get('direct:ada:bob');
  assert.deepEqual(chat.outbox.map(({ fault }) => fault), [undefined, 'not sent']);
  messenger.resend(chat, chat.outbox[1]);
  await settle();
  assert.equal(live.published.length, 2);
  messenger.discard(chat, chat.outbox[1]);
  assert.equal(chat.outbox.length, 1);
});

test('a device keeps the newest messages of a chat before it says that it has received them, and shows them when it comes again', async () => {
  const { messenger, live, kept } = await come('ada');
  const chat = messenger.start('bob');
  for (let offset = 1; offset <= 70; offset++) await live.message(chat.channel, offset, 'bob', { text: `text ${offset}` });
  await live.message(chat.channel, 71, 'bob', undefined, { erases: 69 });
  const told = () => live.marks.filter(([what, channel]) => what === 'received' && channel === chat.channel).map(([, , offset]) => offset);
  assert.deepEqual([told(), kept[chat.channel]], [[], undefined]);
  messenger.read(chat);
  assert.deepEqual([told(), live.marks.at(-1)], [[71], ['read', chat.channel, 71]], 'who has read has received');
  messenger.read(chat);
  assert.equal(live.marks.filter(([what]) => what === 'read').length, 1);
  assert.equal(kept[chat.channel].messages.length, 60);

  const again = await come('ada', { before: kept });
  const shown = again.messenger.chats.get(chat.channel);
  assert.deepEqual([texts(shown).length, ...texts(shown).slice(-3)], [59, 'text 68', 'erased', 'text 70']);
  assert.equal(shown.unread, 0);
  await again.live.message(chat.channel, 70, 'bob', { text: 'text 70' });
  await again.live.message(chat.channel, 72, 'bob', { text: 'text 72' });
  assert.deepEqual(texts(shown).slice(-2), ['text 70', 'text 72']);
  await again.live.tell('notice', { gap: { channel: chat.channel, reason: 'trimmed', epoch: 'e1', next: 90 } });
  await again.live.message(chat.channel, 90, 'bob', { text: 'text 90' });
  assert.deepEqual(texts(shown), ['text 90'], 'what stands before a gap is not shown as if it stood before this');
});

test('a poll is not told of all that happens, so ticks and people are asked for again and again', async () => {
  for (const [transport, times] of [['websocket', 1], ['sse', 1], ['long_poll', 4], ['short_poll', 4]]) {
    const { messenger, live, clock } = await come('ada', { before: { chats: { chats: [{ channel: 'direct:ada:bob' }] } }, transport });
    let asked = 1;  // as it came
    live.answers.receipts = () => { asked++; return { epoch: 'e1', head: 0, receipts: [] }; };
    await clock.pass(30_000);
    assert.equal(asked, times, transport);
    await live.state('waiting');
    await clock.pass(30_000);
    assert.equal(asked, times, 'and not without a connection');
    messenger.close();
    assert.equal(clock.timers.length, 0);
  }
});

test('what is received is told by itself a moment after it came', async () => {
  const { messenger, live, clock, kept } = await come('ada');
  const chat = messenger.start('bob');
  await live.message(chat.channel, 1, 'bob', { text: 'one' });
  await clock.pass(299);
  assert.equal(live.marks.length, 0);
  await clock.pass(1);
  assert.deepEqual([live.marks.at(-1), kept[chat.channel].messages.length], [['received', chat.channel, 1], 1]);
});

test('what was written too fast is sent when there is room', async () => {
  const { messenger, live, clock } = await come('ada');
  const chat = messenger.start('bob');
  messenger.send(chat, 'hello');
  await live.published.at(-1).reject(Object.assign(new Error('slow down'), { code: 'rate_limited', retryAfter: 3 }));
  const sent = live.published.length;
  await clock.pass(2_999);
  assert.deepEqual([live.published.length, chat.outbox[0].fault], [sent, undefined]);
  await clock.pass(1);
  assert.deepEqual([live.published.length, live.published.at(-1).data.text], [sent + 1, 'hello']);
});

test('a message that is refused says why, and can be tried again', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  messenger.send(chat, 'hello');
  await live.published.at(-1).reject(new Error('too fast'));
  assert.equal(chat.outbox[0].fault, 'too fast');
});

test('ticks: sent, delivered when all others have it, read when all have read it; they never fall', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start_group('Weekend', ['bob', 'eve']);
  await live.message(chat.channel, 1, 'ada', { text: 'one' });
  await live.message(chat.channel, 2, 'ada', { text: 'two' });
  const ticks = () => [1, 2].map((offset) => chat.tick(offset));
  const receipt = (user, received, read, epoch = 'e1') => live.tell('notice', { receipt: { channel: chat.channel, epoch, user, received, read } });
  assert.deepEqual(ticks(), ['sent', 'sent']);
  await receipt('bob', 2, 1);
  assert.deepEqual(ticks(), ['sent', 'sent']);
  await receipt('eve', 1, 0);
  assert.deepEqual(ticks(), ['delivered', 'sent']);
  await receipt('eve', 0, 2);
  assert.deepEqual(ticks(), ['read', 'delivered'], 'read implies received');
  await receipt('bob', 1, 0);
  await receipt('bob', 9, 9, 'e0');
  assert.deepEqual([ticks(), chat.readers(1)], [['read', 'delivered'], ['bob', 'eve']]);
  await receipt('bob', 2, 2);
  assert.deepEqual(ticks(), ['read', 'read']);
  assert.equal((await come('joe')).messenger.start('joe').tick(1), 'sent', 'nobody else is there to read a note to oneself');
});

test('receipts are asked for whenever a connection opens or something was missed', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  live.answers.receipts = () => ({ epoch: 'e1', head: 9, receipts: [{ user: 'bob', received: 3, read: 2 }] });
  await live.message(chat.channel, 3, 'ada', { text: 'three' });
  messenger.read(chat);
  assert.deepEqual(live.marks.at(-1), ['read', chat.channel, 3], 'what is not here has not been read, though there is more');
  for (const again of [() => live.state('waiting').then(() => live.state('open')), () => live.tell('notice', { missed: { channel: chat.channel } })]) {
    chat.marks.clear();
    await again();
    assert.equal(chat.tick(3), 'delivered');
  }
});

test('unread counts what others wrote above the own watermark, on whichever device that was read, and what is not here yet', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  await live.message(chat.channel, 11, 'bob', { text: 'a' });
  await live.message(chat.channel, 12, 'ada', { text: 'b' });
  await live.message(chat.channel, 13, 'bob', { text: 'c' });
  assert.equal(chat.unread, 12, 'ten before the first that is here');
  await live.tell('notice', { receipt: { channel: chat.channel, epoch: 'e1', user: 'ada', received: 13, read: 11 } });
  assert.equal(chat.unread, 1);
  messenger.read(chat);
  assert.deepEqual([chat.unread, live.marks.at(-1)], [0, ['read', chat.channel, 13]]);
});

test('history fills in what is missing, once and in order, with what was taken back as such', async () => {
  const { messenger, live } = await come('ada');
  live.answers.history = ({ before }) => ({ epoch: 'e1', more: before === 4, messages: before === 4 ? [
    { offset: 2, at: 1, from: 'bob', type: 'text', data: { text: 'two' } }, { offset: 3, at: 1, from: 'bob', erases: 2 },
  ] : [{ offset: 1, at: 1, from: 'bob', erased: true }] });
  const chat = messenger.start('bob');
  chat.begins = true;
  await settle();
  chat.messages = [];
  Object.assign(chat, { begins: false, epoch: 'e1' });
  for (const offset of [4, 5]) await live.message(chat.channel, offset, 'bob', { text: String(offset) });
  await messenger.earlier(chat);
  assert.deepEqual([texts(chat), chat.begins], [['erased', '4', '5'], false]);
  await messenger.earlier(chat);
  assert.deepEqual([texts(chat), chat.begins], [['erased', 'erased', '4', '5'], true]);
});

test('what is taken back is gone here, whoever did it; what the server refuses stays', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  for (const [offset, from] of [[1, 'ada'], [2, 'bob']]) await live.message(chat.channel, offset, from, { text: `text ${offset}` });
  await live.message(chat.channel, 3, 'bob', undefined, { erases: 2 });
  assert.deepEqual(texts(chat), ['text 1', 'erased']);
  const refused = messenger.erase(chat, chat.messages[0]);
  refused.catch(() => {});
  assert.deepEqual([live.asked.at(-1).epoch, live.asked.at(-1).offset], ['e1', 1]);
  await live.asked.at(-1).reject(new Error('no'));
  await assert.rejects(refused, { message: 'no' });
  assert.equal(texts(chat)[0], 'text 1');
  const done = messenger.erase(chat, chat.messages[0]);
  await live.asked.at(-1).resolve({ epoch: 'e1', offset: 4 });
  await done;
  assert.deepEqual(texts(chat), ['erased', 'erased']);
});

test('another epoch is another chat: nothing of the old one stands beside it', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  await live.message(chat.channel, 1, 'bob', { text: 'old' });
  await live.tell('notice', { receipt: { channel: chat.channel, epoch: 'e1', user: 'bob', received: 9, read: 9 } });
  await live.tell('notice', { gap: { channel: chat.channel, reason: 'epoch', epoch: 'e2', next: 1 } });
  await live.message(chat.channel, 1, 'bob', { text: 'new' }, { epoch: 'e2' });
  assert.deepEqual([texts(chat), chat.tick(1)], [['new'], 'sent']);
});

test('who is there: asked for, told of, and not known without a connection', async () => {
  const { messenger, live } = await come('ada');
  live.answers.presence = ({ channel }) => ({ members: channel === 'people' ? [{ user: 'bob' }] : [] });
  await live.state('open');
  assert.deepEqual([...messenger.online], ['bob']);
  await live.tell('notice', { join: { channel: 'people', user: 'eve' } });
  await live.tell('notice', { leave: { channel: 'people', user: 'bob' } });
  assert.deepEqual(['bob', 'eve'].map((name) => messenger.is_online(name)), [false, true]);
  await live.state('waiting');
  assert.equal(messenger.is_online('eve'), false);
});

test('typing is told at most every three seconds, and ends with the message', async () => {
  const { messenger, live } = await come('ada');
  const chat = messenger.start('bob');
  const told = () => live.published.filter(({ ephemeral }) => ephemeral).length;
  messenger.typing(chat);
  messenger.typing(chat);
  assert.equal(told(), 1);
  messenger.typed();
  messenger.typing(chat);
  assert.equal(told(), 2);
  await live.tell('message', { channel: chat.channel, at: 1, from: 'bob', type: 'typing', epoch: 'e1' });
  assert.deepEqual([...chat.typing.keys()], ['bob']);
  await live.message(chat.channel, 1, 'bob', { text: 'here' });
  assert.equal(chat.typing.size, 0);
  await live.state('waiting');
  messenger.typed();
  messenger.typing(chat);
  assert.equal(told(), 2, 'and to nobody while there is no connection');
});

// ---- encryption

const memory = () => { const held = new Map(); return { get: async (name) => held.get(name), put: async (name, value) => void held.set(name, value) }; };
const keys_of = (...vaults) => new Map(vaults.map(({ name, key }) => [name, key]));

test('a device keeps its key, whose private half cannot be taken out', async () => {
  const kept = memory();
  const one = await Vault.open('ada phone', kept);
  assert.equal((await Vault.open('ada phone', kept)).name, one.name);
  assert.notEqual((await Vault.open('ada laptop', kept)).name, one.name);
  const pair = await kept.get('ada phone');
  await assert.rejects(crypto.subtle.exportKey('jwk', pair.privateKey));
});

test('what is sealed is read by the devices it is for, and by no other, in no other chat and from nobody else', async () => {
  const [ada, bob, tablet, eve] = await Promise.all(['ada', 'bob', 'tablet', 'eve'].map((name) => Vault.open(name, memory())));
  const plain = { text: 'the door code is 4711' };
  const sealed = await ada.seal('secret:ada:bob', 'ada', keys_of(ada, bob, tablet), plain);
  assert.equal(JSON.stringify(sealed).includes('4711'), false);
  for (const device of [ada, bob, tablet]) assert.deepEqual(await device.open('secret:ada:bob', 'ada', keys_of(ada), sealed), plain);
  await assert.rejects(eve.open('secret:ada:bob', 'ada', keys_of(ada), sealed), /not for this device/);
  await assert.rejects(bob.open('secret:ada:eve', 'ada', keys_of(ada), sealed));
  await assert.rejects(bob.open('secret:ada:bob', 'eve', keys_of(ada), sealed));
  await assert.rejects(bob.open('secret:ada:bob', 'ada', keys_of(eve), sealed), /not known/);
  await assert.rejects(bob.open('secret:ada:bob', 'ada', new Map([[ada.name, eve.key]]), sealed), 'sealed by a key that is not the writer\'s');
  for (const part of ['body', 'iv']) {
    const broken = { ...sealed, [part]: (sealed[part][0] === 'A' ? 'B' : 'A') + sealed[part].slice(1) };
    await assert.rejects(bob.open('secret:ada:bob', 'ada', keys_of(ada), broken), `another ${part}`);
  }
});

test('two people see the same safety number, and another one when a key is slipped in', async () => {
  const [ada, bob, eve] = await Promise.all(['ada', 'bob', 'eve'].map((name) => Vault.open(name, memory())));
  const number = await safety_number([ada.name, bob.name]);
  assert.match(number, /^(\d{5} ){5}\d{5}$/);
  assert.equal(await safety_number([bob.name, ada.name]), number);
  assert.notEqual(await safety_number([ada.name, bob.name, eve.name]), number);
});

test('a file is sealed with a key of its own', async () => {
  const file = new Blob(['a picture'], { type: 'image/png' });
  const { content, lock } = await seal_file(file);
  assert.notEqual(await content.text(), 'a picture');
  const opened = await open_file(content, lock, 'image/png');
  assert.deepEqual([await opened.text(), opened.type], ['a picture', 'image/png']);
  await assert.rejects(open_file(new Blob(['another one, quite long']), lock, 'image/png'));
});

test('a secret chat sends nothing that can be read, and shows nothing that anybody may have written', async () => {
  const [mine, theirs] = await Promise.all(['ada', 'bob'].map((name) => Vault.open(name, memory())));
  const key_log = ({ key }, from) => [{ offset: 1, at: 1, from, type: 'key', data: { key } }, { offset: 2, at: 1, from: 'eve', type: 'key', data: { key: 'none' } }];
  const logs = { 'keys:ada': key_log(mine, 'ada'), 'keys:bob': key_log(theirs, 'bob') };
  const ada = await come('ada', { vault: mine, logs });
  const bob = await come('bob', { vault: theirs, logs });
  await ada.messenger.announce();
  assert.equal(ada.live.published.length, 0, 'the key is known already');
  const chat = ada.messenger.start('bob', true);
  assert.equal(chat.channel, pair_channel('secret', 'bob', 'ada'));
  ada.messenger.send(chat, 'the door code is 4711');
  await until(() => ada.live.published.some(({ type }) => type === 'text'));
  const { data } = ada.live.published.find(({ type }) => type === 'text');
  assert.deepEqual([Object.keys(data), JSON.stringify(data).includes('4711')], [['id', 'sealed'], false]);

  const other = bob.messenger.start('ada', true);
  await bob.live.message(other.channel, 1, 'ada', data);
  await bob.live.message(other.channel, 2, 'ada', { text: 'in the open' });
  await bob.live.message(other.channel, 3, 'eve', data);
  await until(() => !other.messages.some(({ state }) => state === 'opening'));
  assert.deepEqual(texts(other), ['the door code is 4711', 'locked', 'locked']);

  ada.live.logs['keys:joe'] = [];
  const early = ada.messenger.start('joe', true);
  ada.messenger.send(early, 'too early');
  await until(() => early.outbox[0].fault);
  assert.match(early.outbox[0].fault, /joe has no device/);
});

test('a device whose key is not known announces it', async () => {
  const vault = await Vault.open('ada', memory());
  const { messenger, live } = await come('ada', { vault });
  messenger.announce();
  await until(() => live.published.length);
  assert.deepEqual([live.published[0].channel, live.published[0].type, live.published[0].data], ['keys:ada', 'key', { key: vault.key }]);
});
