// SPDX-License-Identifier: BSL-1.0
//
// The browser's end of hailwire: one module, no dependencies, and one file, so that a page can take it as it is.
//
//   import { connect } from './hailwire.js';
//   const live = connect({ url: '/live', channels: ['lobby'], since: 'earliest', params: { user: 'ada' } });
//   live.on('message', (message) => console.log(message.from, message.data));
//   await live.publish('lobby', { text: 'hello' });
//
// How it works. A client is a cursor over some channels, and a *link* is one attempt to move that cursor forward: a
// WebSocket, an EventSource, or a row of polls. At most one link lives at a time. Whatever ends it, the next one starts
// at the cursor, on the same transport or another: that is all there is to resuming. The cursor is built here from what
// was seen (`open`, `gap`, messages, the cursor of a poll), so a lost answer is simply read again, and a message that
// comes twice is dropped because its offset is not above the last one of its channel in that epoch.
//
// A link ends in one of three ways: `#lose` (come back after a while), `#fall` (this transport does not get through:
// try the next one), `#stop` (do not come back). Publishes wait in one queue, carry a key, and stay in `#sent` until
// they are answered; what was unanswered when a link ended is sent again with the same key, so it is stored once. Questions
// (`history`, `presence`, `receipts`) and taking back (`erase`) are the same done twice and are sent again too; all else is rejected as `disconnected`. Where a
// server ends a WebSocket for what it was sent, what was unanswered is *suspect*: it is sent again one at a time, and what
// stands alone before such an end for the second time is given up.
//
// Watermarks (`received`, `read`) are no queue: of each channel the newest is remembered, told at most once a second, told
// again after a lost connection, and forgotten with its epoch.
//
// Content (files) goes by requests of its own beside the link, in pieces: whatever cuts one, the next begins where the other
// side says that it stands.
//
// Tokens (`renew`) are asked for before the first link, when the server says that the permission is `expiring`, and when it
// has refused one (401, 4401). They ride where no log sees them: beside the WebSocket's subprotocol, in the header of a
// request; an EventSource has neither and takes `?token=`, and so does a WebSocket where the token is no RFC 9110 token
// (padded base64: a `/`, a `=`, a space). A WebSocket is renewed by command and lives on, an EventSource is replaced by one
// with the new URL, and the next poll simply brings the new token.

/** The names of the transports, best first; also the order in which `connect` tries them. */
export const transports = Object.freeze(['websocket', 'sse', 'long_poll', 'short_poll']);

const backoff = { first: 500, most: 30_000 };  // milliseconds; the wait is random below min(most, first * 2^attempt)
const steady = 5_000;            // a link that lived this long (ms) was a good one: the next wait starts small again
const patience = 10_000;         // how long (ms) a link may take to open, and an answer to come
const hold = 25;                 // seconds for which a long poll asks to be held
const proofs = 3;                // failures after which a transport that once worked is given up for the next
const batch = { count: 64, size: 64 * 1024 };  // commands a POST: the protocol's limit, and a body any server takes
const most_pending = 256;        // commands waiting or unanswered, beyond which `publish` is refused
const brief = 1_000;             // a token that was good for this long (ms) was a token; none is asked for more often than that
const most_refusals = 3;         // tokens refused one after the other, after which nobody is asked for another
const most_tries = 5;            // answers of "internal" and the like, after which a publish is given up
const key_seconds = 300;         // every server keeps a key for five minutes, unless its `open` says otherwise
const mark_pace = 1_000;         // between two words about one watermark (ms): servers store and tell them no more often
const piece = { least: 64 * 1024, first: 256 * 1024, most: 8 * 1024 * 1024, limit: 60_000 };  // of content: bytes a PATCH, and how long it may take (ms)
const most_restarts = 3;         // uploads that the server no longer knows, after which the content is given up

const notice_names = ['open', 'gap', 'missed', 'join', 'leave', 'presence', 'receipt', 'followed', 'closed', 'expiring', 'bye', 'ping'];
const harmless = new Set(['history', 'presence', 'receipts', 'erase']);  // done once or twice is the same, so they may be repeated
const final_closes = { 1000: 'closed', 4401: 'unauthenticated', 4403: 'forbidden' };
const our_fault = { 1002: 'protocol_error', 1007: 'invalid_utf8', 1008: 'policy', 1009: 'too_large' };
const close_names = { 1011: 'internal', 1012: 'draining', 1013: 'overloaded', 4408: 'heartbeat_missed', 4429: 'rate_limited' };
const passing = new Set(['internal', 'timeout', 'draining', 'overloaded']);  // worth repeating with the same key
const not_served = new Set([404, 405, 406, 426, 501]);                       // not this way; perhaps another

const is_token = /^[!#$%&'*+.^_`|~\w-]+$/;  // what a subprotocol may be made of: RFC 9110, section 5.6.2
const is_line = /^[\x20-\x7e]+$/;            // what a request's header can carry; an error page, say, is none

const encoder = new TextEncoder();
const size = (text) => encoder.encode(text).length;
const frame_head = (bytes) => (bytes < 126 ? 2 : bytes < 65536 ? 4 : 10);  // RFC 6455, section 5.2

/** What the module needs of its surroundings. Tests replace it, so that time and network are theirs. */
const browser = {
  fetch: (...all) => fetch(...all),
  WebSocket: globalThis.WebSocket,
  EventSource: globalThis.EventSource,
  setTimeout: (act, ms) => setTimeout(act, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => performance.now(),
  wall: () => Date.now(),  // runs while the machine sleeps, as `now` may not
  random: () => Math.random(),
  // getRandomValues, because randomUUID is missing where a page came over plain http.
  key: () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join(''),
  page: globalThis.addEventListener ? globalThis : undefined,
  base: globalThis.location?.href,
};

/** Why a command failed. `code` is the protocol's word, or one of this module's own: `disconnected` (the link ended
 *  before the answer, or there is none; only what may not be repeated), `closed` (by `close()`), `overloaded` (too much is
 *  waiting). */
export class HailwireError extends Error {
  constructor(code, message = code, retryAfter = undefined) {
    super(message);
    this.name = 'HailwireError';
    /** @type {string} */ this.code = code;
    /** Seconds to wait before trying again, if the server said. @type {number | undefined} */ this.retryAfter = retryAfter;
  }
}

/**
 * Follows channels, and keeps following them.
 * @param {object} options
 * @param {string} options.url the endpoint, such as `/live`; relative to the page
 * @param {string[]} [options.channels] what to follow; may be empty, for a client that only publishes
 * @param {string} [options.since] where to start: `latest` (default), `earliest`, `received` (behind what this device has said
 *   to have `received`), or a cursor (`live.cursor` of an earlier visit with the same channels)
 * @param {string[]} [options.transports] the transports to try, best first; one name alone means that one or none
 * @param {object | (() => object)} [options.params] more of the URL's query, such as `{ user: 'ada' }`, `device: 'phone'` (one of
 *   a user's devices: 1 to 64 bytes, the same on each visit) or `heartbeat: 120` (seconds, within the server's bounds); a
 *   function is asked anew for every request
 * @param {() => (string | null | Promise<string | null>)} [options.renew] gives a token: for the first link, and another one
 *   whenever permission ends. One that fails, takes over ten seconds, or gives anything but a line of printable ASCII (white
 *   space around it is cut off) is asked again after a while; `null` means that there will be no more, and the client stops,
 *   `unauthenticated`. The token rides where no log sees it, but in the URL (`?token=`) of an EventSource and, where it is no
 *   RFC 9110 token (it has a `/`, a `=`, a space), of a WebSocket
 * @param {number} [options.interval] milliseconds between two short polls; 2000 unless said
 * @param {boolean} [options.credentials] send cookies to another origin too
 * @param {object} [options.runtime] replaces parts of the browser, for tests
 * @returns {Connection}
 */
export function connect(options) {
  return new Connection(options);
}

/** One client. Made by `connect`. */
export class Connection {
  #options; #runtime; #ladder; #level = 0; #attempt = 0; #timer; #link = null; #dead = null;
  #channels = new Map();  // name -> { word, epoch, offset }: `word` until the first position is known
  #listeners = { message: new Set(), notice: new Set(), state: new Set() };
  #queue = []; #sent = new Map(); #next_id = 1; #quiet_until = 0;
  #token; #stale = true; #asking; #refusals = 0;  // `#stale`: another token is wanted before anything else is asked
  #questions = 0; #answered = 0;                   // how often a token was asked for, and which of them gave `#token`
  #marks = new Map(); #mark_timer; #key_life = life_of(key_seconds);
  #session; #transfers = new Set(); #idle = new Map();  // `#idle`: ends a wait of a transfer -> whether an open link ends it
  #status = { state: 'connecting' }; #detour; #ticket; #proven = new Set(); #hooks = new AbortController();

  /** What each transport cost so far: requests (handshakes, polls, posts), bytes both ways, and the messages it brought.
   *  A lower bound: bodies, frames, request lines and readable headers; a page cannot see all that its browser sends.
   *  @type {Record<string, {requests: number, sent: number, received: number, messages: number}>} */
  costs = Object.fromEntries(transports.map((name) => [name, { requests: 0, sent: 0, received: 0, messages: 0 }]));

  /** How often a connection came up, and what the cursor was good for: duplicates dropped, gaps told. */
  counts = { connections: 0, duplicates: 0, gaps: 0 };

  constructor({ channels = [], since = 'latest', transports: names = transports, runtime = {}, ...options }) {
    this.#options = { interval: 2000, params: {}, ...options };
    this.#runtime = { ...browser, ...runtime };
    this.#ladder = [...names];
    const elements = since.split(',');
    channels.forEach((name, i) => this.#channels.set(name, read_element(elements.length > 1 ? elements[i] : since)));
    const hooks = {
      pagehide: () => (this.#link || this.#timer) && this.#away('hidden'),
      pageshow: () => this.#status.reason === 'hidden' && this.resume(),
      online: () => this.#status.state === 'waiting' && this.#renew(true),
    };
    const { signal } = this.#hooks;
    for (const [name, act] of Object.entries(hooks)) this.#runtime.page?.addEventListener(name, act, { signal });
    // A turn later, so that the caller's listeners hear everything.
    this.#timer = this.#runtime.setTimeout(() => this.#open(), 0);
  }

  /** The state now: `connecting`, `open`, `waiting` (to reconnect, in `retryIn` milliseconds), `offline` (`pause()`,
   *  `cut()`, or the page is hidden: `resume()` ends it) or `stopped` (for good). `reason` is a word: a code of the protocol,
   *  `unreachable`, `silent`, `lost`, …
   *  @returns {{state: string, transport: string, reason?: string, retryIn?: number}} */
  get status() { return { transport: this.#ladder[this.#level], ...this.#status }; }

  /** The names of the channels that are followed. @returns {string[]} */
  get channels() { return [...this.#channels.keys()]; }

  /** Where the client is, one element a channel: what a later `connect` takes as `since`. @returns {string} */
  get cursor() {
    return [...this.#channels.values()].map(({ word, epoch, offset }) => (epoch ? `${epoch}.${offset}` : word)).join(',');
  }

  /**
   * Listens. `message`: one message, once and in order, as PROTOCOL.md has it, with its `epoch`. An ephemeral one has no
   * `offset`; one with `erases` says that the message at that offset was taken back, and one that comes `erased` was taken
   * back before. Where the notice `open` calls a channel `conflated`, offsets jump without a gap: only the newest matters.
   * `notice`: what is neither message nor answer, `{ gap: {…} }`, `{ join: {…} }`, `{ leave: {…} }`, `{ receipt: {…} }`,
   * `{ missed: {…} }` (something of these did not come: ask anew), `{ open: {…} }`. `state`: the new `status`.
   * @param {'message' | 'notice' | 'state'} kind @param {(what: object) => void} listener
   * @returns {() => void} call it to listen no more
   */
  on(kind, listener) {
    this.#listeners[kind].add(listener);
    return () => this.#listeners[kind].delete(listener);
  }

  /** Follows one channel more, by command on a WebSocket, else with a new URL. Refused: the notice
   *  `{ closed: { channel, code } }`, or, where the whole URL is refused, `stopped`. */
  follow(channel, since = 'latest') {
    if (this.#channels.has(channel)) return;
    this.#channels.set(channel, read_element(since));
    if (!this.#link?.send || !this.#link.open) return this.#renew();
    this.command('subscribe', { channel, since }).catch(({ code, message }) => {
      if (code !== 'disconnected' && this.#channels.delete(channel)) this.#emit('notice', { closed: { channel, code, message } });
    });
  }

  /** Follows a channel no longer: no message of it comes after this call. */
  unfollow(channel) {
    if (!this.#channels.delete(channel)) return;
    if (!this.#link?.send || !this.#link.open) return this.#renew();
    this.command('unsubscribe', { channel }).catch(() => {});
  }

  /**
   * Publishes `data`, any JSON value. Waits out lost connections, repeating itself with the same key, so it is stored once.
   * @param {string} channel @param {any} data
   * @param {{type?: string, key?: string, ephemeral?: boolean, content?: string}} [more] an ephemeral message is sent to who is
   *   there now, or, while this client is not `open`, rejected as `disconnected`; `content` is what `upload` gave
   * @returns {Promise<{epoch: string, offset: number}>} its place; rejects with a HailwireError. `timeout`: it may be stored.
   */
  publish(channel, data, { type, key, ephemeral, content } = {}) {
    const body = { channel, data, type, ephemeral, content };
    if (!ephemeral) body.key = key ?? this.#runtime.key();
    return this.command('publish', body);
  }

  /** Takes one's own message back, if the host allows it. Its place stays, without what was in it; the message with `erases`
   *  tells everybody.
   *  @param {{epoch: string, offset: number}} at @returns {Promise<{epoch: string, offset: number}>} the place of the taking back */
  erase(channel, { epoch, offset }) { return this.command('erase', { channel, epoch, offset }); }

  /** What a channel kept: `{ before, after, limit, epoch }`. @returns {Promise<{messages: object[], epoch: string, more: boolean}>} */
  history(channel, range = {}) { return this.command('history', { channel, ...range }); }

  /** Who follows a channel now; the notices `join` and `leave` say what changes. `{ count: true }`: numbers alone.
   *  @returns {Promise<{members?: {user: string, sessions: number, info?: object}[], count: number, anonymous: number, more?: boolean}>} */
  presence(channel, more = {}) { return this.command('presence', { channel, ...more }); }

  /** How far everybody has received and read a channel, oneself first; the notice `receipt` says what changes.
   *  @returns {Promise<{epoch: string, head: number, receipts: {user: string, received: number, read: number}[], more: boolean}>} */
  receipts(channel) { return this.command('receipts', { channel }); }

  /** Says that this device has received a channel up to here, or up to an earlier position. It only rises, is told at most
   *  once a second, and until it is answered told again; what the server has against it comes as the notice `{ reply, error }`.
   *  @param {string} channel @param {{epoch: string, offset: number}} [at] */
  received(channel, at = this.position(channel)) { this.#mark('received', channel, at); }

  /** The same for what the user has read, which implies `received`. `private`: only the user's own devices are told.
   *  @param {string} channel @param {{epoch: string, offset: number}} [at] @param {{private?: boolean}} [more] */
  read(channel, at = this.position(channel), more = {}) { this.#mark('read', channel, at, more.private || undefined); }

  /** Where the client is in one channel; undefined until that is known. @returns {{epoch: string, offset: number} | undefined} */
  position(channel) {
    const { epoch, offset } = this.#channels.get(channel) ?? {};
    return epoch && { epoch, offset };
  }

  /**
   * Brings a file to the server, for a `publish` to name within the hour. Waits out lost connections and goes on where the
   * server says that it stands.
   * @param {string} channel where it will be published @param {Blob} content
   * @param {{type?: string, key?: string, progress?: (done: number, of: number) => void, signal?: AbortSignal}} [more] `key`: the
   *   same key goes on with the same upload, also after a visit to another page
   * @returns {Promise<string>} its name; rejects with a HailwireError, or the signal's reason
   */
  async upload(channel, content, { type = content.type || 'application/octet-stream', key = this.#runtime.key(), progress, signal } = {}) {
    const of = content.size;
    let id, offset = 0, sure = false, bytes = piece.first, restarts = 0;
    const ask = (method, name, headers, body) => {
      const url = this.#beside(name);
      if (method === 'POST') url.searchParams.set('channel', channel);
      return this.#fetch(this.#transfers, url, { method, headers, body, signal, cache: 'no-store' }, piece.limit);
    };
    const step = async () => {
      const { now } = this.#runtime;
      const asked = now();
      const end = Math.min(of, offset + bytes);
      const asked_for = id === undefined ? 'POST' : sure ? 'PATCH' : 'HEAD';
      let answer;
      if (asked_for === 'POST') {
        const headers = { 'Content-Type': type, 'Upload-Length': String(of), 'Upload-Complete': of ? '?0' : '?1', 'Idempotency-Key': key };
        answer = await ask('POST', 'content', headers);
        if (answer.status < 300) id = answer.body?.content;
        if (answer.status < 300 && typeof id !== 'string') return { status: 500 };  // whoever said so is no server of ours
      } else if (asked_for === 'HEAD') {
        answer = await ask('HEAD', `content/${encodeURIComponent(id)}`);
      } else {
        const headers = { 'Content-Type': 'application/partial-upload', 'Upload-Offset': String(offset), 'Upload-Complete': end === of ? '?1' : '?0' };
        answer = await ask('PATCH', `content/${encodeURIComponent(id)}`, headers, content.slice(offset, end));
        bytes = answer.status >= 300 || answer.status === undefined ? Math.max(piece.least, bytes / 2)
          : now() - asked < 1000 ? Math.min(piece.most, bytes * 2) : bytes;
      }
      const { status, headers, body } = answer;
      if (id !== undefined && status === 404 && restarts++ < most_restarts) {
        // It went with its hour, or with the node that had it.
        [id, offset, sure, key] = [undefined, 0, false, this.#runtime.key()];
        return {};
      }
      const told = headers?.get('Upload-Offset') ?? body?.offset;
      const known = told !== undefined && told !== null && Number(told) <= of;
      if (status < 300 && !known) return { status: 500 };
      const moved = known && Number(told) > offset;
      const corrected = status === 409 && known && Number(told) !== offset;  // we were wrong, and are told where it stands
      sure = status < 300 || corrected;
      if (sure) offset = Number(told);
      const whole = offset === of && (end === of && asked_for === 'PATCH' || headers.get('Upload-Complete') !== '?0');
      if (status < 300 && (whole || body?.complete === true)) {
        hand(progress, of, of);
        return { done: id };
      }
      if (sure && moved) hand(progress, offset, of);
      return corrected ? { status: 204, moved } : { ...answer, moved: sure && moved };
    };
    try {
      return await this.#transfer(signal, step);
    } catch (fault) {
      if (id !== undefined && signal?.aborted) ask('DELETE', `content/${encodeURIComponent(id)}`);
      throw fault;
    }
  }

  /**
   * Fetches the content of a message (one with a `size`) and waits out lost connections, going on where they cut it.
   * @param {{channel: string, epoch: string, offset: number, size: number, content_type?: string}} message
   * @param {{progress?: (done: number, of: number) => void, signal?: AbortSignal}} [more]
   * @returns {Promise<Blob>} rejects with a HailwireError (`not_found`: trimmed or taken back), or the signal's reason
   */
  async download(message, { progress, signal } = {}) {
    const url = this.content_url(message);
    let parts = [], have = 0, tag;
    return this.#transfer(signal, async () => {
      const headers = have && tag ? { Range: `bytes=${have}-`, 'If-Range': tag } : {};
      const before = have;
      const answer = await this.#fetch(this.#transfers, url, { headers, signal }, piece.limit, async (response, alive) => {
        if (response.status !== 200 && response.status !== 206) return response.text();
        if (response.status === 200) [parts, have] = [[], 0];
        tag = response.headers.get('ETag');
        for (const reader = response.body.getReader(); ;) {
          const { done, value } = await reader.read();
          if (done) return '';
          parts.push(value);
          have += value.length;
          alive();
          hand(progress, have, message.size);
        }
      });
      if (answer.status === 200 || answer.status === 206) return { done: new Blob(parts, { type: message.content_type }) };
      return { ...answer, moved: have > before };
    });
  }

  /** Where the content of a message is, for an `<img>` or a link. It has no token: use `download` where one is needed. */
  content_url({ channel, epoch, offset }) {
    const url = this.#beside('messages');
    for (const [name, value] of Object.entries({ channel, epoch, offset })) url.searchParams.set(name, value);
    return url.href;
  }

  /**
   * Any command of the protocol: `command('history', { channel: 'lobby', before: 42, limit: 50 })`. Sent in the order of
   * the calls, over the WebSocket or by POST, as soon as the client is `open`.
   * @param {string} name @param {object} [body] @returns {Promise<object>} what `ok` carries; rejects with a HailwireError
   */
  command(name, body = {}) {
    return new Promise((resolve, reject) => {
      if (this.#status.state === 'stopped') return reject(new HailwireError('closed'));
      if (body.ephemeral && this.#status.state !== 'open') return reject(new HailwireError('disconnected', 'there is nobody to tell now'));
      if (this.#queue.length + this.#sent.size >= most_pending) return reject(new HailwireError('overloaded', 'too much is unanswered'));
      this.#enqueue(name, body, { resolve, reject, repeat: harmless.has(name) || body.key !== undefined, passing: body.ephemeral });
      this.#flush();
    });
  }

  /** Moves to other transports, tried in the given order (none: all of them). The cursor comes along: nothing is lost. */
  use(...names) {
    this.#ladder = names.length ? names : [...transports];
    this.#renew(true);
  }

  /** Goes offline as if the network had died: says nothing to the server, and hears nothing that it still sends. */
  cut() {
    if (this.#status.state !== 'stopped') this.#away('cut', true);
  }

  /** Goes offline and lets the server know: the others see this one leave. */
  pause() {
    if (this.#status.state !== 'stopped') this.#away('paused');
  }

  /** Ends `offline`: comes back at the cursor. */
  resume() {
    if (this.#status.state !== 'offline') return;
    this.#bury();
    this.#status = { state: 'waiting' };
    for (const go of this.#idle.keys()) go();
    this.#renew(true);
  }

  /** Ends for good. Unanswered commands are rejected with `closed`. */
  close() { this.#stop('closed'); }

  // ---- the life of a link -------------------------------------------------------------------------------------------

  #open() {
    const link = { transport: this.#ladder[this.#level], open: false, heard: this.#runtime.now(), close() {}, aborts: new Set() };
    this.#timer = undefined;
    this.#link = link;
    this.#session = undefined;
    this.#tell({ state: 'connecting' });
    if (this.#link !== link) return;
    if (this.#options.renew && this.#stale) return void this.#fresh().then((got) => this.#admit(link, got));
    this.#begin(link);
  }

  #begin(link) {
    const { transport } = link;
    if (transport === 'websocket') this.#open_websocket(link);
    else if (!this.#channels.size) this.#opened(link);  // over HTTP there is nothing to keep open for a mere publisher
    else if (transport === 'sse') this.#open_sse(link);
    else this.#poll(link);
  }

  // ---- permission ---------------------------------------------------------------------------------------------------

  /** Another token. True: it is there; false: not now; null: there will be none. However many ask, the host is asked once. */
  #fresh() {
    const { setTimeout, clearTimeout } = this.#runtime;
    return this.#asking ??= new Promise((resolve) => {
      const question = ++this.#questions;
      const timer = setTimeout(() => resolve(false), patience);
      const got = (token) => {
        clearTimeout(timer);
        if (question < this.#answered) return;  // nobody waits for it any more, and a later question has given a newer one
        if (typeof token !== 'string') return resolve(null);
        if (!is_line.test(token = token.trim())) return resolve(false);
        this.#answered = question;
        this.#token = token;
        this.#stale = false;
        resolve(true);
      };
      Promise.resolve().then(this.#options.renew).then(got, () => { clearTimeout(timer); resolve(false); });
    }).finally(() => { this.#asking = undefined; });
  }

  /** A link that waited for its token. */
  #admit(link, got) {
    if (this.#link !== link) return;
    if (got === null) this.#stop('unauthenticated');
    else if (!got) this.#lose(link, 'renew');
    else this.#begin(link);
  }

  /** The server refused the token, or has ended what it permitted. False when that is the end. */
  #expired(link, good = brief) {
    const held = link.open && this.#runtime.now() - link.since >= good;  // then it has ended, and was not refused
    this.#refusals = held ? 0 : this.#refusals + 1;
    if (!this.#options.renew || this.#refusals >= most_refusals) return false;
    this.#stale = true;
    this.#lose(link, 'unauthenticated');
    return true;
  }

  /** The server has said that the permission ends in `seconds`. A token that itself ends within the server's notice is `expiring` as
   *  soon as it is taken, so one link is not renewed more often than every `steady`, or, where that would be too late, than at half of
   *  the life that is left; should it end before, it is lost, and the next one asks. */
  async #extend(link, seconds) {
    const { now, setTimeout, clearTimeout } = this.#runtime;
    const half = Number(seconds) * 500;
    const pace = half < steady ? Math.max(brief, half) : steady;
    const rest = (link.renewed ?? (link.send || half < brief ? -Infinity : link.since)) + pace - now();
    if (rest > 0) {
      clearTimeout(link.pause);
      link.pause = setTimeout(() => this.#extend(link, seconds), rest);
      return;
    }
    const got = await this.#fresh();
    if (!got || this.#link !== link || !link.open) return;  // the link lives until it ends, and then there is another try
    if (link.send) {
      try {
        await this.command('renew', { token: this.#token });
        link.renewed = now();
        return;
      } catch (fault) {
        if (fault.code === 'disconnected' || fault.code === 'closed') return;
      }
    }
    if (this.#link !== link || !(link.send || link.transport === 'sse')) return;
    if (now() - link.since >= pace) this.#renew();
    else this.#lose(link, 'renew');  // what is expiring as soon as it is open must not spin
  }

  #opened(link) {
    if (!link.open || link.native) this.counts.connections++;
    link.open = true;
    link.since = this.#runtime.now();
    link.native = false;
    this.#proven.add(link.transport);
    for (const [go, unreachable] of this.#idle) if (unreachable) go();
    this.#tell({ state: 'open' });
    this.#flush();
  }

  /** Takes a link down; what it left unanswered goes back to the head of the queue, if it can be told from a repeat. */
  #drop(cut = false) {
    const link = this.#link;
    this.#runtime.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#link = null;
    if (!link) return;
    this.#runtime.clearTimeout(link.timer);
    this.#runtime.clearTimeout(link.pause);
    for (const abort of link.aborts) abort.abort();
    if (cut && link.send) this.#dead = link; else link.close();
    this.#requeue([...this.#sent.values()]);
    const passed = this.#queue.filter(({ passing }) => passing);  // not for the next link, or not as it is now
    this.#queue = this.#queue.filter((entry) => !entry.passing);
    for (const { reject } of passed) reject(new HailwireError('disconnected', 'the connection ended before it was sent'));
  }

  /** Closes a socket that `cut()` left hanging. */
  #bury() {
    this.#dead?.close();
    this.#dead = null;
  }

  #lose(link, reason, after = undefined) {
    if (this.#link !== link) return;
    const { now, random } = this.#runtime;
    if (link.open && now() - link.since >= steady) this.#attempt = 0;
    if (!link.open) this.#detour = undefined;
    const jitter = random() * Math.min(backoff.most, backoff.first * 2 ** Math.min(this.#attempt++, 16));
    this.#drop();
    const wait = Array.isArray(after) ? after[0] + random() * (after[1] - after[0]) : (after ?? 0) + jitter;
    this.#timer = this.#runtime.setTimeout(() => this.#open(), wait);
    this.#tell({ state: 'waiting', reason, retryIn: Math.round(wait) });
  }

  #fall(link, reason) {
    if (this.#link !== link) return;
    const once = this.#proven.has(link.transport) && this.#attempt < proofs;  // it worked before: perhaps it will again
    if (once) return this.#lose(link, reason);
    this.#proven.delete(link.transport);
    this.#level = (this.#level + 1) % this.#ladder.length;
    if (this.#level === 0) return this.#lose(link, reason);
    this.#drop();
    this.#open();
  }

  #stop(reason) {
    if (this.#status.state === 'stopped') return;
    this.#drop();
    this.#bury();
    this.#hooks.abort();
    this.#runtime.clearTimeout(this.#mark_timer);
    this.#marks.clear();
    for (const { reject } of this.#queue.splice(0)) reject(new HailwireError(reason));
    this.#tell({ state: 'stopped', reason });
    this.#halt();
  }

  #away(reason, cut = false) {
    this.#drop(cut);
    this.#halt();
    this.#tell({ state: 'offline', reason });
  }

  /** Cuts the transfers short; they go on, or end, by the state that holds then. */
  #halt() {
    for (const abort of this.#transfers) abort.abort();
    for (const go of this.#idle.keys()) go();
  }

  /** Replaces the link, whose URL has changed; or, `anew`, starts at the best transport, now, link or none. */
  #renew(anew = false) {
    if (anew ? ['offline', 'stopped'].includes(this.#status.state) : !this.#link) return;
    if (anew) this.#level = this.#attempt = 0;
    this.#drop();
    this.#open();
  }

  /** A browser does not say why a handshake was refused: one short poll, or, from who follows nothing, one POST of no commands,
   *  and its status decides. */
  async #refused(link) {
    if (this.#link !== link) return;
    this.#runtime.clearTimeout(link.timer);
    link.close();
    if (await (this.#channels.size ? this.#ask(link) : this.#knock(link))) this.#fall(link, 'refused');
  }

  // ---- the transports -----------------------------------------------------------------------------------------------

  #open_websocket(link) {
    const { WebSocket, setTimeout } = this.#runtime;
    if (!WebSocket) return this.#fall(link, 'unsupported');
    const url = this.#endpoint(true);
    url.protocol = url.protocol.replace('http', 'ws');
    const cost = this.#charge(link, url);
    const beside = this.#token && is_token.test(this.#token) ? [`bearer.${this.#token}`] : [];
    if (this.#token && !beside.length) url.searchParams.set('token', this.#token);
    const socket = new WebSocket(url, ['hailwire.v1', ...beside]);
    link.close = () => {
      socket.onclose = null;
      socket.close(1000);
    };
    link.send = (text) => {
      const bytes = size(text);
      cost.sent += bytes + frame_head(bytes) + 4;  // what a client sends is masked: four bytes of key
      socket.send(text);
    };
    link.timer = setTimeout(() => this.#refused(link), patience);
    socket.onmessage = ({ data }) => {
      const bytes = size(data);
      cost.received += bytes + frame_head(bytes);
      this.#hear(link, data);
    };
    socket.onclose = ({ code }) => {
      if (this.#link !== link) return;
      if (code === 4401 && this.#expired(link)) return;
      if (final_closes[code]) return this.#stop(final_closes[code]);
      if (!link.open && code === 1006) return this.#refused(link);
      if (our_fault[code]) this.#suspect(our_fault[code]);
      this.#lose(link, our_fault[code] ?? close_names[code] ?? 'lost');
    };
  }

  #open_sse(link) {
    const { EventSource, setTimeout, clearTimeout } = this.#runtime;
    if (!EventSource) return this.#fall(link, 'unsupported');
    const url = this.#endpoint(true);
    if (this.#token) url.searchParams.set('token', this.#token);
    const cost = this.#charge(link, url);
    const source = new EventSource(url, { withCredentials: !!this.#options.credentials });
    let id = '';
    const hear = ({ type, data, lastEventId }) => {
      if (this.#link !== link || data === undefined) return;  // an `open` without data is EventSource's own
      cost.received += size(data) + (type === 'message' ? 8 : 16 + type.length);
      if (lastEventId !== id) cost.received += 5 + (id = lastEventId).length;
      this.#hear(link, data);
    };
    source.onmessage = hear;
    for (const name of notice_names) source.addEventListener(name, hear);
    link.close = () => source.close();
    link.timer = setTimeout(() => this.#refused(link), patience);
    source.onerror = () => {
      if (this.#link !== link) return;
      if (source.readyState === 2 || !link.open) return this.#refused(link);
      if (link.native) return this.#lose(link, 'lost');
      // Only the EventSource has read the server's `retry:`, so the first way back is its own, by Last-Event-ID. A second
      // failure, or a silence, is ours.
      link.native = true;
      this.#charge(link, url);
      clearTimeout(link.timer);
      link.timer = setTimeout(() => this.#lose(link, 'lost'), Math.max(patience, 2 * link.beat));
      this.#tell({ state: 'waiting', reason: 'lost' });
    };
  }

  async #poll(link) {
    const { now, setTimeout } = this.#runtime;
    const asked = now();
    const first = !link.open;  // not held, so that `open` is known at once
    const answer = await this.#ask(link, link.transport === 'long_poll' ? (first ? 0 : hold) : undefined);
    if (!answer || this.#link !== link) return;
    if (first) this.#opened(link);
    if (this.#link !== link) return;
    const idle = !answer.messages?.length && !answer.notices?.length;
    // An empty answer that came at once means that nobody holds polls here: then ask at a short poll's pace.
    const held = link.transport === 'long_poll' && (!idle || first || now() - asked >= 1000);
    link.timer = setTimeout(() => this.#poll(link), answer.more || held ? 0 : this.#options.interval);
  }

  /** One poll at the cursor. Returns the answer, already taken in, or nothing if the link did not survive it. */
  async #ask(link, wait = undefined) {
    const names = this.channels;
    const url = this.#endpoint(true);
    if (wait !== undefined) url.searchParams.set('wait', wait);
    const { status, after, body } = await this.#request(link, url, {}, (wait ?? 0) * 1000 + patience);
    if (this.#link !== link) return undefined;
    if (status === 304) return {};
    if (status === 200 && typeof body?.cursor === 'string') return this.#take_in(link, names, body) ? body : undefined;
    return this.#turned_away(link, status, after, body);
  }

  /** What a publisher would do over HTTP, without anything to publish. True: it may; else the link did not survive it. */
  async #knock(link) {
    const { status, after, body } = await this.#send(link, '[]');
    if (this.#link !== link) return undefined;
    return status === 200 && Array.isArray(body) || this.#turned_away(link, status, after, body);
  }

  /** The status of a request that brought nothing decides what becomes of the link. */
  #turned_away(link, status, after, body) {
    const code = body?.code ?? (status ? `http_${status}` : 'unreachable');
    if (status === 401 && this.#expired(link)) return;
    if (status === 401 || status === 403) this.#stop(code);
    else if (not_served.has(status)) this.#fall(link, code);
    else this.#lose(link, code, after);
  }

  #send(link, commands, session = undefined) {
    const url = this.#endpoint(false);
    if (session) url.searchParams.set('session', session);
    return this.#request(link, url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: commands });
  }

  async #request(link, url, init, limit = patience) {
    const cost = this.#charge(link, url, init.body);
    const answer = await this.#fetch(link.aborts, url, { cache: 'no-store', ...init }, limit);
    cost.received += size(answer.text ?? '');
    for (const [name, value] of answer.headers ?? []) cost.received += name.length + value.length + 4;
    return answer;
  }

  /** One HTTP exchange. It ends early by `aborts`, by `init.signal`, or where nothing comes for `limit` ms. `take` reads what
   *  came, and calls its second argument as long as more comes. Returns an empty object if it did not come to its end. */
  async #fetch(aborts, url, init, limit, take = (response) => response.text()) {
    const { fetch, setTimeout, clearTimeout } = this.#runtime;
    const abort = new AbortController();
    const end = () => abort.abort();
    let timer = setTimeout(end, limit);
    const alive = () => { clearTimeout(timer); timer = setTimeout(end, limit); };
    init.signal?.addEventListener('abort', end);
    aborts.add(abort);
    const headers = { ...init.headers, ...(this.#token && { Authorization: `Bearer ${this.#token}` }) };
    try {
      const response = await fetch(url, { ...init, headers, credentials: this.#options.credentials ? 'include' : 'same-origin', signal: abort.signal });
      const text = await take(response, alive);
      const after = Number(response.headers.get('Retry-After') ?? NaN) * 1000;
      return { status: response.status, headers: response.headers, after: after >= 0 ? after : undefined, text, body: read_json(text) };
    } catch {
      return {};
    } finally {
      clearTimeout(timer);
      init.signal?.removeEventListener('abort', end);
      aborts.delete(abort);
    }
  }

  #endpoint(following) {
    const { url, params } = this.#options;
    const all = new URL(this.#detour ?? url, this.#runtime.base);
    if (following) {
      for (const name of this.#channels.keys()) all.searchParams.append('channel', name);
      if (this.#channels.size) all.searchParams.set('since', this.cursor);
      if (this.#ticket) all.searchParams.set('ticket', this.#ticket);
    }
    for (const [name, value] of Object.entries(typeof params === 'function' ? params() : params)) all.searchParams.set(name, value);
    return all;
  }

  #charge(link, url, body = '') {
    const cost = this.costs[link.transport];
    cost.requests++;
    cost.sent += url.pathname.length + url.search.length + 'GET  HTTP/1.1\r\n\r\n'.length + size(body);
    return cost;
  }

  // ---- what comes in ------------------------------------------------------------------------------------------------

  #hear(link, text) {
    if (this.#link !== link) return;
    link.heard = this.#runtime.now();
    const object = read_json(text);
    if (object === null || typeof object !== 'object') return this.#lose(link, 'bad_answer');
    this.#receive(link, object);
  }

  /** A poll's answer: gaps say where its messages start, so they go first; a `bye` ends the link, so it goes last. */
  #take_in(link, names, { messages = [], notices = [], cursor, ticket }) {
    this.#ticket = ticket ?? this.#ticket;
    const ends = cursor.split(',').map(read_element);
    names.forEach((name, i) => {
      const at = this.#channels.get(name);
      if (at && !at.epoch && ends[i]?.epoch) this.#move(name, { epoch: ends[i].epoch, offset: 0 });
    });
    const bye = notices.filter((notice) => notice.bye);
    for (const object of [...notices.filter((notice) => !notice.bye), ...messages]) {
      this.#receive(link, object);
      if (this.#link !== link) return false;
    }
    names.forEach((name, i) => ends[i]?.epoch && this.#move(name, ends[i]));
    for (const object of bye) this.#receive(link, object);
    return this.#link === link;
  }

  #receive(link, object) {
    if ('reply' in object) return this.#answer(object);
    if (typeof object.channel === 'string') return this.#deliver(link, object);
    const { open, gap, followed, closed, bye, expiring } = object;
    if (open) {
      this.#ticket = open.ticket;
      this.#session = open.session;
      if (open.keys !== undefined) this.#key_life = life_of(open.keys);
      for (const [name, at] of Object.entries(open.channels ?? {})) this.#move(name, at);
      this.#watch(link, (open.heartbeat ?? 25) * 1000);
    }
    if (gap) {
      this.counts.gaps++;
      this.#move(gap.channel, { epoch: gap.epoch, offset: gap.next - 1 }, true);
    }
    if (followed) for (const [name, at] of Object.entries(followed)) this.#channels.set(name, { word: 'latest', epoch: at.epoch, offset: at.offset });
    if (closed) this.#channels.delete(closed.channel);
    this.#emit('notice', object);
    if (open && this.#link === link) this.#opened(link);
    if (expiring && this.#options.renew && this.#link === link) this.#extend(link, expiring.seconds);
    if (bye) this.#farewell(link, bye);
  }

  #deliver(link, message) {
    const at = this.#channels.get(message.channel);
    if (!at) return;
    if (message.offset !== undefined) {
      if (at.epoch && message.offset <= at.offset) return void this.counts.duplicates++;
      at.offset = message.offset;
    }
    this.costs[link.transport].messages++;
    this.#emit('message', { ...message, epoch: message.epoch ?? at.epoch });
  }

  #farewell(link, { code = 'bye', reconnect = true, after, url }) {
    if (this.#link !== link) return;
    if (!reconnect) return this.#stop(code);
    const detour = url && new URL(url, this.#endpoint(false)).href;
    this.#lose(link, code, after);
    this.#detour = detour;  // forgotten as soon as a link there fails to open
  }

  /** Takes a position from the server. Within an epoch only a gap takes it `back`: what was seen stays seen. */
  #move(name, { epoch, offset }, back = false) {
    const at = this.#channels.get(name);
    if (at && (back || at.epoch !== epoch || offset > at.offset)) Object.assign(at, { epoch, offset });
  }

  /** Two heartbeats without a byte, and the link is dead. A WebSocket asks for the bytes; SSE has its `ping` events. */
  #watch(link, beat) {
    const { now, setTimeout, clearTimeout } = this.#runtime;
    const tick = () => {
      const left = link.heard + 2 * beat - now();
      if (left <= 0) return this.#lose(link, 'silent');
      link.timer = setTimeout(tick, Math.min(beat, left));
      link.send?.('{"id":"ping","ping":{}}');
    };
    link.beat = beat;
    clearTimeout(link.timer);
    link.timer = setTimeout(tick, beat);
  }

  // ---- what goes out ------------------------------------------------------------------------------------------------

  #flush() {
    const link = this.#link;
    if (!link?.open || this.#status.state !== 'open' || this.#runtime.now() < this.#quiet_until) return;
    this.#gather();
    if (!this.#queue.length) return;
    if (!link.send) return void this.#post(link);
    while (this.#queue.length && !(this.#sent.size && this.#careful)) for (const entry of this.#take(1)) link.send(entry.text);
  }

  get #careful() { return [...this.#queue, ...this.#sent.values()].some(({ suspect }) => suspect); }

  /** The server has ended the link for what it was sent: who stood alone before it, and was suspect already, did it. */
  #suspect(code) {
    const entries = [...this.#sent.values()];
    const [only] = entries;
    if (entries.length === 1 && only.suspect) this.#answer({ reply: only.id, error: { code } }, true);
    else for (const entry of entries) entry.suspect = true;
  }

  #enqueue(name, body, more) {
    const id = this.#next_id++;
    this.#queue.push({ id, name, body, text: JSON.stringify({ id, [name]: body }), tries: 0, ...more });
  }

  /** Remembers a watermark, if it is news. */
  #mark(name, channel, at, hidden) {
    if (!at || this.#status.state === 'stopped') return;
    const key = `${name} ${hidden ?? ''} ${channel}`;
    for (const held of name === 'read' ? [key] : [key, `read  ${channel}`]) {
      const mark = this.#marks.get(held);
      if (mark && mark.body.epoch === at.epoch && mark.body.offset >= at.offset) return;
    }
    const body = { channel, epoch: at.epoch, offset: at.offset, private: hidden };
    this.#marks.set(key, { told: -Infinity, ...this.#marks.get(key), name, body, fresh: true });
    this.#flush();
  }

  /** Puts the watermarks whose time has come into the queue. */
  #gather() {
    const { now, random, setTimeout, clearTimeout } = this.#runtime;
    let next = Infinity;
    for (const [key, mark] of this.#marks) {
      const epoch = this.#channels.get(mark.body.channel)?.epoch;
      if (epoch && epoch !== mark.body.epoch) this.#marks.delete(key);
      else if (!mark.fresh) continue;
      else if (now() < mark.told + mark_pace) next = Math.min(next, mark.told + mark_pace - now());
      else {
        Object.assign(mark, { fresh: false, told: now() });
        const reject = ({ code, message, retryAfter = 0 }) => {
          mark.fresh = code === 'disconnected' || code === 'rate_limited' || passing.has(code);  // told again, if it is still the newest
          if (code === 'disconnected') return;
          if (mark.fresh) {
            mark.told = now() + retryAfter * 1000 + random() * backoff.first;
            this.#flush();
          } else if (this.#link) this.#emit('notice', { reply: null, error: { code, message } });
        };
        this.#enqueue(mark.name, mark.body, { resolve() {}, reject, passing: true });
      }
    }
    clearTimeout(this.#mark_timer);
    if (next < Infinity) this.#mark_timer = setTimeout(() => this.#flush(), next);
  }

  /** Moves the head of the queue to `#sent`: up to `count` commands, together no larger than a body may be. */
  #take(count) {
    const taken = [];
    const { now, wall } = this.#runtime;
    for (let bytes = 0; this.#queue.length && taken.length < count;) {
      const entry = this.#queue[0];
      bytes += size(entry.text);
      if (taken.length && bytes > batch.size) break;
      this.#queue.shift();
      entry.first ??= { now: now(), wall: wall() };
      // Whichever clock says more: one of them stands still in sleep, the other may be set back.
      if (entry.body.key !== undefined && Math.max(now() - entry.first.now, wall() - entry.first.wall) > this.#key_life) {
        entry.reject(new HailwireError('timeout', 'unanswered for so long that a repeat might store it twice'));
        continue;
      }
      this.#sent.set(entry.id, entry);
      taken.push(entry);
    }
    return taken;
  }

  /** One POST at a time, so that commands take effect in order; an array, so that each has an answer of its own. */
  async #post(link) {
    if (link.posting) return;
    const entries = this.#take(this.#careful ? 1 : batch.count);
    if (!entries.length) return;
    link.posting = true;
    const { status, after, body } = await this.#send(link, `[${entries.map((entry) => entry.text)}]`,
      entries.some((entry) => entry.body.ephemeral) ? this.#session : undefined);  // which is not sent its own
    if (this.#link !== link) return;  // `#drop` has taken them back
    link.posting = false;
    if (status === 401 && this.#expired(link, steady)) return;
    if (status === 200 && Array.isArray(body)) body.forEach((reply) => this.#answer(reply));
    const left = entries.filter(({ id }) => this.#sent.has(id));
    if (left.length && (status === undefined || status === 200 || status === 408 || status === 429 || status >= 500)) {
      this.#again(left, after);
    } else {
      for (const { id } of left) this.#answer({ reply: id, error: { code: body?.code ?? `http_${status}`, message: body?.detail } }, true);
    }
    if (status === 401 && this.#options.renew) return this.#stop(body?.code ?? 'http_401');
    this.#flush();
  }

  /** An answer to a command. Says so in a notice if nobody waits for it; `final` means that no repeat can help. */
  #answer({ reply, ok, error }, final = false) {
    const entry = this.#sent.get(reply);
    if (!entry) return void (error && reply !== undefined && this.#emit('notice', { reply, error }));
    if (error && !final && entry.body.key && passing.has(error.code) && ++entry.tries < most_tries) {
      return this.#again([entry], (error.retry_after ?? 0) * 1000);
    }
    this.#sent.delete(reply);
    if (error) entry.reject(new HailwireError(error.code, error.message, error.retry_after));
    else {
      if (entry.name === 'subscribe') this.#move(entry.body.channel, ok);
      entry.resolve(ok);
    }
    if (entry.suspect) this.#flush();
  }

  #again(entries, after = 0) {
    const { now, random, setTimeout } = this.#runtime;
    this.#requeue(entries);
    const wait = after + random() * Math.min(backoff.most, backoff.first * 2 ** Math.max(0, ...entries.map(({ tries }) => tries)));
    this.#quiet_until = now() + wait;
    setTimeout(() => this.#flush(), wait);
  }

  #requeue(entries) {
    const kept = [];
    for (const entry of entries) {
      this.#sent.delete(entry.id);
      if (entry.body.key !== undefined && !this.#key_life) entry.reject(new HailwireError('timeout', 'the connection ended before the answer'));
      else if (entry.repeat) kept.push(entry);
      else entry.reject(new HailwireError('disconnected', 'the connection ended before the answer'));
    }
    this.#queue.unshift(...kept);
  }

  // ---- content ------------------------------------------------------------------------------------------------------

  /** Takes one step after the other until one says that it is `done`: waits out what passes, and throws what does not. */
  async #transfer(signal, step) {
    const check = () => {
      signal?.throwIfAborted();
      if (this.#status.state === 'stopped') throw new HailwireError('closed');
    };
    for (let failures = 0, faults = 0, refusals = 0; ;) {
      while (this.#status.state === 'offline') await this.#pause(undefined, false, signal);
      check();
      if (this.#options.renew && this.#stale) await this.#fresh();
      const { status, after = 0, body, done, moved } = await step();
      if (done !== undefined) return done;
      check();
      if (moved) failures = faults = refusals = 0;
      if (status < 300) continue;
      if (status === 401 && this.#options.renew && ++refusals < most_refusals) {
        this.#stale = true;
        continue;
      }
      const later = status === undefined || status === 408 || status === 429 || (status >= 500 && status !== 501);
      // What has no room now will have it; what fails at this content may fail at it for ever.
      const hopeless = status >= 500 && status !== 503 && ++faults >= most_tries;
      if (!later || hopeless) throw new HailwireError(body?.code ?? `http_${status}`, body?.detail, after ? after / 1000 : undefined);
      await this.#pause(after + this.#runtime.random() * Math.min(backoff.most, backoff.first * 2 ** Math.min(failures++, 16)), status === undefined, signal);
    }
  }

  /** Waits for so many milliseconds, or, without a number, for ever; less when `cut`, `resume`, `close` or the signal ends it, or,
   *  `unreachable`, when a link opens: then the server can be reached again. */
  async #pause(ms, unreachable, signal) {
    const { setTimeout, clearTimeout } = this.#runtime;
    let go, timer;
    await new Promise((resolve) => {
      go = resolve;
      this.#idle.set(go, unreachable);
      signal?.addEventListener('abort', go);
      if (ms !== undefined) timer = setTimeout(go, ms);
      if (signal?.aborted) go();
    });
    clearTimeout(timer);
    this.#idle.delete(go);
    signal?.removeEventListener('abort', go);
  }

  #beside(name) {
    const url = this.#endpoint(false);
    url.pathname = `${url.pathname.replace(/\/$/, '')}/${name}`;
    return url;
  }

  #tell(status) {
    this.#status = status;
    this.#emit('state', this.status);
  }

  #emit(kind, what) {
    for (const listener of this.#listeners[kind]) hand(listener, what);
  }
}

/** A listener's fault is its own: it is reported, and the client goes on. */
function hand(listener, ...what) {
  try { listener?.(...what); } catch (fault) { queueMicrotask(() => { throw fault; }); }
}

/** For how long (ms) something may be repeated whose key lives for so many seconds: the last tenth is left for the way. */
function life_of(seconds) {
  return seconds * 1000 - Math.min(10_000, seconds * 100);
}

function read_element(text) {
  const [epoch, offset] = text.split('.');
  return offset === undefined ? { word: text } : { word: text, epoch, offset: Number(offset) };
}

function read_json(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}
