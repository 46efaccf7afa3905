// SPDX-License-Identifier: BSL-1.0
//
// What the messenger knows: chats, messages, ticks, who is there. No DOM: the page shows what stands here, and is told by
// `changed` when something else does. All of it comes out of channels:
//
//   @ada               ada's inbox: small messages that say "there is a chat" (type `invite`), her own devices' too
//   people             followed by everybody, for its presence: who is online
//   direct:ada:bob     a chat of two, names in order; `secret:ada:bob` is the same, encrypted from end to end
//   group:7f3a…        a group; whoever knows its name, which is random, may come in
//   keys:ada           the public keys of ada's devices (type `key`), for the encrypted chats
//
// A message of a chat has the type `text`, with `data` = { id, text, name?, kind?, size?, lock? } (`name` and what follows where
// it brings a file as content), or { id, sealed } in a secret chat. `id` is the writer's own word, by which it knows its own
// again. Typing is an ephemeral message of the type `typing`.

import { can_seal, name_of, open_file, safety_number, seal_file } from './seal.js';

const page_of_history = 40;
const kept_messages = 60;    // of each chat, on this device, for a visit without a network
const save_after = 300;      // ms
const ask_again = 10_000;    // ms between two looks at ticks and people while a poll is the transport, which is not told of all
const typing_pace = 3_000;   // ms between two words about one's own typing
const typing_life = 5_000;   // ms after which somebody's typing is over, if nothing more is heard of it
const resend_for = 240_000;  // ms for which a message of an earlier visit is sent by itself: servers know its key that long

export const people = 'people';
export const is_name = (text) => /^[A-Za-z0-9_.-]{1,32}$/.test(text);
export const kind_of = (channel) => channel.slice(0, channel.indexOf(':'));
export const pair_channel = (kind, a, b) => `${kind}:${[a, b].sort().join(':')}`;

/** One chat as this device sees it. */
export class Chat {
  messages = [];           // by offset, of one epoch: { offset, at, from, id, text?, file?, state?: 'erased' | 'locked' | 'opening' }
  outbox = [];             // own messages that have no place yet: { id, key, at, text, file?, progress?, fault? }
  marks = new Map();       // user -> { received, read }: offsets, in this epoch
  typing = new Map();      // user -> until when
  online = new Set();
  epoch;
  head = 0; seen = 0;      // the newest offset that there is, and that is here
  raw = new Map();         // offset -> the message as it came, of those that this device keeps
  top = 0;                 // the newest offset that came live, or was kept
  begins = false;          // there is nothing before the first of `messages`
  caught_from;             // the offset of the first message that came while this device was away
  trimmed = false;

  constructor(me, { channel, title = '', members = [] }) {
    this.me = me;
    this.channel = channel;
    this.kind = kind_of(channel);
    this.other = this.kind === 'group' ? undefined : channel.split(':').slice(1).find((name) => name !== me) ?? me;
    this.title = this.other ?? title;
    this.members = new Set([me, ...members, ...(this.other ? [this.other] : [])]);
  }

  /** How far the least of the others is, or, without others, nowhere. */
  #least(what) {
    const others = [...this.members].filter((name) => name !== this.me);
    return others.length ? Math.min(...others.map((name) => this.marks.get(name)?.[what] ?? 0)) : 0;
  }

  /** `sent`, `delivered` (every other member's device has it) or `read`. */
  tick(offset) {
    return this.#least('read') >= offset ? 'read' : this.#least('received') >= offset ? 'delivered' : 'sent';
  }

  /** Who has read up to there, but the writer and oneself. */
  readers(offset) {
    return [...this.marks].filter(([name, { read }]) => name !== this.me && read >= offset).map(([name]) => name);
  }

  get unread() {
    const read = this.marks.get(this.me)?.read ?? 0;
    const seen = this.messages.filter(({ offset, from, state }) => offset > read && from !== this.me && state !== 'erased').length;
    const unseen = Math.max(0, Math.min(this.head, (this.messages[0]?.offset ?? this.head + 1) - 1) - read);
    return seen + unseen;
  }

  /** Puts a message at its place. Returns whether it was new. */
  put(message) {
    this.head = Math.max(this.head, message.offset);
    let at = this.messages.length;
    while (at && this.messages[at - 1].offset > message.offset) at--;
    if (this.messages[at - 1]?.offset === message.offset) return false;
    this.messages.splice(at, 0, message);
    return true;
  }

  erase(offset) {
    const found = this.messages.find((message) => message.offset === offset);
    if (found) Object.assign(found, { text: undefined, file: undefined, state: 'erased' });
    const { at, from } = this.raw.get(offset) ?? {};
    if (at) this.raw.set(offset, { offset, at, from, erased: true });
  }

  /** Somebody's watermarks; they only rise. Returns whether they did. */
  mark(user, { received = 0, read = 0 }) {
    const old = this.marks.get(user) ?? { received: 0, read: 0 };
    const mark = { received: Math.max(old.received, received, read), read: Math.max(old.read, read) };
    this.marks.set(user, mark);
    if (this.kind === 'group') this.members.add(user);
    return mark.received > old.received || mark.read > old.read;
  }

  begin_anew(epoch) {
    if (this.epoch && this.epoch !== epoch) this.marks.clear();
    this.messages = [];
    this.raw.clear();
    Object.assign(this, { epoch, head: 0, seen: 0, top: 0, begins: false, caught_from: undefined });
  }
}

/** A person's messenger on one device. */
export class Messenger {
  chats = new Map();
  online = new Set();
  #live; #vault; #kept; #changed; #keys = new Map(); #said_typing = 0; #clock; #timers = new Set(); #unsaved = new Set();

  /**
   * @param {object} with_what
   * @param {(options: object) => object} with_what.connect hailwire's `connect`, with the URL and its parameters filled in
   * @param {{get(name: string): object | undefined, put(name: string, value: object): void}} with_what.kept what this device
   *   remembers between visits: `chats`, and of each chat the newest messages as they came, so still encrypted if they were
   * @param {object} [with_what.vault] this device's key pair; without it there are no secret chats
   * @param {object} [with_what.clock] takes the place of the browser's timers, for tests
   * @param {(chat?: Chat) => void} with_what.changed told that something is to be shown anew: of one chat, or in general
   */
  constructor({ user, connect, kept, vault, changed, clock = { setTimeout: (...all) => setTimeout(...all), clearTimeout: (timer) => clearTimeout(timer) } }) {
    this.#clock = clock;
    Object.assign(this, { me: user, inbox: `@${user}` });
    this.#vault = vault;
    this.#kept = kept;
    this.#changed = changed;
    const before = kept.get('chats');
    for (const known of before?.chats ?? []) this.chats.set(known.channel, new Chat(user, known));
    // A device that was here before is told what came since it last said what it has; a new one is told all there is.
    const since = before ? 'received' : 'earliest';
    const channels = [this.inbox, people, ...this.chats.keys()];
    this.#live = connect({ channels, since: channels.map((name) => (name === people ? 'latest' : since)).join(',') });
    for (const chat of this.chats.values()) {
      const { epoch, messages = [], marks = [] } = kept.get(chat.channel) ?? {};
      chat.epoch = epoch;
      for (const message of messages) this.#put(chat, message);
      for (const [who, mark] of marks) chat.mark(who, mark);
      chat.top = chat.head;
    }
    this.#live.on('message', (message) => this.#hear(message));
    this.#live.on('notice', (notice) => this.#notice(notice));
    this.#live.on('state', ({ state }) => {
      if (state === 'open') this.#opened();
      else this.#lost();
      changed();
    });
    for (const [channel, { outbox = [] }] of Object.entries(before?.unsent ?? {})) {
      const chat = this.chats.get(channel);
      for (const entry of chat ? outbox : []) {
        chat.outbox.push(entry);
        if (Date.now() - entry.at < resend_for) this.#post(chat, entry);
        else entry.fault = 'not sent';
      }
    }
  }

  get live() { return this.#live; }
  get status() { return this.#live.status; }
  get can_seal() { return !!this.#vault && can_seal(); }

  /** Announces this device's key, if that is not known yet. */
  async announce() {
    if (!this.#vault) return;
    if ((await this.#keys_of(this.me, true)).has(this.#vault.name)) return;
    await this.#live.publish(`keys:${this.me}`, { key: this.#vault.key }, { type: 'key' });
    await this.#keys_of(this.me, true);
  }

  // ---- chats

  /** Opens the chat with somebody, and tells them where it is. */
  start(other, secret = false) {
    return this.#begin({ channel: pair_channel(secret ? 'secret' : 'direct', this.me, other) }, [other]);
  }

  /** Makes a group. */
  start_group(title, members) {
    const name = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
    return this.#begin({ channel: `group:${name}`, title, members: [this.me, ...members] }, members);
  }

  #begin(what, others) {
    const known = this.chats.get(what.channel);
    if (known) return known;
    for (const user of new Set([...others, this.me])) this.#live.publish(`@${user}`, what, { type: 'invite' }).catch(() => {});
    return this.#enter(what, 'earliest');
  }

  #enter(what, since) {
    const chat = new Chat(this.me, what);
    this.chats.set(what.channel, chat);
    this.#live.follow(what.channel, since);
    this.#ask(chat);
    this.#save();
    this.#changed();
    return chat;
  }

  #invited({ type, from, data }) {
    if (type !== 'invite' || typeof data?.channel !== 'string' || this.chats.has(data.channel)) return;
    const kind = kind_of(data.channel);
    const mine = kind === 'group' ? Array.isArray(data.members)
      : ['direct', 'secret'].some((one) => data.channel === pair_channel(one, this.me, from)) || from === this.me;
    if (mine && ['direct', 'secret', 'group'].includes(kind)) this.#enter({ ...data, title: String(data.title ?? '') }, 'earliest');
  }

  #save() {
    const unsent = Object.fromEntries([...this.chats].map(([channel, { outbox }]) => [channel, { outbox: outbox.filter(({ file }) => !file) }]));
    this.#kept.put('chats', { chats: [...this.chats.values()].map(({ channel, title, members }) => ({ channel, title, members: [...members] })), unsent });
  }

  // ---- what comes in

  #hear(message) {
    const { channel, epoch, offset, from } = message;
    if (channel === this.inbox) {
      this.#invited(message);
      return void this.#live.received(channel);
    }
    const chat = this.chats.get(channel);
    if (!chat) return;
    if (offset === undefined) return this.#typing(chat, message);
    if (chat.epoch !== epoch) chat.begin_anew(epoch);
    this.#put(chat, message);
    chat.typing.delete(from);
    if (from !== this.me && !this.#settled && this.#was_open) chat.caught_from ??= offset;
    chat.top = Math.max(chat.top, offset);
    this.#keep(chat);
    this.#changed(chat);
  }

  #keep(chat) {
    if (!this.#unsaved.size) this.#later(save_after, () => this.#store());
    this.#unsaved.add(chat);
  }

  /** Keeps what has come, and only then says so: what a device has received it has, also after its page was closed. */
  #store() {
    for (const chat of this.#unsaved) {
      const { channel, epoch, raw, top, marks } = chat;
      for (const offset of [...raw.keys()].sort((a, b) => a - b).slice(0, -kept_messages)) raw.delete(offset);
      this.#kept.put(channel, { epoch, messages: [...raw.values()].sort((a, b) => a.offset - b.offset), marks: [...marks] });
      if (top) this.#live.received(channel, { epoch, offset: top });
    }
    this.#unsaved.clear();
  }

  #was_open = false;
  #settled = true;  // what comes now is live, and not what was missed

  #put(chat, { offset, at, from, data, size, content_type, erased, erases }) {
    chat.seen = Math.max(chat.seen, offset);
    chat.raw.set(offset, { offset, at, from, data, size, content_type, erased, erases });
    if (erases) {
      chat.head = Math.max(chat.head, offset);
      chat.erase(erases);
      return;
    }
    const message = { offset, at, from: from ?? '', id: data?.id };
    if (erased) message.state = 'erased';
    else if (data?.sealed) message.state = 'opening';
    else Object.assign(message, shown(data, size, content_type));
    if (chat.kind === 'secret' && !data?.sealed && !erased) message.state = 'locked';  // what anybody may have written
    if (!chat.put(message)) return;
    if (from && chat.kind === 'group') chat.members.add(from);
    if (message.state === 'opening') this.#open(chat, message, data.sealed, size);
    const own = from === this.me ? chat.outbox.findIndex(({ id }) => id === message.id) : -1;
    if (own >= 0) {
      message.file = message.file && { ...message.file, blob: chat.outbox[own].file };
      chat.outbox.splice(own, 1);
      this.#save();
    }
  }

  async #open(chat, message, sealed, size) {
    try {
      if (!this.#vault) throw new Error('no key here');
      let keys = await this.#keys_of(message.from);
      if (!keys.has(sealed.by)) keys = await this.#keys_of(message.from, true);
      const plain = await this.#vault.open(chat.channel, message.from, keys, sealed);
      if (message.state === 'opening') Object.assign(message, { state: undefined, ...shown(plain, size) });
    } catch {
      if (message.state === 'opening') message.state = 'locked';
    }
    this.#changed(chat);
  }

  #typing(chat, { type, from }) {
    if (type !== 'typing' || from === this.me || !from) return;
    chat.typing.set(from, Date.now() + typing_life);
    this.#changed(chat);
    this.#later(typing_life, () => {
      if (chat.typing.get(from) <= Date.now() && chat.typing.delete(from)) this.#changed(chat);
    });
  }

  #notice({ gap, join, leave, receipt, missed, closed }) {
    const of = this.chats.get((gap ?? join ?? leave ?? receipt ?? missed ?? closed)?.channel);
    if (join || leave) this.#presence((join ?? leave).channel, (who) => (join ? who.add(join.user) : who.delete(leave.user)));
    if (missed?.channel === people) this.#who(people);
    if (!of) return;
    if (gap) {
      of.begin_anew(gap.epoch);
      of.trimmed ||= gap.reason === 'trimmed';
    }
    if (missed) this.#ask(of);
    if (receipt && (of.epoch ?? receipt.epoch) === receipt.epoch && of.mark(receipt.user, receipt)) this.#keep(of);
    if (closed && this.chats.delete(closed.channel)) this.#save();
    this.#changed(of);
  }

  #opens = 0;
  #opened() {
    const opens = ++this.#opens;
    this.#who(people);
    for (const chat of this.chats.values()) this.#ask(chat);
    this.#later(1_000, () => {
      this.#was_open = true;
      if (this.status.state === 'open' && opens === this.#opens) this.#settled = true;
    });
    if (!['websocket', 'sse'].includes(this.status.transport)) this.#look_again(opens);
  }

  #look_again(opens) {
    this.#later(ask_again, () => {
      if (this.status.state !== 'open' || opens !== this.#opens) return;
      this.#who(people);
      for (const chat of this.chats.values()) this.#ask(chat);
      this.#look_again(opens);
    });
  }

  #lost() {
    if (this.#settled) for (const chat of this.chats.values()) chat.caught_from = undefined;
    this.#settled = false;
  }

  /** What was not told while this device was away, and what no notice tells. */
  #ask(chat) {
    this.#who(chat.channel);
    this.#live.receipts(chat.channel).then(({ epoch, head, receipts }) => {
      if ((chat.epoch ??= epoch) !== epoch) return;
      chat.head = Math.max(chat.head, head);
      for (const one of receipts) if (chat.mark(one.user, one)) this.#keep(chat);
      this.#changed(chat);
    }, () => {});
    if (!chat.messages.length && !chat.begins) this.earlier(chat);
  }

  #who(channel) {
    this.#live.presence(channel).then(({ members }) => this.#presence(channel, (who) => {
      who.clear();
      for (const { user } of members ?? []) who.add(user);
    }), () => {});
  }

  #presence(channel, change) {
    const who = channel === people ? this.online : this.chats.get(channel)?.online;
    if (!who) return;
    change(who);
    this.#changed();
  }

  /** As far as is known now: without a connection nothing is. */
  is_online(user) {
    return this.status.state === 'open' && (this.online.has(user) || [...this.chats.values()].some(({ online }) => online.has(user)));
  }

  /** Reads what stands before the first message that is here. */
  async earlier(chat) {
    if (chat.begins || chat.loading) return;
    chat.loading = true;
    try {
      const before = chat.messages[0]?.offset;
      const { messages, epoch, more } = await this.#live.history(chat.channel, { limit: page_of_history, ...(before && { before, epoch: chat.epoch }) });
      if ((chat.epoch ?? epoch) === epoch) {
        chat.epoch = epoch;
        for (const message of messages) this.#put(chat, message);
        for (const { erases } of messages) if (erases) chat.erase(erases);
        chat.begins = !more;
      }
    } catch { /* asked again when it is wanted again */ }
    chat.loading = false;
    this.#changed(chat);
  }

  // ---- what goes out

  /** Sends a text, a file, or both. */
  send(chat, text, file) {
    const entry = { id: unique(), key: unique(), at: Date.now(), text, file };
    chat.outbox.push(entry);
    this.#save();
    this.#changed(chat);
    this.#post(chat, entry);
  }

  /** Tries once more what could not be sent. */
  resend(chat, entry) {
    entry.fault = undefined;
    this.#changed(chat);
    this.#post(chat, entry);
  }

  /** Gives up what has not been sent. */
  discard(chat, entry) {
    entry.abort?.abort();
    chat.outbox = chat.outbox.filter((one) => one !== entry);
    this.#save();
    this.#changed(chat);
  }

  async #post(chat, entry) {
    try {
      let plain = { text: entry.text };
      let content;
      if (entry.file) {
        let { file } = entry;
        Object.assign(plain, { name: file.name, kind: file.type, size: file.size });
        if (chat.kind === 'secret') {
          const sealed = await seal_file(file);
          plain.lock = sealed.lock;
          file = sealed.content;
        }
        entry.abort = new AbortController();
        const progress = (done, of) => { entry.progress = done / of; this.#changed(chat); };
        content = await this.#live.upload(chat.channel, file, { key: entry.key, progress, signal: entry.abort.signal });
      }
      if (chat.kind === 'secret') plain = { sealed: await this.#seal(chat, plain) };
      await this.#live.publish(chat.channel, { id: entry.id, ...plain }, { type: 'text', key: entry.key, content });
      entry.sent = true;
    } catch (fault) {
      if (entry.abort?.signal.aborted) return;
      if (fault.code === 'rate_limited') return this.#later((fault.retryAfter ?? 1) * 1000, () => this.#post(chat, entry));
      entry.fault = fault.message;
    }
    this.#changed(chat);
  }

  async #seal(chat, plain) {
    if (!this.#vault) throw new Error('this page cannot encrypt: open it over https');
    const theirs = await this.#keys_of(chat.other, true);
    if (!theirs.size) throw new Error(`${chat.other} has no device that can read this yet`);
    return this.#vault.seal(chat.channel, this.me, new Map([...theirs, ...await this.#keys_of(this.me, true)]), plain);
  }

  /** The keys of somebody's devices: name -> key. `anew`: as they are now, or, without a connection, as they were. */
  async #keys_of(user, anew = false) {
    const known = this.#keys.get(user) ?? (this.#kept.get(`keys ${user}`) && new Map(this.#kept.get(`keys ${user}`)));
    if (known && !(anew && this.status.state === 'open')) return known;
    const { messages } = await this.#live.history(`keys:${user}`, { limit: 100 });
    const keys = new Map();
    for (const { from, type, data } of messages) {
      if (from === user && type === 'key' && typeof data?.key === 'string') keys.set(await name_of(data.key).catch(() => ''), data.key);
    }
    keys.delete('');
    this.#keys.set(user, keys);
    this.#kept.put(`keys ${user}`, [...keys]);
    return keys;
  }

  async safety_number(chat) {
    return safety_number([...(await this.#keys_of(chat.other, true)).keys(), ...(await this.#keys_of(this.me, true)).keys()]);
  }

  /** Tells the others that one is typing; not more often than they need. */
  typing(chat) {
    if (this.status.state !== 'open' || Date.now() - this.#said_typing < typing_pace) return;
    this.#said_typing = Date.now();
    this.#live.publish(chat.channel, null, { type: 'typing', ephemeral: true }).catch(() => {});
  }

  /** The next word of typing is said at once again. */
  typed() { this.#said_typing = 0; }

  /** What is on the screen has been read. */
  read(chat) {
    if (!chat.epoch || !chat.seen || !chat.mark(this.me, { read: chat.seen })) return;
    this.#keep(chat);
    this.#store();
    this.#live.read(chat.channel, { epoch: chat.epoch, offset: chat.seen });
    this.#changed();
  }

  /** Takes one's own message back. Rejects where that could not be done. */
  async erase(chat, message) {
    await this.#live.erase(chat.channel, { epoch: chat.epoch, offset: message.offset });
    chat.erase(message.offset);
    this.#changed(chat);
  }

  /** The file of a message, decrypted where it was encrypted. */
  async fetch(chat, { offset, file }, progress) {
    const { size, kind, lock, bytes } = file;
    const content = await this.#live.download({ channel: chat.channel, epoch: chat.epoch, offset, size: bytes ?? size, content_type: kind }, { progress });
    file.blob = lock ? await open_file(content, lock, kind) : content;
    this.#changed(chat);
    return file.blob;
  }

  close() {
    this.#live.close();
    for (const timer of this.#timers) this.#clock.clearTimeout(timer);
  }

  #later(ms, act) {
    const timer = this.#clock.setTimeout(() => { this.#timers.delete(timer); act(); }, ms);
    this.#timers.add(timer);
  }
}

const unique = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');

/** What of a message's data is shown. `size` is that of its content, if it names one. */
function shown(data, size, content_type) {
  const text = typeof data?.text === 'string' ? data.text : '';
  if (size === undefined) return { text: data === undefined || typeof data?.text === 'string' ? text : JSON.stringify(data) };
  const kind = String(data?.kind ?? content_type ?? 'application/octet-stream');
  return { text, file: { name: String(data?.name ?? 'file'), kind, size: Number(data?.size ?? size), bytes: size, lock: data?.lock } };
}
