// SPDX-License-Identifier: BSL-1.0
//
// The browser client as scripts: the test is the network and the clock, so nothing here waits for real.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

// A page says that it is a module; to Node 18 the name alone does not.
const client = await readFile(new URL('../../examples/web/hailwire.js', import.meta.url), 'base64');
const { connect, transports } = await import(`data:text/javascript;base64,${client}`);

/** Lets every promise that can settle now do so. */
const settle = async () => { for (let i = 0; i < 3; i++) await new Promise((done) => setImmediate(done)); };

/** A network and a clock. What the client opens lands in `sockets`, `sources` and `calls`; the test answers. */
class World {
  time = 1000;
  slept = 0;  // what the wall clock has, and the other has not
  chance = 0.5;
  timers = [];
  sockets = [];
  sources = [];
  calls = [];
  keys = 0;
  page = new EventTarget();

  get runtime() {
    const world = this;
    return {
      base: 'http://host.test/page/', page: this.page,
      now: () => this.time, wall: () => this.time + this.slept, random: () => this.chance, key: () => `key-${++this.keys}`,
      setTimeout: (act, ms) => { const timer = { act, at: this.time + ms }; this.timers.push(timer); return timer; },
      clearTimeout: (timer) => { this.timers = this.timers.filter((one) => one !== timer); },
      fetch: (url, init) => new Promise((resolve, reject) => {
        const call = {
          url: new URL(url), method: init.method ?? 'GET', headers: init.headers ?? {}, body: init.body, commands: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
          answer(status, body, headers = {}) { resolve(new Response([204, 304].includes(status) ? null : JSON.stringify(body), { status, headers })); return settle(); },
          /** An answer whose body comes in parts: `send`, then `end` or `cut`. */
          stream(status, headers = {}) {
            let control;
            resolve(new Response(new ReadableStream({ start(c) { control = c; } }), { status, headers }));
            init.signal.addEventListener('abort', () => control.error(init.signal.reason));
            return {
              send(bytes) { control.enqueue(new Uint8Array(bytes)); return settle(); },
              end() { control.close(); return settle(); },
              cut() { control.error(new TypeError('network')); return settle(); },
            };
          },
          fail() { reject(new TypeError('network')); return settle(); },
        };
        init.signal.addEventListener('abort', () => { call.aborted = true; reject(init.signal.reason); });
        this.calls.push(call);
      }),
      WebSocket: class {
        sent = [];
        constructor(url, protocols) { Object.assign(this, { url: new URL(url), protocols }); world.sockets.push(this); }
        send(text) { this.sent.push(JSON.parse(text)); }
        close(code) { this.closed = code ?? true; }
        receive(object) { this.onmessage?.({ data: JSON.stringify(object) }); return settle(); }
        end(code) { this.onclose?.({ code }); return settle(); }
      },
      EventSource: class extends EventTarget {
        readyState = 0;
        constructor(url) { super(); this.url = new URL(url); world.sources.push(this); }
        close() { this.readyState = 2; }
        receive(object, lastEventId = '') {
          const event = Object.assign(new Event(object.channel ? 'message' : Object.keys(object)[0]), { data: JSON.stringify(object), lastEventId });
          if (event.type === 'message') this.onmessage(event); else this.dispatchEvent(event);
          return settle();
        }
        fault(readyState) { this.readyState = readyState; this.onerror(new Event('error')); return settle(); }
      },
    };
  }

  /** Moves the clock, running every timer on the way at its time. */
  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const next = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.timers = this.timers.filter((one) => one !== next);
      this.time = Math.max(this.time, next.at);
      next.act();
      await settle();
    }
    this.time = end;
    await settle();
  }

  async connect(options = {}) {
    const live = connect({ url: '/live', channels: ['chat'], runtime: this.runtime, ...options });
    live.heard = [];
    live.notices = [];
    live.states = [];
    live.on('message', (message) => live.heard.push(message.offset ?? message.data));
    live.on('notice', (notice) => live.notices.push(notice));
    live.on('state', (state) => live.states.push(state));
    await this.pass(0);
    return live;
  }

  /** A client whose WebSocket is open at chat e1.`offset`. */
  async connected(offset = 0, options = {}) {
    const live = await this.connect(options);
    await this.socket.receive(open({ chat: ['e1', offset] }));
    assert.equal(live.status.state, 'open');
    return live;
  }

  get socket() { return this.sockets.at(-1); }
  get source() { return this.sources.at(-1); }
  get call() { return this.calls.at(-1); }
}

const open = (channels, more = {}) => ({
  open: {
    session: 's', user: 'ada', heartbeat: 25, ...more,
    channels: Object.fromEntries(Object.entries(channels).map(([name, [epoch, offset]]) => [name, { epoch, offset, recovered: true }])),
  },
});
const message = (offset, channel = 'chat') => ({ channel, offset, at: 1, data: offset });
const poll = (cursor, messages = [], more = {}) => ({ messages, notices: [], cursor, ...more });
const since = (link) => link.url.searchParams.get('since');
/** A promise whose rejection is looked at later. */
const quiet = (promise) => { promise.catch(() => {}); return promise; };
const named = (socket, name) => socket.sent.filter((command) => name in command);

// ---- the cursor

test('asks for the channels in order, from where the caller says, with the caller\'s parameters', async () => {
  const world = new World();
  const live = await world.connect({ channels: ['a b', '@ada'], since: 'e1.7,latest', params: () => ({ user: 'ada' }) });
  assert.equal(world.socket.url.href, 'ws://host.test/live?channel=a+b&channel=%40ada&since=e1.7%2Clatest&user=ada');
  assert.deepEqual(world.socket.protocols, ['hailwire.v1']);
  assert.equal(live.cursor, 'e1.7,latest');
});

test('one word stands for every channel', async () => {
  const world = new World();
  const live = await world.connect({ channels: ['a', 'b'], since: 'earliest' });
  assert.equal(live.cursor, 'earliest,earliest');
});

test('builds the cursor from open, messages and gaps', async () => {
  const world = new World();
  const live = await world.connect({ channels: ['chat', 'news'] });
  await world.socket.receive(open({ chat: ['e1', 41], news: ['n1', 0] }));
  assert.equal(live.cursor, 'e1.41,n1.0');
  await world.socket.receive(message(42));
  await world.socket.receive(message(1, 'news'));
  assert.equal(live.cursor, 'e1.42,n1.1');
  await world.socket.receive({ gap: { channel: 'chat', reason: 'trimmed', epoch: 'e1', next: 105 } });
  assert.equal(live.cursor, 'e1.104,n1.1');
  await world.socket.receive({ gap: { channel: 'news', reason: 'epoch', epoch: 'n2', next: 1 } });
  assert.equal(live.cursor, 'e1.104,n2.0');
  assert.equal(live.counts.gaps, 2);
});

test('drops a message whose offset is not above the last of that channel in that epoch', async () => {
  const world = new World();
  const live = await world.connected(5);
  for (const offset of [6, 5, 6, 7, 1]) await world.socket.receive(message(offset));
  assert.deepEqual(live.heard, [6, 7]);
  assert.equal(live.counts.duplicates, 3);
  await world.socket.receive({ gap: { channel: 'chat', reason: 'epoch', epoch: 'e2', next: 1 } });
  await world.socket.receive(message(1));
  assert.deepEqual(live.heard, [6, 7, 1]);
});

test('a gap may take the position back within an epoch', async () => {
  const world = new World();
  const live = await world.connected(50);
  await world.socket.receive({ gap: { channel: 'chat', reason: 'epoch', epoch: 'e1', next: 10 } });
  await world.socket.receive(message(10));
  assert.deepEqual(live.heard, [10]);
});

test('delivers an ephemeral message every time, and leaves the cursor alone', async () => {
  const world = new World();
  const live = await world.connected(3);
  await world.socket.receive({ channel: 'chat', at: 1, data: 'typing' });
  await world.socket.receive({ channel: 'chat', at: 1, data: 'typing' });
  assert.deepEqual(live.heard, ['typing', 'typing']);
  assert.equal(live.cursor, 'e1.3');
});

test('a message says its epoch', async () => {
  const world = new World();
  const live = await world.connected(3);
  let heard;
  live.on('message', (one) => { heard = one; });
  await world.socket.receive(message(4));
  assert.equal(heard.epoch, 'e1');
});

test('a message of a first poll says its epoch too, which only the cursor tells', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['short_poll'], since: 'earliest' });
  const epochs = [];
  live.on('message', ({ epoch }) => epochs.push(epoch));
  await world.call.answer(200, poll('e1.2', [message(1), message(2)]));
  assert.deepEqual(epochs, ['e1', 'e1']);
});

test('a listener that throws is reported, and the next message still comes', async () => {
  const world = new World();
  const live = await world.connected();
  const faults = [];
  const hear = (fault) => faults.push(fault.message);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', hear);
  const off = live.on('message', () => { throw new Error('mine'); });
  await world.socket.receive(message(1));
  off();
  await world.socket.receive(message(2));
  process.removeListener('uncaughtException', hear);
  for (const other of others) process.on('uncaughtException', other);
  assert.deepEqual(live.heard, [1, 2]);
  assert.deepEqual(faults, ['mine']);
});

// ---- coming back

test('resumes at the cursor on whatever transport comes next', async () => {
  const world = new World();
  const live = await world.connected(0);
  for (const offset of [1, 2, 3]) await world.socket.receive(message(offset));
  live.use('sse');
  await settle();
  assert.equal(world.sockets[0].closed, 1000);
  assert.equal(since(world.source), 'e1.3');
  await world.source.receive(open({ chat: ['e1', 3] }), 'e1.3');
  await world.source.receive(message(4), 'e1.4');
  live.use('long_poll');
  await settle();
  assert.equal(world.source.readyState, 2);
  assert.equal(since(world.call), 'e1.4');
  await world.call.answer(200, poll('e1.5', [message(4), message(5)]));
  live.use('short_poll');
  await settle();
  assert.equal(since(world.call), 'e1.5');
  assert.deepEqual(live.heard, [1, 2, 3, 4, 5]);
  assert.equal(live.counts.duplicates, 1);
});

test('what an abandoned link still brings is not heard', async () => {
  const world = new World();
  const live = await world.connected(0);
  const old = world.socket;
  const hear = old.onmessage;
  live.use('short_poll');
  await settle();
  hear({ data: JSON.stringify(message(1)) });
  assert.deepEqual(live.heard, []);
  const late = world.call;
  live.use('sse');
  await late.answer(200, poll('e1.9', [message(9)]));
  assert.equal(late.aborted, true);
  assert.deepEqual(live.heard, []);
  assert.equal(since(world.source), 'e1.0');
});

test('waits a random time below an exponential bound, which stops at 30 seconds', async () => {
  for (const chance of [0, 0.5, 0.999]) {
    const world = new World();
    world.chance = chance;
    const live = await world.connect({ transports: ['short_poll'] });
    for (let attempt = 0; attempt < 10; attempt++) {
      const asked = world.calls.length;
      await world.call.fail();
      const { state, reason, retryIn } = live.status;
      const bound = Math.min(30_000, 500 * 2 ** attempt);
      assert.deepEqual([state, reason, retryIn], ['waiting', 'unreachable', Math.round(chance * bound)]);
      await world.pass(Math.max(0, chance * bound - 1));
      if (chance) assert.equal(world.calls.length, asked, 'comes back no earlier');
      await world.pass(1);
      assert.equal(world.calls.length, asked + 1, 'and no later');
    }
  }
});

test('a link that held starts the waits anew, one that fell over at once does not', async () => {
  const world = new World();
  const live = await world.connected();
  const come_back = async () => {
    await world.pass(live.status.retryIn + 1);
    await world.socket.receive(open({ chat: ['e1', 0] }));
  };
  const waits = [];
  for (const lived of [0, 0, 0, 6000, 0]) {
    await world.pass(lived);
    await world.socket.end(1006);
    waits.push(live.status.retryIn);
    await come_back();
  }
  assert.deepEqual(waits, [250, 500, 1000, 250, 500]);
  assert.equal(live.counts.connections, 6);
});

test('bye says when and where to come back', async () => {
  const world = new World();
  const live = await world.connected(4);
  await world.socket.receive({ bye: { code: 'draining', reconnect: true, after: [2000, 4000], url: 'http://other.test/live2' } });
  assert.deepEqual([live.status.state, live.status.reason, live.status.retryIn], ['waiting', 'draining', 3000]);
  await world.pass(2999);
  assert.equal(world.sockets.length, 1);
  await world.pass(1);
  assert.equal(world.socket.url.href, 'ws://other.test/live2?channel=chat&since=e1.4');
});

test('forgets the address of a bye that does not answer', async () => {
  const world = new World();
  const live = await world.connected(4, { transports: ['websocket'] });
  await world.socket.receive({ bye: { code: 'draining', after: [0, 0], url: 'http://other.test/live2' } });
  await world.pass(0);
  await world.socket.end(1006);
  assert.equal(world.call.url.host, 'other.test');
  await world.call.fail();
  await world.pass(live.status.retryIn + 1);
  assert.equal(world.socket.url.host, 'host.test');
});

test('a bye without reconnect is for good, and a poll\'s bye comes after its messages', async () => {
  const world = new World();
  const live = await world.connect({ since: 'e1.0', transports: ['short_poll'] });
  await world.call.answer(200, poll('e1.1', [message(1)], { notices: [{ bye: { code: 'forbidden', reconnect: false } }] }));
  assert.deepEqual(live.heard, [1]);
  assert.equal(live.cursor, 'e1.1');
  assert.deepEqual([live.status.state, live.status.reason], ['stopped', 'forbidden']);
  await world.pass(100_000);
  assert.equal(world.calls.length, 1);
});

test('waits at least as long as Retry-After', async () => {
  for (const status of [429, 503]) {
    const world = new World();
    const live = await world.connect({ transports: ['long_poll'] });
    await world.call.answer(status, { code: 'overloaded' }, { 'Retry-After': '7' });
    assert.deepEqual([live.status.state, live.status.reason, live.status.retryIn], ['waiting', 'overloaded', 7250]);
  }
});

test('401 and 403 end it, whatever the transport, and say why', async () => {
  for (const name of transports) {
    for (const [status, code] of [[401, 'unauthenticated'], [403, 'forbidden']]) {
      const world = new World();
      const live = await world.connect({ transports: [name] });
      if (name === 'websocket') await world.socket.end(1006);
      if (name === 'sse') await world.source.fault(2);
      await world.call.answer(status, { code });
      assert.deepEqual([live.status.state, live.status.reason], ['stopped', code], `${name} ${status}`);
      await world.pass(1e6);
      assert.equal(world.calls.length, 1);
      await assert.rejects(live.publish('chat', 1), { code: 'closed' });
    }
  }
});

test('closes 1000, 4401 and 4403 end it, the others do not', async () => {
  const ends = { 1000: 'closed', 4401: 'unauthenticated', 4403: 'forbidden' };
  for (const code of [1000, 1001, 1002, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4429]) {
    const world = new World();
    const live = await world.connected();
    await world.socket.end(code);
    if (ends[code]) assert.deepEqual([live.status.state, live.status.reason], ['stopped', ends[code]]);
    else assert.equal(live.status.state, 'waiting', `after ${code}`);
    await world.pass(60_000);
    assert.equal(world.sockets.length > 1, !ends[code], `after ${code}`);
  }
});

test('stays away after its own close', async () => {
  const world = new World();
  const live = await world.connected();
  live.close();
  assert.equal(world.socket.closed, 1000);
  await world.pass(1e6);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.timers.length, 0);
  live.resume();
  assert.equal(live.status.state, 'stopped');
});

// ---- permission that ends

/** `renew` as a host has it: each call waits for the test. */
const tokens = () => {
  const asked = [];
  const renew = () => new Promise((give, fail) => asked.push({ give: (token) => { give(token); return settle(); }, fail: () => { fail(new Error('away')); return settle(); } }));
  return { asked, renew };
};
const token_of = (call) => call.headers.Authorization;

test('asks for a token before the first link, and shows it where no log sees it, but for an EventSource', async () => {
  for (const name of transports) {
    const world = new World();
    const { asked, renew } = tokens();
    await world.connect({ transports: [name], renew });
    assert.deepEqual([asked.length, world.sockets.length, world.sources.length, world.calls.length], [1, 0, 0, 0], name);
    await asked[0].give('a.b-c');
    if (name === 'websocket') {
      assert.deepEqual(world.socket.protocols, ['hailwire.v1', 'bearer.a.b-c']);
      assert.equal(world.socket.url.searchParams.get('token'), null);
    } else if (name === 'sse') {
      assert.equal(world.source.url.searchParams.get('token'), 'a.b-c');
    } else {
      assert.equal(token_of(world.call), 'Bearer a.b-c');
      assert.equal(world.call.url.searchParams.get('token'), null);
    }
  }
});

test('a token that cannot stand beside a subprotocol goes into the query', async () => {
  const world = new World();
  await world.connect({ renew: () => 'a b/c' });
  assert.deepEqual([world.socket.protocols, world.socket.url.searchParams.get('token')], [['hailwire.v1'], 'a b/c']);
});

test('without renew nothing is shown', async () => {
  const world = new World();
  await world.connected();
  assert.deepEqual(world.socket.protocols, ['hailwire.v1']);
});

test('a WebSocket is renewed by command, and lives on', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  const live = await world.connect({ renew });
  await asked[0].give('one');
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.socket.receive({ expiring: { seconds: 30 } });
  await world.socket.receive({ expiring: { seconds: 20 } });
  assert.equal(asked.length, 2, 'one question at a time');
  await asked[1].give('two');
  const [{ id, renew: sent }] = named(world.socket, 'renew');
  assert.deepEqual(sent, { token: 'two' });
  await world.socket.receive({ reply: id, ok: { expires: 60 } });
  assert.deepEqual([live.status.state, world.sockets.length], ['open', 1]);
  // And the next link shows the new one.
  await world.socket.end(1006);
  await world.pass(30_000);
  assert.deepEqual(world.socket.protocols, ['hailwire.v1', 'bearer.two']);
  assert.equal(asked.length, 2);
});

test('a renewal that is refused is a reconnect with the new token, at the cursor', async () => {
  const world = new World();
  const live = await world.connect({ renew: () => `t${world.keys++}` });
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.pass(6_000);
  await world.socket.receive(message(1));
  await world.socket.receive({ expiring: { seconds: 30 } });
  const [{ id }] = named(world.socket, 'renew');
  await world.socket.receive({ reply: id, error: { code: 'not_implemented' } });
  assert.deepEqual([world.sockets.length, since(world.socket), world.socket.protocols[1]], [2, 'e1.1', 'bearer.t1']);
  assert.equal(live.status.state, 'connecting');
});

test('what is expiring as soon as it opens does not spin', async () => {
  const world = new World();
  let asked = 0;
  await world.connect({ transports: ['sse'], renew: () => `t${asked++}` });
  for (let i = 0; i < 50; i++) {
    if (world.source.readyState !== 2) {
      await world.source.receive(open({ chat: ['e1', 0] }));
      await world.source.receive({ expiring: { seconds: 1 } });
    }
    await world.pass(1_000);
  }
  assert.ok(asked < 15, `${asked} tokens in 50 seconds`);
});

test('a WebSocket whose every token is expiring as soon as it is taken does not spin either', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ renew: () => `t${asked++}` });
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.socket.receive({ expiring: { seconds: 20 } });
  // As the server does: a renewal is answered, and 100 ms later its permission is within the notice.
  let answered = 0;
  for (let i = 0; i < 500; i++) {
    const sent = named(world.socket, 'renew');
    if (sent.length > answered) {
      await world.socket.receive({ reply: sent[answered++].id, ok: { expires: 20 } });
      await world.pass(100);
      await world.socket.receive({ expiring: { seconds: 20 } });
    } else {
      await world.pass(100);
    }
  }
  assert.ok(asked >= 10 && asked <= 12, `${asked} tokens in 50 seconds: one every five`);
  assert.deepEqual([live.status.state, world.sockets.length], ['open', 1]);

  // What is told in the meantime asks no sooner, and no more often.
  await world.pass(5_000);
  await world.socket.receive({ reply: named(world.socket, 'renew').at(-1).id, ok: { expires: 20 } });
  const before = asked;
  for (let i = 0; i < 4; i++) {
    await world.socket.receive({ expiring: { seconds: 20 } });
    await world.pass(1_000);
  }
  assert.equal(asked, before);
  await world.pass(1_001);
  assert.equal(asked, before + 1);

  // A permission that ends in the meantime is not missed.
  await world.socket.receive({ reply: named(world.socket, 'renew').at(-1).id, ok: { expires: 20 } });
  await world.socket.receive({ expiring: { seconds: 20 } });
  await world.pass(2_000);
  await world.socket.end(4401);
  assert.deepEqual([live.status.state, live.status.reason, asked], ['waiting', 'unauthenticated', before + 1]);
  await world.pass(1_000);
  assert.deepEqual([world.sockets.length, world.socket.protocols[1], asked], [2, `bearer.t${before + 1}`, before + 2]);
  await world.pass(2_000);
  assert.equal(asked, before + 2, 'the old link\'s wait ended with it');
  live.close();
  assert.equal(world.timers.length, 0);
});

test('a token that lives for less than five seconds is renewed at half of its life, on and on', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ renew: () => `t${asked++}` });
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.socket.receive({ expiring: { seconds: 3 } });
  let answered = 0, ends = 3_000, clock = 0;
  for (; clock < 60_000; clock += 100) {
    const sent = named(world.socket, 'renew');
    if (sent.length > answered) {
      await world.socket.receive({ reply: sent[answered++].id, ok: { expires: 3 } });
      await world.socket.receive({ expiring: { seconds: 3 } });
      ends = clock + 3_000;
    }
    assert.ok(clock < ends, 'the permission ended');
    await world.pass(100);
  }
  assert.deepEqual([live.status.state, world.sockets.length], ['open', 1]);
  assert.ok(asked >= 38 && asked <= 43, `${asked} tokens in 60 seconds: one every second and a half`);
});

test('with a token of three seconds an EventSource is replaced in time, and one that has ended all the same is not the end', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ transports: ['sse'], renew: () => `t${asked++}` });
  for (let i = 0; i < 20; i++) {
    const now = world.sources.length;
    await world.source.receive(open({ chat: ['e1', 0] }));
    await world.source.receive({ expiring: { seconds: 3 } });
    await world.pass(1_501);
    assert.deepEqual([world.sources.length, live.status.state], [now + 1, 'connecting']);
  }
  assert.ok(asked <= 22, `${asked} tokens`);

  // One whose permission ended before it was renewed was good: however often, that is not a refusal.
  const other = new World();
  let given = 0;
  const ends = await other.connect({ renew: () => `t${given++}` });
  for (let i = 0; i < 10; i++) {
    await other.socket.receive(open({ chat: ['e1', 0] }));
    await other.pass(2_000);
    await other.socket.end(4401);
    assert.equal(ends.status.state, 'waiting');
    const before = other.sockets.length;
    for (let i = 0; i < 40 && other.sockets.length === before; i++) await other.pass(1_000);
    assert.equal(ends.status.state, 'connecting');
  }
});

test('an EventSource is replaced by one with the new token, at the cursor', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  const live = await world.connect({ transports: ['sse'], renew });
  await asked[0].give('one');
  const first = world.source;
  await first.receive(open({ chat: ['e1', 0] }), 'e1.0');
  await world.pass(6_000);
  await first.receive({ expiring: { seconds: 30 } });
  await first.receive(message(1), 'e1.1');
  assert.equal(world.sources.length, 1, 'the old one is read until there is a token');
  await asked[1].give('two');
  assert.deepEqual([world.sources.length, first.readyState, since(world.source), world.source.url.searchParams.get('token')], [2, 2, 'e1.1', 'two']);
  assert.deepEqual(live.heard, [1]);
});

test('a poll brings the new token as soon as there is one', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  await world.connect({ transports: ['long_poll'], renew });
  await asked[0].give('one');
  await world.call.answer(200, poll('e1.0', [], { notices: [{ expiring: { seconds: 30 } }] }));
  await world.pass(0);
  assert.equal(token_of(world.call), 'Bearer one');
  await asked[1].give('two');
  await world.call.answer(200, poll('e1.1', [message(1)]));
  await world.pass(0);
  assert.equal(token_of(world.call), 'Bearer two');
});

test('after 4401 and 401 it asks for a token, then comes back at the cursor', async () => {
  for (const name of transports) {
    const world = new World();
    const { asked, renew } = tokens();
    const live = await world.connect({ transports: [name], renew });
    await asked[0].give('one');
    if (name === 'websocket') {
      await world.socket.receive(open({ chat: ['e1', 3] }));
      await world.socket.end(4401);
    } else if (name === 'sse') {
      await world.source.receive(open({ chat: ['e1', 3] }));
      await world.source.fault(2);
      await world.call.answer(401, { code: 'unauthenticated' });
    } else {
      await world.call.answer(200, poll('e1.3'));
      await world.pass(2_000);
      await world.call.answer(401, { code: 'unauthenticated' });
    }
    assert.deepEqual([live.status.state, live.status.reason], ['waiting', 'unauthenticated'], name);
    await world.pass(1_000);
    assert.equal(asked.length, 2, name);
    await asked[1].give('two');
    const link = { websocket: world.socket, sse: world.source }[name] ?? world.call;
    assert.equal(since(link), 'e1.3', name);
  }
});

test('tokens that are refused one after the other are the end; one that held begins the count anew', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ renew: () => `t${asked++}` });
  const refuse = async () => {
    await world.socket.receive(open({ chat: ['e1', 0] }));
    await world.socket.end(4401);
    await world.pass(5_000);
  };
  await refuse();
  await refuse();
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.pass(10_000);
  await world.socket.end(4401);
  await world.pass(5_000);
  assert.deepEqual([asked, live.status.state], [4, 'connecting']);
  await refuse();
  await refuse();
  assert.equal(live.status.state, 'connecting');
  await refuse();
  assert.deepEqual([asked, live.status.state, live.status.reason], [6, 'stopped', 'unauthenticated']);
  await world.pass(1e6);
  assert.equal(asked, 6);
});

test('the third token that is refused is the last, on every transport', async () => {
  for (const name of [...transports, 'post', 'handshake']) {
    const world = new World();
    let asked = 0;
    const one = { post: 'sse', handshake: 'websocket' }[name] ?? name;
    const live = await world.connect({ transports: [one], channels: name === one ? ['chat'] : [], renew: () => `t${asked++}` });
    const done = name === 'post' && quiet(live.publish('chat', 'hello'));
    for (let i = 1; i <= 3; i++) {
      assert.deepEqual([asked, live.status.state === 'stopped'], [i, false], name);
      await settle();
      if (one === 'websocket') await world.socket.end(1006);
      else if (name === 'sse') await world.source.fault(2);
      await world.call.answer(401, { code: 'unauthenticated' });
      await world.pass(2_000);
    }
    assert.deepEqual([asked, live.status.state, live.status.reason], [3, 'stopped', 'unauthenticated'], name);
    if (done) await assert.rejects(done, { code: 'unauthenticated' });
    await world.pass(1e6);
    assert.equal(asked, 3, name);
  }
});

test('what cannot be shown as a token is none for now: an error page, nothing; white space around one is not its own', async () => {
  for (const page of ['<html>\n502</html>\n', '', ' \n', 'caf\u00e9', 'a\0b']) {
    const world = new World();
    const { asked, renew } = tokens();
    const live = await world.connect({ renew });
    await asked[0].give(page);
    assert.deepEqual([live.status.state, live.status.reason, world.sockets.length], ['waiting', 'renew', 0], JSON.stringify(page));
    await world.pass(500);
    await asked[1].give(' one\r\n');
    assert.deepEqual(world.socket.protocols, ['hailwire.v1', 'bearer.one']);
  }
});

test('a late answer does not replace the token of a later question', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  await world.connect({ transports: ['short_poll'], renew });
  await world.pass(12_000);
  assert.equal(asked.length, 2);
  await asked[1].give('new');
  await world.call.answer(200, poll('e1.0'));
  await asked[0].give('old');
  await world.pass(2_000);
  assert.equal(token_of(world.call), 'Bearer new');
  // Nor is it taken for another one, when the newer has been refused.
  await world.call.answer(401, { code: 'unauthenticated' });
  await world.pass(1_000);
  assert.equal(asked.length, 3);
});

test('a host that cannot give a token now is asked again after a while, one that has none is the end', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  const live = await world.connect({ renew });
  await asked[0].fail();
  assert.deepEqual([live.status.state, live.status.reason, world.sockets.length], ['waiting', 'renew', 0]);
  await world.pass(500);
  assert.equal(asked.length, 2);
  await world.pass(10_000);  // it never answers
  assert.equal(live.status.state, 'waiting');
  await world.pass(2_000);
  assert.equal(asked.length, 3);
  await asked[1].give('too late to be waited for, but a token');
  await asked[2].give(null);
  assert.deepEqual([live.status.state, live.status.reason], ['stopped', 'unauthenticated']);
});

test('a token that comes after close is for nobody', async () => {
  const world = new World();
  const { asked, renew } = tokens();
  const live = await world.connect({ renew });
  live.close();
  await asked[0].give('one');
  assert.deepEqual([live.status.state, world.sockets.length], ['stopped', 0]);
  await world.pass(1e6);
  assert.equal(world.timers.length, 0);
});

test('a publish that meets 401 is sent again with the new token and its key', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ transports: ['short_poll'], renew: () => `t${asked++}` });
  await world.call.answer(200, poll('e1.0'));
  const done = live.publish('chat', 'hello');
  await settle();
  const posted = world.call;
  assert.equal(posted.method, 'POST');
  await posted.answer(401, { code: 'unauthenticated' });
  await world.pass(1_000);
  await world.call.answer(200, poll('e1.0'));
  const again = world.calls.filter(({ method }) => method === 'POST').at(-1);
  assert.notEqual(again, posted);
  assert.deepEqual([again.commands[0].publish.key, token_of(again)], [posted.commands[0].publish.key, 'Bearer t1']);
  await again.answer(200, [{ reply: again.commands[0].id, ok: { epoch: 'e1', offset: 1 } }]);
  assert.deepEqual(await done, { epoch: 'e1', offset: 1 });
});

// ---- from transport to transport

test('falls from WebSocket to SSE to long poll to short poll, asking why by one short poll each time', async () => {
  const world = new World();
  const live = await world.connect({ since: 'e1.0' });
  await world.socket.end(1006);
  assert.equal(world.calls.length, 1);
  assert.equal(world.call.url.searchParams.has('wait'), false);
  await world.call.answer(200, poll('e1.2', [message(1), message(2)]));
  assert.deepEqual(live.heard, [1, 2], 'what that poll brought is not wasted');
  assert.equal(since(world.source), 'e1.2');
  await world.source.fault(2);
  await world.call.answer(200, poll('e1.2'));
  assert.equal(world.calls.length, 3);
  assert.equal(world.call.url.searchParams.get('wait'), '0');
  await world.call.answer(406, { code: 'not_acceptable' });
  assert.equal(world.calls.length, 4);
  assert.equal(world.call.url.searchParams.has('wait'), false);
  await world.call.answer(200, poll('e1.2'));
  assert.deepEqual([live.status.state, live.status.transport], ['open', 'short_poll']);
});

test('falls when a handshake neither succeeds nor fails', async () => {
  const world = new World();
  const live = await world.connect();
  await world.pass(10_000);
  assert.equal(world.socket.closed, 1000);
  await world.socket.end(1006);
  assert.equal(world.calls.length, 1, 'asks why once');
  await world.call.answer(200, poll('e1.0'));
  assert.equal(world.sources.length, 1);
  assert.equal(live.status.transport, 'sse');
});

test('does not fall when the server is not there at all', async () => {
  const world = new World();
  const live = await world.connect();
  await world.socket.end(1006);
  await world.call.fail();
  assert.deepEqual([live.status.state, live.status.transport], ['waiting', 'websocket']);
  await world.pass(250);
  assert.equal(world.sockets.length, 2);
});

test('who follows nothing asks why by an empty POST, and renews, stops, waits or falls by its status', async () => {
  const refused = async (options) => {
    const world = new World();
    const live = await world.connect({ channels: [], ...options });
    await world.socket.end(1006);
    assert.deepEqual([world.calls.length, world.call.method, world.call.commands, world.call.url.href], [1, 'POST', [], 'http://host.test/live']);
    return { world, live };
  };
  {
    let asked = 0;
    const { world, live } = await refused({ renew: () => `t${asked++}` });
    assert.equal(token_of(world.call), 'Bearer t0');
    await world.call.answer(401, { code: 'unauthenticated' });
    assert.deepEqual([live.status.state, live.status.reason], ['waiting', 'unauthenticated']);
    await world.pass(1_000);
    assert.deepEqual(world.socket.protocols, ['hailwire.v1', 'bearer.t1']);
    await world.socket.receive(open({}));
    assert.equal(live.status.state, 'open');
  }
  for (const [status, code] of [[401, 'unauthenticated'], [403, 'forbidden']]) {
    const { world, live } = await refused();
    await world.call.answer(status, { code });
    assert.deepEqual([live.status.state, live.status.reason], ['stopped', code]);
  }
  {
    const { world, live } = await refused();
    await world.call.fail();
    assert.deepEqual([live.status.state, live.status.reason, live.status.transport], ['waiting', 'unreachable', 'websocket']);
    await world.pass(250);
    await world.socket.end(1006);
    await world.call.answer(503, { code: 'overloaded' }, { 'Retry-After': '7' });
    assert.deepEqual([live.status.reason, live.status.retryIn, live.status.transport], ['overloaded', 7500, 'websocket']);
  }
  {
    const { world, live } = await refused();
    const done = live.publish('chat', 'hello');
    await world.call.answer(200, []);
    assert.deepEqual([live.status.state, live.status.transport], ['open', 'sse']);
    const [{ id }] = world.call.commands;
    await world.call.answer(200, [{ reply: id, ok: { epoch: 'e1', offset: 1 } }]);
    assert.deepEqual(await done, { epoch: 'e1', offset: 1 });
    assert.deepEqual([world.sources.length, world.calls.length], [0, 2]);
  }
});

test('a transport that worked before is tried again before it is given up', async () => {
  const world = new World();
  const live = await world.connected();
  await world.socket.end(1006);
  for (let attempt = 1; attempt < 3; attempt++) {
    await world.pass(live.status.retryIn + 1);
    await world.socket.end(1006);
    await world.call.answer(200, poll('e1.0'));
    assert.equal(live.status.state, 'waiting');
  }
  await world.pass(live.status.retryIn + 1);
  await world.socket.end(1006);
  await world.call.answer(200, poll('e1.0'));
  assert.equal(live.status.transport, 'sse');
});

test('a transport named alone is kept, with waits between', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['websocket'] });
  for (let i = 0; i < 5; i++) {
    await world.socket.end(1006);
    await world.call.answer(426, { code: 'upgrade_required' });
    assert.deepEqual([live.status.state, live.status.transport], ['waiting', 'websocket']);
    await world.pass(live.status.retryIn + 1);
  }
  assert.equal(world.sources.length, 0);
});

test('after all have failed it waits, then starts at the top', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['long_poll', 'short_poll'] });
  await world.call.answer(404, { code: 'not_found' });
  await world.call.answer(404, { code: 'not_found' });
  assert.equal(live.status.state, 'waiting');
  await world.pass(250);
  assert.equal(world.call.url.searchParams.get('wait'), '0');
});

// ---- each transport

test('WebSocket: pings every heartbeat, and takes two without a byte for death', async () => {
  const world = new World();
  const live = await world.connected();
  await world.pass(25_000);
  assert.equal(named(world.socket, 'ping').length, 1);
  await world.socket.receive({ reply: 'ping', ok: {} });
  await world.pass(49_000);
  assert.equal(live.status.state, 'open');
  assert.deepEqual(live.notices.filter((notice) => 'reply' in notice), []);
  await world.pass(1000);
  assert.deepEqual([live.status.state, live.status.reason], ['waiting', 'silent']);
});

test('SSE: two heartbeats without an event are death, a ping event is life', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  await world.source.receive(open({ chat: ['e1', 0] }, { heartbeat: 10 }));
  for (let i = 0; i < 5; i++) {
    await world.pass(10_000);
    await world.source.receive({ ping: {} });
  }
  assert.equal(live.status.state, 'open');
  await world.pass(20_000);
  assert.deepEqual([live.status.state, live.status.reason], ['waiting', 'silent']);
  assert.equal(world.source.readyState, 2);
});

test('SSE: the first way back is the EventSource\'s own, which knows retry; the second failure is ours', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  await world.source.receive(open({ chat: ['e1', 0] }), 'e1.0');
  await world.source.receive(message(1), 'e1.1');
  await world.source.fault(0);
  assert.equal(live.status.state, 'waiting');
  assert.equal(world.source.readyState, 0);
  await world.pass(9000);
  await world.source.receive(open({ chat: ['e1', 1] }), 'e1.1');
  await world.source.receive(message(2), 'e1.2');
  assert.equal(live.status.state, 'open');
  assert.equal(live.counts.connections, 2);
  await world.source.fault(0);
  await world.source.fault(0);
  assert.deepEqual([live.status.state, live.status.retryIn], ['waiting', 250]);
  await world.pass(250);
  assert.equal(world.sources.length, 2);
  assert.equal(since(world.source), 'e1.2');
  assert.deepEqual(live.heard, [1, 2]);
});

test('SSE: what a Last-Event-ID from before the last message brings again is dropped', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'], channels: ['chat', 'news'] });
  await world.source.receive(open({ chat: ['e1', 0], news: ['n1', 0] }), 'e1.0,n1.0');
  await world.source.receive(message(1));
  await world.source.fault(0);
  await world.source.receive(open({ chat: ['e1', 0], news: ['n1', 0] }), 'e1.0,n1.0');
  assert.equal(live.cursor, 'e1.1,n1.0');
  await world.source.receive(message(1));
  assert.deepEqual(live.heard, [1]);
});

test('SSE: an open event of EventSource itself is not the server\'s', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  world.source.dispatchEvent(new Event('open'));
  assert.equal(live.status.state, 'connecting');
});

test('long poll: asks at once, then is held, and again as soon as it is answered', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['long_poll'] });
  await world.call.answer(200, poll('e1.3'));
  assert.equal(live.status.state, 'open');
  await world.pass(0);
  assert.equal(world.call.url.searchParams.get('wait'), '25');
  assert.equal(since(world.call), 'e1.3');
  await world.pass(25_000);
  await world.call.answer(200, poll('e1.4', [message(4)]));
  await world.pass(0);
  assert.equal(since(world.call), 'e1.4');
  assert.deepEqual(live.heard, [4]);
});

test('long poll: does not spin where nobody holds polls', async () => {
  const world = new World();
  await world.connect({ transports: ['long_poll'] });
  await world.call.answer(200, poll('e1.3'));
  await world.pass(0);
  await world.call.answer(304);
  const asked = world.calls.length;
  await world.pass(1999);
  assert.equal(world.calls.length, asked);
  await world.pass(1);
  assert.equal(world.calls.length, asked + 1);
});

test('long poll: an answer that never comes is asked again from the same place', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['long_poll'] });
  await world.call.answer(200, poll('e1.3'));
  await world.pass(0);
  await world.pass(35_000);
  assert.equal(world.call.aborted, true);
  assert.equal(live.status.state, 'waiting');
  await world.pass(live.status.retryIn + 1);
  assert.equal(since(world.call), 'e1.3');
});

test('short poll: asks at its interval, and at once while there is more', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['short_poll'], interval: 5000, since: 'earliest' });
  await world.call.answer(200, poll('e1.2', [message(1), message(2)], { more: true }));
  await world.pass(0);
  assert.equal(since(world.call), 'e1.2');
  await world.call.answer(200, poll('e1.3', [message(3)]));
  await world.pass(4999);
  assert.equal(world.calls.length, 2);
  await world.pass(1);
  assert.equal(world.calls.length, 3);
  assert.deepEqual(live.heard, [1, 2, 3]);
});

test('a poll\'s gap counts before its messages', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['short_poll'], since: 'e0.90' });
  const gap = { gap: { channel: 'chat', reason: 'epoch', epoch: 'e1', next: 1 } };
  await world.call.answer(200, poll('e1.2', [message(1), message(2)], { notices: [gap] }));
  assert.deepEqual(live.heard, [1, 2]);
  assert.deepEqual(live.notices, [gap]);
});

test('an answer that is no answer is a lost connection, not a crash', async () => {
  for (const text of ['', 'x', '[1', 'null', '7']) {
    const world = new World();
    const live = await world.connected();
    world.socket.onmessage({ data: text });
    assert.deepEqual([live.status.state, live.status.reason], ['waiting', 'bad_answer']);
  }
  const world = new World();
  const live = await world.connect({ transports: ['short_poll'] });
  await world.call.answer(200, { hotel: 'please log in' });
  assert.equal(live.status.state, 'waiting');
});

// ---- commands

test('WebSocket: a publish carries a key, and its answer is its promise', async () => {
  const world = new World();
  const live = await world.connected();
  const done = live.publish('chat', { text: 'hi' }, { type: 'note' });
  assert.deepEqual(world.socket.sent, [{ id: 1, publish: { channel: 'chat', data: { text: 'hi' }, type: 'note', key: 'key-1' } }]);
  await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 1 } });
  assert.deepEqual(await done, { epoch: 'e1', offset: 1 });
});

test('an error is a rejection with its code', async () => {
  const world = new World();
  const live = await world.connected();
  const done = quiet(live.publish('chat', 1));
  await world.socket.receive({ reply: 1, error: { code: 'rate_limited', message: 'slow down', retry_after: 3 } });
  await assert.rejects(done, { name: 'HailwireError', code: 'rate_limited', message: 'slow down', retryAfter: 3 });
});

test('what waits for a connection is sent in order once there is one', async () => {
  const world = new World();
  const live = await world.connect();
  for (const n of [1, 2, 3]) live.publish('chat', n);
  assert.deepEqual(world.socket.sent, []);
  await world.socket.receive(open({ chat: ['e1', 0] }));
  assert.deepEqual(world.socket.sent.map(({ publish }) => publish.data), [1, 2, 3]);
});

test('an unanswered publish is sent again with its key after a reconnect, an answered one is not', async () => {
  const world = new World();
  const live = await world.connected();
  const done = [live.publish('chat', 1), live.publish('chat', 2), live.publish('chat', 3)];
  await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 1 } });
  await world.socket.end(1006);
  live.publish('chat', 4);
  await world.pass(live.status.retryIn + 1);
  await world.socket.receive(open({ chat: ['e1', 1] }));
  assert.deepEqual(world.socket.sent.map(({ publish }) => [publish.data, publish.key]), [[2, 'key-2'], [3, 'key-3'], [4, 'key-4']]);
  await world.socket.receive({ reply: 2, ok: { epoch: 'e1', offset: 2 } });
  await world.socket.receive({ reply: 3, ok: { epoch: 'e1', offset: 3 } });
  assert.deepEqual((await Promise.all(done)).map(({ offset }) => offset), [1, 2, 3]);
});

test('after 1002, 1007, 1008 and 1009 what is unanswered is sent again one at a time, and what ends it so again is given up', async () => {
  for (const [code, word] of [[1002, 'protocol_error'], [1007, 'invalid_utf8'], [1008, 'policy'], [1009, 'too_large']]) {
    const world = new World();
    const live = await world.connected();
    const done = ['one', 'bad', 'two', 'three'].map((text) => quiet(live.publish('chat', text)));
    await world.socket.end(code);
    const again = async () => {
      await world.pass(live.status.retryIn + 1);
      await world.socket.receive(open({ chat: ['e1', 0] }));
    };
    const texts = () => named(world.socket, 'publish').map(({ publish }) => publish.data);
    await again();
    assert.deepEqual(texts(), ['one'], `${code}: alone`);
    await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 1 } });
    assert.deepEqual(texts(), ['one', 'bad'], 'the next when that is answered');
    await world.socket.end(code);
    await assert.rejects(done[1], { code: word });
    await again();
    assert.deepEqual(texts(), ['two'], 'what was unanswered with it is still suspect');
    await world.socket.receive({ reply: 3, ok: { epoch: 'e1', offset: 2 } });
    await world.socket.receive({ reply: 4, ok: { epoch: 'e1', offset: 3 } });
    assert.deepEqual((await Promise.all([done[0], done[2], done[3]])).map(({ offset }) => offset), [1, 2, 3]);
    for (const text of ['four', 'five']) live.publish('chat', text);
    assert.deepEqual(texts().slice(-2), ['four', 'five'], 'then all at once again');
  }
});

test('what is suspect is posted one at a time too', async () => {
  const world = new World();
  const live = await world.connected();
  for (const text of ['one', 'two', 'three']) quiet(live.publish('chat', text));
  await world.socket.end(1008);
  live.use('short_poll');
  await settle();
  await world.call.answer(200, poll('e1.0'));
  const posts = () => world.calls.filter(({ method }) => method === 'POST');
  assert.deepEqual(posts().map(({ commands }) => commands.map(({ publish }) => publish.data)), [['one']]);
  await posts()[0].answer(200, [{ reply: 1, ok: { epoch: 'e1', offset: 1 } }]);
  assert.deepEqual(posts()[1].commands.map(({ publish }) => publish.data), ['two']);
});

test('commands of the host, and ephemeral messages, are not repeated; questions and taking back are', async () => {
  const world = new World();
  const live = await world.connected();
  const lost = [live.command('host.kick', { user: 'bob' }), live.publish('chat', 'typing', { ephemeral: true })].map(quiet);
  const asked = [live.history('chat', { before: 9 }), live.presence('chat'), live.receipts('chat'), live.erase('chat', { epoch: 'e1', offset: 3 })];
  assert.equal('key' in named(world.socket, 'publish')[0].publish, false);
  await world.socket.end(1006);
  for (const one of lost) await assert.rejects(one, { code: 'disconnected' });
  await world.pass(live.status.retryIn + 1);
  await world.socket.receive(open({ chat: ['e1', 0] }));
  assert.deepEqual(world.socket.sent, [
    { id: 3, history: { channel: 'chat', before: 9 } }, { id: 4, presence: { channel: 'chat' } }, { id: 5, receipts: { channel: 'chat' } },
    { id: 6, erase: { channel: 'chat', epoch: 'e1', offset: 3 } },
  ]);
  for (const id of [3, 4, 5, 6]) await world.socket.receive({ reply: id, ok: { id } });
  assert.deepEqual(await Promise.all(asked), [{ id: 3 }, { id: 4 }, { id: 5 }, { id: 6 }]);
});

test('an outcome that is not known is settled by repeating with the same key, within limits', async () => {
  const world = new World();
  const live = await world.connected();
  const done = quiet(live.publish('chat', 1));
  for (let tries = 1; tries <= 5; tries++) {
    const sent = named(world.socket, 'publish');
    assert.deepEqual(sent.at(-1).publish, { channel: 'chat', data: 1, key: 'key-1' });
    assert.equal(sent.length, tries);
    await world.socket.receive({ reply: 1, error: { code: 'internal', message: 'disk' } });
    await world.pass(15_000);
    await world.socket.receive({ ping: {} });
  }
  await assert.rejects(done, { code: 'internal' });
});

test('a publish is not repeated once its key may be forgotten, as long as the server says, and sleep counts', async () => {
  for (const [keys, life, sleeps] of [[undefined, 290_000, false], [undefined, 290_000, true], [60, 54_000, false], [1000, 990_000, false], [1, 900, true]]) {
    for (const [late, ends] of [[0, false], [1, true]]) {
      const world = new World();
      const live = await world.connect();
      await world.socket.receive(open({ chat: ['e1', 0] }, keys === undefined ? {} : { keys }));
      const done = quiet(live.publish('chat', 1));
      live.cut();
      if (sleeps) world.slept += life + late; else await world.pass(life + late);
      live.resume();
      await world.socket.receive(open({ chat: ['e1', 0] }));
      assert.equal(named(world.socket, 'publish').length, ends ? 0 : 1, `${keys} ${late}`);
      if (ends) await assert.rejects(done, { code: 'timeout' });
    }
  }
});

test('where the server keeps no keys nothing is repeated', async () => {
  const world = new World();
  const live = await world.connect();
  await world.socket.receive(open({ chat: ['e1', 0] }, { keys: 0 }));
  const done = quiet(live.publish('chat', 1));
  await world.socket.end(1006);
  await assert.rejects(done, { code: 'timeout' });
});

test('more than 256 unanswered commands are refused', async () => {
  const world = new World();
  const live = await world.connect();
  const waiting = Array.from({ length: 256 }, (_, i) => quiet(live.publish('chat', i)));
  await assert.rejects(live.publish('chat', 256), { code: 'overloaded' });
  live.close();
  for (const one of waiting) await assert.rejects(one, { code: 'closed' });
});

test('over HTTP one POST at a time carries what waits, each with its answer', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'], params: { user: 'ada' } });
  await world.source.receive(open({ chat: ['e1', 0] }));
  const done = [1, 2, 3].map((n) => quiet(live.publish('chat', n)));
  assert.equal(world.calls.length, 1);
  const [first] = world.calls;
  assert.deepEqual([first.method, first.url.href, first.commands.length], ['POST', 'http://host.test/live?user=ada', 1]);
  await first.answer(200, [{ reply: 1, ok: { epoch: 'e1', offset: 1 } }]);
  assert.deepEqual(world.call.commands.map(({ publish }) => publish.data), [2, 3]);
  await world.call.answer(200, [{ reply: 2, error: { code: 'forbidden' } }, { reply: 3, ok: { epoch: 'e1', offset: 2 } }]);
  assert.equal((await done[0]).offset, 1);
  await assert.rejects(done[1], { code: 'forbidden' });
  assert.equal((await done[2]).offset, 2);
});

test('a POST carries at most 64 commands and 64 KiB', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  for (let i = 0; i < 100; i++) quiet(live.publish('chat', i));
  for (let i = 0; i < 3; i++) quiet(live.publish('chat', 'x'.repeat(40_000)));
  await world.source.receive(open({ chat: ['e1', 0] }));
  const sizes = [];
  for (let asked = 0; asked < world.calls.length; asked++) {
    const { commands } = world.call;
    sizes.push(commands.length);
    await world.call.answer(200, commands.map(({ id }) => ({ reply: id, ok: {} })));
  }
  assert.deepEqual(sizes, [64, 37, 1, 1]);
});

test('a POST that fails on the way is repeated with the same keys', async () => {
  for (const fail of [(call) => call.fail(), (call) => call.answer(502, {}), (call) => call.answer(503, {}, { 'Retry-After': '2' })]) {
    const world = new World();
    const live = await world.connect({ transports: ['sse'] });
    await world.source.receive(open({ chat: ['e1', 0] }));
    const done = live.publish('chat', 1);
    const first = world.call;
    live.publish('chat', 2);
    await fail(first);
    assert.equal(world.calls.length, 1);
    await world.pass(3000);
    assert.equal(world.calls.length, 2);
    assert.deepEqual(world.call.commands[0], first.commands[0]);
    assert.deepEqual(world.call.commands.map(({ publish }) => publish.data), [1, 2], 'in the order of the calls');
    await world.call.answer(200, [{ reply: 1, ok: { epoch: 'e1', offset: 1 } }, { reply: 2, ok: { epoch: 'e1', offset: 2 } }]);
    assert.equal((await done).offset, 1);
  }
});

test('a POST that is refused whole is refused for each', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  await world.source.receive(open({ chat: ['e1', 0] }));
  const done = quiet(live.publish('chat', 1));
  await world.call.answer(413, { code: 'too_large' });
  await assert.rejects(done, { code: 'too_large' });
});

test('a publish begun by POST is finished over the next WebSocket with the same key', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  await world.source.receive(open({ chat: ['e1', 0] }));
  const done = live.publish('chat', 1);
  const post = world.call;
  live.use('websocket');
  await settle();
  assert.equal(post.aborted, true);
  await world.socket.receive(open({ chat: ['e1', 0] }));
  assert.deepEqual(world.socket.sent, post.commands);
  await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 1 } });
  assert.equal((await done).offset, 1);
});

// ---- presence, receipts, taking back

test('the notices of presence and receipts are heard on every transport', async () => {
  const told = [
    { join: { channel: 'chat', user: 'bob', info: { name: 'Bob' } } }, { leave: { channel: 'chat', user: 'bob' } }, { presence: { channel: 'chat', count: 10342 } },
    { receipt: { channel: 'chat', epoch: 'e1', user: 'bob', received: 42, read: 40 } }, { missed: { channel: 'chat' } },
  ];
  for (const name of ['websocket', 'sse', 'long_poll']) {
    const world = new World();
    const live = await world.connect({ transports: [name], since: 'e1.0' });
    if (name === 'long_poll') {
      await world.call.answer(200, poll('e1.0', [], { notices: told }));
    } else {
      const link = name === 'sse' ? world.source : world.socket;
      await link.receive(open({ chat: ['e1', 0] }));
      for (const one of told) await link.receive(one);
    }
    assert.deepEqual(live.notices.filter((notice) => !notice.open), told, name);
  }
});

test('a taken back message, and the taking back, are messages like others', async () => {
  const world = new World();
  const live = await world.connected(0);
  const heard = [];
  live.on('message', (one) => heard.push(one));
  await world.socket.receive({ channel: 'chat', offset: 1, at: 1, from: 'ada', erased: true });
  await world.socket.receive({ channel: 'chat', offset: 2, at: 2, from: 'ada', erases: 1 });
  assert.deepEqual(heard, [{ channel: 'chat', offset: 1, at: 1, from: 'ada', erased: true, epoch: 'e1' }, { channel: 'chat', offset: 2, at: 2, from: 'ada', erases: 1, epoch: 'e1' }]);
  const done = live.erase('chat', { epoch: 'e1', offset: 2, text: 'what else is in it' });
  assert.deepEqual(world.socket.sent, [{ id: 1, erase: { channel: 'chat', epoch: 'e1', offset: 2 } }]);
  await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 3 } });
  assert.deepEqual(await done, { epoch: 'e1', offset: 3 });
});

test('a conflated channel jumps without a gap, and what is older is still dropped', async () => {
  const world = new World();
  const live = await world.connect();
  await world.socket.receive({ open: { session: 's', channels: { chat: { epoch: 'e1', offset: 3, recovered: true, conflated: true } } } });
  for (const offset of [9, 8, 20]) await world.socket.receive(message(offset));
  assert.deepEqual([live.heard, live.counts.gaps, live.cursor], [[9, 20], 0, 'e1.20']);
});

const marks = (socket) => socket.sent.filter(({ received, read }) => received || read).map(({ id, ...mark }) => mark);

test('a watermark goes at once, and of what follows within a second only the newest', async () => {
  const world = new World();
  const live = await world.connected(0, { channels: ['chat', 'news'] });
  live.received('news');
  assert.deepEqual([marks(world.socket), live.position('news')], [[], undefined], 'nowhere yet, so nothing to say');
  for (const offset of [1, 2, 3]) {
    await world.socket.receive(message(offset));
    live.received('chat');
  }
  assert.deepEqual(marks(world.socket), [{ received: { channel: 'chat', epoch: 'e1', offset: 1 } }]);
  await world.pass(999);
  assert.equal(marks(world.socket).length, 1);
  await world.pass(1);
  assert.deepEqual(marks(world.socket).slice(1), [{ received: { channel: 'chat', epoch: 'e1', offset: 3 } }]);
  live.received('chat', { epoch: 'e1', offset: 2 });
  live.received('chat');
  await world.pass(5_000);
  assert.equal(marks(world.socket).length, 2, 'they only rise');
});

test('read implies received, but for a private one, which is a watermark of its own', async () => {
  const world = new World();
  const live = await world.connected(5);
  live.read('chat');
  live.received('chat');
  assert.deepEqual(marks(world.socket), [{ read: { channel: 'chat', epoch: 'e1', offset: 5 } }]);
  await world.socket.receive(message(6));
  live.read('chat', undefined, { private: true });
  live.received('chat');
  live.read('chat', { epoch: 'e1', offset: 6 });
  assert.deepEqual(marks(world.socket).slice(1), [{ read: { channel: 'chat', epoch: 'e1', offset: 6, private: true } }, { received: { channel: 'chat', epoch: 'e1', offset: 6 } }]);
  await world.pass(1000);
  assert.deepEqual(marks(world.socket).at(-1), { read: { channel: 'chat', epoch: 'e1', offset: 6 } });
});

test('an unanswered watermark is told again as it is then, an answered one is not', async () => {
  const world = new World();
  const live = await world.connected(5, { channels: ['chat', 'news'] });
  live.received('chat');
  live.read('chat', { epoch: 'e1', offset: 2 });
  await world.socket.receive({ reply: 2, ok: {} });
  await world.socket.receive(message(6));
  await world.socket.end(1006);
  live.received('chat');
  await world.pass(live.status.retryIn + 1);
  await world.socket.receive(open({ chat: ['e1', 6] }));
  await world.pass(1000);
  assert.deepEqual(marks(world.socket), [{ received: { channel: 'chat', epoch: 'e1', offset: 6 } }]);
});

test('a watermark is forgotten with its epoch', async () => {
  const world = new World();
  const live = await world.connected(5);
  live.received('chat');
  await world.socket.end(1006);
  await world.pass(live.status.retryIn + 1);
  await world.socket.receive({ open: { session: 's', channels: { chat: { epoch: 'e2', offset: 0, recovered: false } } } });
  await world.pass(5_000);
  assert.deepEqual(marks(world.socket), []);
  await world.socket.receive(message(1));
  live.received('chat');
  assert.deepEqual(marks(world.socket), [{ received: { channel: 'chat', epoch: 'e2', offset: 1 } }], 'and a lower one of the new life is news');
});

test('what the server has against a watermark is a notice, and it is not told again', async () => {
  const world = new World();
  const live = await world.connected(5);
  live.received('chat');
  await world.socket.receive({ reply: 1, error: { code: 'forbidden', message: 'who are you' } });
  assert.deepEqual(live.notices.at(-1), { reply: null, error: { code: 'forbidden', message: 'who are you' } });
  await world.pass(5_000);
  assert.equal(marks(world.socket).length, 1);
  live.close();
  assert.equal(world.timers.length, 0);
});

test('a watermark that the server has no room for now is told again when it has, as it is then', async () => {
  for (const [code, retry_after, wait] of [['rate_limited', 7, 8_250], ['overloaded', undefined, 1_250], ['internal', 0, 1_250]]) {
    const world = new World();
    const live = await world.connected(5);
    live.received('chat');
    await world.socket.receive({ reply: 1, error: { code, retry_after } });
    await world.socket.receive(message(6));
    live.received('chat');
    await world.pass(wait - 1);
    assert.equal(marks(world.socket).length, 1, code);
    await world.pass(1);
    assert.deepEqual(marks(world.socket).slice(1), [{ received: { channel: 'chat', epoch: 'e1', offset: 6 } }], code);
    assert.equal(live.notices.filter(({ error }) => error).length, 0);
  }
});

test('watermarks are posted where there is no socket', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['short_poll'], params: { user: 'ada', device: 'phone' }, since: 'received' });
  assert.equal(world.call.url.search, '?channel=chat&since=received&user=ada&device=phone');
  await world.call.answer(200, poll('e1.2', [message(1), message(2)]));
  live.received('chat');
  assert.deepEqual([world.call.url.search, world.call.commands], ['?user=ada&device=phone', [{ id: 1, received: { channel: 'chat', epoch: 'e1', offset: 2 } }]]);
});

test('since=received stands for every channel until its position is known', async () => {
  const world = new World();
  const live = await world.connect({ channels: ['chat', 'news'], since: 'received' });
  assert.equal(since(world.socket), 'received,received');
  await world.socket.receive(open({ chat: ['e1', 7], news: ['n1', 0] }));
  assert.equal(live.cursor, 'e1.7,n1.0');
  live.follow('more', 'received');
  assert.deepEqual(world.socket.sent.at(-1), { id: 1, subscribe: { channel: 'more', since: 'received' } });
});

test('an ephemeral message is for now: refused while there is no link, and dropped with it', async () => {
  const world = new World();
  const live = await world.connect();
  await assert.rejects(live.publish('chat', 'typing', { ephemeral: true }), { code: 'disconnected' });
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.socket.receive({ reply: 9, error: { code: 'internal' } });
  const kept = quiet(live.publish('chat', 1));
  await world.socket.receive({ reply: 1, error: { code: 'overloaded', retry_after: 5 } });
  const typing = quiet(live.publish('chat', 'typing', { ephemeral: true }));
  assert.equal(named(world.socket, 'publish').length, 1, 'it waits for the server to have room');
  await world.socket.end(1006);
  await assert.rejects(typing, { code: 'disconnected' });
  await world.pass(10_000);
  await world.socket.receive(open({ chat: ['e1', 0] }));
  assert.deepEqual(named(world.socket, 'publish').map(({ publish }) => publish.data), [1]);
  await world.socket.receive({ reply: 1, ok: { epoch: 'e1', offset: 1 } });
  await kept;
});

test('an ephemeral message that is posted names the session, which is not sent it', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse', 'short_poll'] });
  await world.source.receive(open({ chat: ['e1', 0] }, { session: 'mine' }));
  quiet(live.publish('chat', 'typing', { ephemeral: true }));
  assert.equal(world.call.url.searchParams.get('session'), 'mine');
  live.use('short_poll');
  await settle();
  await world.call.answer(200, poll('e1.0'));
  quiet(live.publish('chat', 'typing', { ephemeral: true }));
  assert.equal(world.call.url.searchParams.get('session'), null, 'a poll has none');
});

test('a ticket goes into the URL of the next link, from open and from polls; of another heartbeat the server says', async () => {
  const world = new World();
  const live = await world.connect({ params: { heartbeat: 120 } });
  assert.deepEqual([world.socket.url.searchParams.get('ticket'), world.socket.url.searchParams.get('heartbeat')], [null, '120']);
  await world.socket.receive(open({ chat: ['e1', 0] }, { ticket: 'one', heartbeat: 120 }));
  await world.pass(119_999);
  assert.equal(named(world.socket, 'ping').length, 0);
  await world.pass(1);
  assert.equal(named(world.socket, 'ping').length, 1);
  live.use('short_poll');
  await settle();
  assert.equal(world.call.url.searchParams.get('ticket'), 'one');
  await world.call.answer(200, poll('e1.0', [], { ticket: 'two' }));
  await world.pass(2_000);
  assert.equal(world.call.url.searchParams.get('ticket'), 'two');
  live.use('websocket');
  await settle();
  assert.equal(world.socket.url.searchParams.get('ticket'), 'two');
  await world.socket.receive(open({ chat: ['e1', 0] }));
  live.use('sse');
  await settle();
  assert.equal(world.source.url.searchParams.get('ticket'), null, 'a server that gives none takes none');
});

// ---- content

const blob = (size, type = 'image/png') => new Blob([new Uint8Array(size).map((_, i) => i)], { type });
const KB = 1024;
/** Starts an upload of so many bytes: the POST that makes it is answered, unless `until` says otherwise. */
const uploading = async (bytes, more = {}) => {
  const world = new World();
  const live = await world.connected(0, { params: { user: 'ada' } });
  const steps = [];
  const done = quiet(live.upload('chat', blob(bytes), { progress: (n, of) => steps.push([n, of]), ...more }));
  await settle();
  return { world, live, steps, done };
};
const created = (call, offset = 0, complete = false) => call.answer(201, { content: 'c 1', offset, complete, expires: 3600 }, { 'Upload-Offset': String(offset), 'Upload-Complete': complete ? '?1' : '?0' });
const stands = (call, offset, complete = '?0') => call.answer(204, null, { 'Upload-Offset': String(offset), 'Upload-Complete': complete });

test('an upload is made, then filled piece by piece, the pieces growing with the line, and tells how far it is', async () => {
  const { world, live, steps, done } = await uploading(1000 * KB);
  assert.deepEqual([world.call.method, world.call.url.href, world.call.body], ['POST', 'http://host.test/live/content?user=ada&channel=chat', undefined]);
  assert.deepEqual(world.call.headers, { 'Content-Type': 'image/png', 'Upload-Length': '1024000', 'Upload-Complete': '?0', 'Idempotency-Key': 'key-1' });
  await created(world.call);
  const pieces = [];
  for (let offset = 0; offset < 1000 * KB;) {
    const { method, url, headers, body } = world.call;
    assert.deepEqual([method, url.href], ['PATCH', 'http://host.test/live/content/c%201?user=ada']);
    pieces.push([body.size, headers['Upload-Offset'], headers['Upload-Complete'], headers['Content-Type']]);
    assert.deepEqual([...new Uint8Array(await body.slice(0, 3).arrayBuffer())], [0, 1, 2].map((i) => (offset + i) % 256));
    offset += body.size;
    await stands(world.call, offset, offset === 1000 * KB ? '?1' : '?0');
  }
  assert.deepEqual(pieces, [[256 * KB, '0', '?0', 'application/partial-upload'], [512 * KB, String(256 * KB), '?0', 'application/partial-upload'], [232 * KB, String(768 * KB), '?1', 'application/partial-upload']]);
  assert.equal(await done, 'c 1');
  assert.deepEqual(steps, [256, 768, 1000].map((n) => [n * KB, 1000 * KB]));
  live.publish('chat', { name: 'a.png' }, { content: 'c 1', type: 'file' });
  assert.deepEqual(world.socket.sent.at(-1).publish, { channel: 'chat', data: { name: 'a.png' }, type: 'file', content: 'c 1', key: 'key-2' });
  assert.equal(world.timers.length, 1, 'the heartbeat, and nothing of the upload');
});

test('an upload of nothing is whole when it is made', async () => {
  const { world, done } = await uploading(0);
  assert.equal(world.call.headers['Upload-Complete'], '?1');
  await created(world.call, 0, true);
  assert.equal(await done, 'c 1');
});

test('an upload that was cut asks where it stands, and goes on from there in smaller pieces', async () => {
  for (const fail of [(call) => call.fail(), (call) => call.answer(503, {}), (call) => call.answer(502, {})]) {
    const { world, done } = await uploading(400 * KB);
    await created(world.call);
    await fail(world.call);
    const asked = world.calls.length;
    await world.pass(249);
    assert.equal(world.calls.length, asked, 'after a while');
    await world.pass(1);
    assert.equal(world.call.method, 'HEAD');
    await stands(world.call, 100 * KB);
    assert.deepEqual([world.call.method, world.call.headers['Upload-Offset'], world.call.body.size], ['PATCH', String(100 * KB), 128 * KB]);
    await stands(world.call, 228 * KB);
    await stands(world.call, 400 * KB, '?1');
    assert.equal(await done, 'c 1');
  }
});

test('an upload whose end was heard by the server alone is whole, and one that lacks only its end is given it', async () => {
  for (const whole of [true, false]) {
    const { world, done } = await uploading(10);
    await created(world.call);
    await world.call.fail();
    await world.pass(250);
    await stands(world.call, 10, whole ? '?1' : '?0');
    if (!whole) {
      assert.deepEqual([world.call.method, world.call.headers['Upload-Complete'], world.call.body.size], ['PATCH', '?1', 0]);
      await stands(world.call, 10, '?0');
    }
    assert.equal(await done, 'c 1');
  }
});

test('a POST that made an upload unheard is repeated with its key, and goes on where that stands', async () => {
  const { world, done } = await uploading(10);
  const { headers } = world.call;
  await world.call.fail();
  await world.pass(250);
  assert.deepEqual(world.call.headers, headers);
  await created(world.call, 4);
  assert.equal(world.call.headers['Upload-Offset'], '4');
  await stands(world.call, 10, '?1');
  assert.equal(await done, 'c 1');
});

test('an upload that stands elsewhere than thought goes on there; a conflict without that is the end', async () => {
  const { world, done } = await uploading(10);
  await created(world.call);
  await world.call.answer(409, { code: 'conflict' }, { 'Upload-Offset': '7' });
  assert.equal(world.call.headers['Upload-Offset'], '7');
  await world.call.answer(409, { code: 'conflict' }, { 'Upload-Offset': '7' });
  await assert.rejects(done, { code: 'conflict' });
  assert.equal(world.calls.length, 3);
});

test('an upload that the server no longer knows begins anew under another key, three times', async () => {
  const { world, done } = await uploading(10);
  const keys = [];
  for (let i = 0; i < 4; i++) {
    keys.push(world.call.headers['Idempotency-Key']);
    await created(world.call);
    await world.call.answer(404, { code: 'not_found' });
    await world.pass(i < 3 ? 10_000 : 0);
    await world.socket.receive({ ping: {} });
  }
  await assert.rejects(done, { code: 'not_found' });
  assert.equal(new Set(keys).size, 4);
});

test('what the server will not have is the end of an upload, what it has no room for now is not', async () => {
  for (const [status, code] of [[413, 'too_large'], [403, 'forbidden'], [501, 'not_implemented'], [415, 'unsupported_media']]) {
    const { world, done } = await uploading(10);
    await world.call.answer(status, { code });
    await assert.rejects(done, { code });
  }
  const { world, done } = await uploading(10);
  await world.call.answer(429, { code: 'rate_limited' }, { 'Retry-After': '7' });
  await world.pass(7_249);
  assert.equal(world.calls.length, 1);
  await world.pass(1);
  assert.equal(world.calls.length, 2);
  for (let i = 0; i < 5; i++) {
    await world.call.answer(500, { code: 'internal' });
    await world.pass(30_000);
    await world.socket.receive({ ping: {} });
  }
  await assert.rejects(done, { code: 'internal' });
  assert.equal(world.calls.length, 6);
});

test('an upload that could not reach the server goes on as soon as a connection opens; one that was told to wait does not', async () => {
  for (const told of [false, true]) {
    const { world, live } = await uploading(10);
    await created(world.call);
    await (told ? world.call.answer(503, {}, { 'Retry-After': '60' }) : world.call.fail());
    const asked = world.calls.length;
    live.use('websocket');
    await settle();
    assert.equal(world.calls.length, asked);
    await world.socket.receive(open({ chat: ['e1', 0] }));
    assert.equal(world.calls.length, asked + (told ? 0 : 1));
    live.close();
  }
});

test('answers that are none do not make an upload spin', async () => {
  for (const answer of [(call) => call.answer(200, 'welcome'), (call) => call.answer(201, { content: 'c 1' })]) {
    const { world, done } = await uploading(10);
    for (let i = 0; i < 5; i++) {
      await answer(world.calls.at(-1));
      await world.pass(30_000);
      await world.socket.receive({ ping: {} });
    }
    await assert.rejects(done, { code: 'http_500' });
  }
});

test('an upload waits out a cut, ends with the signal, which takes it away, and with close', async () => {
  const control = new AbortController();
  const { world, live, done } = await uploading(10, { signal: control.signal });
  await created(world.call);
  const cut = world.call;
  live.cut();
  assert.equal(cut.aborted, true);
  await world.pass(100_000);
  assert.equal(world.call, cut);
  live.resume();
  await settle();
  assert.equal(world.call.method, 'HEAD');
  control.abort(new Error('enough'));
  await settle();
  await assert.rejects(done, { message: 'enough' });
  assert.deepEqual([world.call.method, world.call.url.pathname], ['DELETE', '/live/content/c%201']);

  const other = await uploading(10);
  other.live.close();
  await assert.rejects(other.done, { code: 'closed' });
});

test('a transfer that meets 401 goes on with another token', async () => {
  const world = new World();
  let asked = 0;
  const live = await world.connect({ renew: () => `t${asked++}` });
  await world.socket.receive(open({ chat: ['e1', 0] }));
  const done = live.upload('chat', blob(3));
  await settle();
  assert.equal(token_of(world.call), 'Bearer t0');
  await world.call.answer(401, { code: 'unauthenticated' });
  assert.equal(token_of(world.call), 'Bearer t1');
  await created(world.call, 3, true);
  assert.equal(await done, 'c 1');
});

const file = { channel: 'chat', epoch: 'e1', offset: 42, size: 6, content_type: 'image/png' };

test('content is fetched by its place, and goes on where a cut left it, if it is still the same', async () => {
  const world = new World();
  const live = await world.connected(0, { params: { user: 'ada' } });
  const steps = [];
  const done = live.download(file, { progress: (n, of) => steps.push([n, of]) });
  await settle();
  assert.equal(world.call.url.href, 'http://host.test/live/messages?user=ada&channel=chat&epoch=e1&offset=42');
  assert.equal(live.content_url(file), world.call.url.href);
  let body = world.call.stream(200, { ETag: '"x"' });
  await body.send([1, 2]);
  await body.send([3]);
  await body.cut();
  await world.pass(250);
  assert.deepEqual([world.call.headers.Range, world.call.headers['If-Range']], ['bytes=3-', '"x"']);
  body = world.call.stream(206, { ETag: '"x"' });
  await body.send([4, 5]);
  await body.cut();
  await world.pass(250);
  assert.equal(world.call.headers.Range, 'bytes=5-');
  body = world.call.stream(200, { ETag: '"y"' });
  await body.send([6, 5, 4, 3, 2, 1]);
  await body.end();
  const whole = await done;
  assert.deepEqual([[...new Uint8Array(await whole.arrayBuffer())], whole.type], [[6, 5, 4, 3, 2, 1], 'image/png']);
  assert.deepEqual(steps.map(([n]) => n), [2, 3, 5, 6]);
});

test('content that cannot be had is an error, one that pauses for a minute is asked for again', async () => {
  const world = new World();
  const live = await world.connected(0);
  const gone = quiet(live.download(file));
  await settle();
  await world.call.answer(404, { code: 'not_found', detail: 'taken back' });
  await assert.rejects(gone, { code: 'not_found', message: 'taken back' });
  const slow = quiet(live.download(file));
  await settle();
  const body = world.call.stream(200, { ETag: '"x"' });
  await body.send([1]);
  await world.socket.receive({ ping: {} });
  await world.pass(40_000);
  await body.send([2]);
  await world.socket.receive({ ping: {} });
  await world.pass(40_000);
  await world.socket.receive({ ping: {} });
  assert.equal(world.call.aborted, undefined, 'as long as something comes it may take its time');
  const paused = world.call;
  await world.pass(20_250);
  assert.equal(paused.aborted, true);
  assert.equal(world.call.headers.Range, 'bytes=2-');
  live.close();
  await assert.rejects(slow, { code: 'closed' });
});

// ---- channels that come and go

test('WebSocket: follows and leaves channels by command', async () => {
  const world = new World();
  const live = await world.connected();
  live.follow('news', 'earliest');
  assert.deepEqual(world.socket.sent, [{ id: 1, subscribe: { channel: 'news', since: 'earliest' } }]);
  await world.socket.receive({ reply: 1, ok: { epoch: 'n1', offset: 4, recovered: true } });
  await world.socket.receive(message(5, 'news'));
  assert.equal(live.cursor, 'e1.0,n1.5');
  live.unfollow('news');
  await world.socket.receive(message(6, 'news'));
  assert.deepEqual(live.heard, [5]);
  assert.deepEqual(named(world.socket, 'unsubscribe').length, 1);
  assert.equal(live.cursor, 'e1.0');
});

test('WebSocket: a channel that is refused is left out of the next URL', async () => {
  const world = new World();
  const live = await world.connected();
  live.follow('secret');
  await world.socket.receive({ reply: 1, error: { code: 'forbidden', message: 'no' } });
  assert.deepEqual(live.notices.at(-1), { closed: { channel: 'secret', code: 'forbidden', message: 'no' } });
  assert.deepEqual(live.channels, ['chat']);
});

test('a channel whose subscribe went unanswered is in the next URL', async () => {
  const world = new World();
  const live = await world.connected();
  live.follow('news');
  await world.socket.end(1006);
  await world.pass(live.status.retryIn + 1);
  assert.deepEqual(world.socket.url.searchParams.getAll('channel'), ['chat', 'news']);
  assert.equal(since(world.socket), 'e1.0,latest');
});

test('over HTTP a channel more is a new URL', async () => {
  const world = new World();
  const live = await world.connect({ transports: ['sse'] });
  await world.source.receive(open({ chat: ['e1', 7] }));
  live.follow('news');
  await settle();
  assert.deepEqual(world.source.url.searchParams.getAll('channel'), ['chat', 'news']);
  assert.equal(since(world.source), 'e1.7,latest');
});

test('what the host changes is followed', async () => {
  const world = new World();
  const live = await world.connected();
  await world.socket.receive({ followed: { news: { epoch: 'n1', offset: 3, recovered: true } } });
  await world.socket.receive({ closed: { channel: 'chat', code: 'forbidden' } });
  assert.equal(live.cursor, 'n1.3');
});

// ---- the page's own life

test('cut hears and says nothing until it resumes', async () => {
  const world = new World();
  const live = await world.connected();
  const hear = world.socket.onmessage;
  live.cut();
  assert.equal(world.socket.closed, undefined, 'no goodbye');
  hear({ data: JSON.stringify(message(1)) });
  live.publish('chat', 'later');
  await world.pass(100_000);
  assert.deepEqual(live.heard, []);
  assert.deepEqual(world.sockets.length, 1);
  live.resume();
  assert.equal(world.sockets[0].closed, 1000);
  assert.equal(since(world.socket), 'e1.0');
  await world.socket.receive(open({ chat: ['e1', 0] }));
  await world.socket.receive(message(1));
  assert.deepEqual(live.heard, [1]);
  assert.deepEqual(world.socket.sent.map(({ publish }) => publish.data), ['later']);
});

test('a pause says goodbye, and the page coming back does not end it', async () => {
  const world = new World();
  const live = await world.connected();
  live.pause();
  assert.equal(world.socket.closed, 1000);
  assert.deepEqual([live.status.state, live.status.reason], ['offline', 'paused']);
  live.publish('chat', 'later');
  for (const event of ['pagehide', 'pageshow', 'online']) world.page.dispatchEvent(new Event(event));
  await world.pass(100_000);
  assert.equal(world.sockets.length, 1);
  live.resume();
  assert.equal(since(world.socket), 'e1.0');
  await world.socket.receive(open({ chat: ['e1', 0] }));
  assert.deepEqual(world.socket.sent.map(({ publish }) => publish.data), ['later']);
});

test('closes on pagehide and resumes on pageshow, but not what was cut', async () => {
  const world = new World();
  const live = await world.connected();
  world.page.dispatchEvent(new Event('pagehide'));
  assert.equal(world.socket.closed, 1000);
  assert.deepEqual([live.status.state, live.status.reason], ['offline', 'hidden']);
  await world.pass(100_000);
  assert.equal(world.sockets.length, 1);
  world.page.dispatchEvent(new Event('pageshow'));
  assert.equal(world.sockets.length, 2);
  live.cut();
  world.page.dispatchEvent(new Event('pagehide'));
  world.page.dispatchEvent(new Event('pageshow'));
  assert.equal(live.status.state, 'offline');
});

test('comes back at once when the browser is online again', async () => {
  const world = new World();
  const live = await world.connected();
  await world.socket.end(1006);
  world.page.dispatchEvent(new Event('online'));
  assert.equal(world.sockets.length, 2);
  assert.equal(live.status.state, 'connecting');
});

test('counts requests, bytes and messages of each transport', async () => {
  const world = new World();
  const live = await world.connected();
  await world.socket.receive(message(1));
  const text = JSON.stringify({ channel: 'chat', offset: 2, at: 1, data: 'ü'.repeat(100) });
  const { received } = live.costs.websocket;
  world.socket.onmessage({ data: text });
  assert.equal(live.costs.websocket.received - received, Buffer.byteLength(text) + 4, 'UTF-8 and a frame head of four bytes');
  assert.deepEqual([live.costs.websocket.requests, live.costs.websocket.messages], [1, 2]);
  live.use('short_poll');
  await settle();
  const body = poll('e1.3', [message(3)]);
  await world.call.answer(200, body);
  assert.deepEqual([live.costs.short_poll.requests, live.costs.short_poll.messages], [1, 1]);
  assert.ok(live.costs.short_poll.received >= JSON.stringify(body).length);
  assert.equal(live.costs.sse.requests, 0);
});
