// SPDX-License-Identifier: BSL-1.0
//
// Event streams whose connections are cut at any byte, followed by three of npm's clients, as they are: `eventsource` 3 keeps an
// id when its block ends, `eventsource` 2 and `fetch-event-source` as soon as they have read its line. Between a client and the
// chat stands a relay that lets a number of bytes through and then ends the connection. What a client hears is compared with
// what the test published: every message once, in order, or a gap that says what is missing.
//
// One byte is the exception, and the page of the protocol names it: between the end of the id's line and the blank line the last two
// have kept the id of an event that they have not told. The relay knows when it has cut there; nothing else may be missing.
//
// HAILWIRE_CUT_MESSAGES (300) for each run at random, HAILWIRE_CUT_SEED (1) decides where the cuts are.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fetch_event_source from '@microsoft/fetch-event-source';
import { EventSource as EventSource3 } from 'eventsource';
import EventSource2 from 'eventsource-2';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const program = process.env.HAILWIRE_CHAT ?? resolve(root, 'build/release/examples/chat');
const MESSAGES = Number(process.env.HAILWIRE_CUT_MESSAGES ?? 300);
const SEED = Number(process.env.HAILWIRE_CUT_SEED ?? 1);
const HISTORY = 40;  // of the chat that forgets
const patience = 60_000 + MESSAGES * 20;  // milliseconds for a whole run: far more than it takes

/** Whole numbers from 0 to n-1, from a seed: a counter that is mixed (the constants are those of MurmurHash3's finalizer), so no short cycle. */
function dice(seed) {
  let count = seed * 1_000_003;
  return (n) => {
    let x = count++ >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) % n;
  };
}

// ---- the chats, one of which forgets -----------------------------------------------------------------------------------

const chats = {};

async function start(...more) {
  const server = spawn(program, ['--port', '0', '--drain-seconds', '0', ...more], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  return { server, port: Number(/:(\d+)\/$/.exec(line)[1]) };
}

before(async () => {
  chats.keeps = await start('--history', '1000000');
  chats.forgets = await start('--history', String(HISTORY));
  chats.forgets_soon = await start('--history', '2');
});
after(async () => {
  for (const { server } of Object.values(chats)) {
    const ended = once(server, 'exit');
    server.kill('SIGTERM');
    assert.equal((await ended)[0], 0);
  }
});

let rooms = 0;
const new_rooms = (n) => Array.from({ length: n }, () => `cut room ${String(++rooms).padStart(6, '0')}`);
const url = (port, query) => `http://127.0.0.1:${port}/live?${new URLSearchParams(query)}`;
const following = (port, channels, since) => url(port, [...channels.map((channel) => ['channel', channel]), ['since', since]]);

/** One POST with one command for each [channel, data]; the positions. */
async function publish(chat, messages) {
  const body = JSON.stringify(messages.map(([channel, data], id) => ({ id, publish: { channel, data } })));
  // A user of its own for each room: one may send 1,000 commands a second.
  const answer = await fetch(url(chat.port, { user: `host of ${messages[0][0]}` }), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  assert.equal(answer.status, 200);
  const replies = await answer.json();
  assert.deepEqual(replies.filter(({ error }) => error), []);
  return replies.map(({ ok }) => ok);
}

// ---- the relay ---------------------------------------------------------------------------------------------------------

/** What the chunks of an answer hold (RFC 9112, section 7.1), also of the last that is not whole; without chunks, all. */
function body_of(raw) {
  const head = raw.indexOf('\r\n\r\n');
  if (head < 0) return '';
  if (!/^transfer-encoding: chunked\r?$/im.test(raw.toString('latin1', 0, head))) return raw.toString('utf8', head + 4);
  const parts = [];
  for (let at = head + 4; ;) {
    const line = raw.indexOf('\r\n', at);
    if (line < 0) break;
    const size = parseInt(raw.toString('latin1', at, line), 16);
    parts.push(raw.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
  return Buffer.concat(parts).toString();
}

/** The data of the event of which all but the blank line has come, if the stream ends there. */
function untold(raw) {
  const block = /(?:^|\n\n)([^\n]+\n)+$/.exec(body_of(raw))?.[0];
  const data = /\nid: [^\n]+\n$/.test(block ?? '') && /^data: (.*)$/m.exec(block)?.[1];
  return data ? JSON.parse(data) : undefined;
}

/**
 * Lets `allowed(n, raw)` bytes of the answer on its n-th connection through, of which `raw` have come, and then ends it. With
 * `old` it asks the chat in HTTP/1.0, as nginx does: the answer has no chunks and ends with its connection. A client is told to
 * come back after 1 ms. Newcomers that the chat refuses, since more than 1,000 came within a second, are told so and not counted.
 */
class Relay {
  raw = [];  // of each connection
  cuts = 0;
  exceptions = [];  // the data of the events that were cut in that one byte
  #pairs = new Set();
  #alive = new Set();  // what cuts each connection that lives

  static async open(chat, { allowed, old = false }) {
    const relay = new Relay();
    relay.server = createServer((near) => relay.#serve(near, connect(chat.port, '127.0.0.1'), allowed, old));
    await once(relay.server.listen(0, '127.0.0.1'), 'listening');
    relay.port = relay.server.address().port;
    return relay;
  }

  #serve(near, far, allowed, old) {
    let n, seen = Buffer.alloc(0), told = 0;
    this.#pairs.add(near).add(far);
    const cut = (rest) => {
      if (!this.#alive.delete(cut)) return;
      const heard = seen.subarray(0, told);
      if (n !== undefined) this.raw[n] = heard;
      this.cuts++;
      const data = untold(heard);
      if (data) this.exceptions.push(data);
      near.end(rest);
      far.destroy();
      this.when_cut?.();
    };
    this.#alive.add(cut);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => {});
      one.on('close', () => { other.destroy(); this.#pairs.delete(one); this.#alive.delete(cut); });
    }
    near.on('data', (bytes) => far.write(old ? bytes.toString('latin1').replace(' HTTP/1.1\r\n', ' HTTP/1.0\r\n') : bytes, 'latin1'));
    far.on('data', (bytes) => {
      let raw = Buffer.concat([seen, bytes]);
      const retry = told ? -1 : raw.indexOf('retry: ');
      if (retry >= 0) raw = Buffer.from(raw.toString('latin1').replace(/(?<=retry: )\d+/, (ms) => '1'.padStart(ms.length, '0')), 'latin1');
      seen = raw;
      if (!told && !raw.includes('\n\n')) return;  // what is rewritten lies within the first block
      if (!told && raw.includes('{"bye":{"code":"overloaded"')) return near.end(raw);
      n ??= this.raw.length;
      this.raw[n] = raw;
      const most = allowed(n, raw);
      const rest = raw.subarray(told, Math.min(most, raw.length));
      told += rest.length;
      if (raw.length < most) return near.write(rest);
      cut(rest);
    });
  }

  /** Cuts what lives where it stands: an idle connection hears nothing before the next heartbeat. */
  cut() {
    for (const cut of [...this.#alive]) cut();
  }

  close() {
    this.server.close();
    for (const socket of this.#pairs) socket.destroy();
  }
}

// ---- the clients: each calls `hear` with the data of each event, and returns what ends it ------------------------------

const NAMES = ['message', 'open', 'gap', 'ping'];

const CLIENTS = {
  'eventsource 3': {
    keeps_id_at_its_line: false,
    follow(target, hear) {
      const source = new EventSource3(target);
      for (const name of NAMES) source.addEventListener(name, (event) => event.data === undefined || hear(event.data));
      return () => source.close();
    },
  },
  'eventsource 2': {
    keeps_id_at_its_line: true,
    follow(target, hear) {
      const source = new EventSource2(target);
      // It also keeps the data of a block that was cut, and puts it before that of the next event: the `open` of its next connection.
      const own = ({ data }) => data === undefined || hear(data.split('\n').at(-1));
      for (const name of NAMES) source.addEventListener(name, own);
      return () => source.close();
    },
  },
  'fetch-event-source': {
    keeps_id_at_its_line: true,
    follow(target, hear) {
      const control = new AbortController();
      fetch_event_source.fetchEventSource(target, {
        signal: control.signal,
        openWhenHidden: true,
        onmessage: ({ data }) => hear(data),
        onclose() { throw new Error('comes back'); },  // what its page recommends for a stream that has no end
      });
      return () => control.abort();
    },
  },
};
globalThis.window = globalThis;  // where fetch-event-source looks for timers and fetch
globalThis.document = new EventTarget();

/** What one client hears through one relay, held against the rule: the next message, or a gap that leads to it. */
class Listener {
  constructor(client, relay, channels, places) {
    this.client = client, this.relay = relay;
    this.at = new Map(places?.map(({ epoch, offset }, i) => [channels[i], [epoch, offset]]));
    const since = places?.map(({ epoch, offset }) => `${epoch}.${offset}`).join() ?? 'earliest';
    this.heard = new Map(channels.map((channel) => [channel, []]));
    this.gaps = [], this.opens = 0, this.repeats = 0, this.wrong = [];
    this.lost = [];  // messages that nothing told of
    relay.when_cut = () => this.check?.();
    this.close = client.follow(following(relay.port, channels, since), (data) => {
      try {
        this.#take(JSON.parse(data));
      } catch (why) {
        this.wrong.push(`${why.message}: ${data}`);
      }
      this.check?.();
    });
  }

  #take(it) {
    if (it.open) {
      this.opens++;
      // Who began at a word learns here where that is; who had a place stands there until a gap says otherwise.
      for (const [channel, { epoch, offset }] of Object.entries(it.open.channels)) if (!this.at.has(channel)) this.at.set(channel, [epoch, offset]);
    } else if (it.gap) {
      const { channel, epoch, next } = it.gap;
      const at = this.at.get(channel);
      if (epoch !== at[0]) return this.wrong.push(`a gap into another epoch: ${JSON.stringify(it)} at ${at}`);
      if (next <= at[1] + 1) return this.repeats++;
      this.gaps.push(it.gap);
      this.at.set(channel, [epoch, next - 1]);
    } else if (it.channel) {
      const at = this.at.get(it.channel);
      if (it.offset <= at[1]) return this.repeats++;
      for (let offset = at[1] + 1; offset < it.offset; offset++) this.lost.push({ channel: it.channel, offset });
      at[1] = it.offset;
      this.heard.get(it.channel).push([it.offset, it.data]);
    }
  }

  last(channel) {
    return this.heard.get(channel).at(-1)?.[1];
  }

  /** How many messages lie behind it, in all channels. */
  reached() {
    return [...this.at.values()].reduce((sum, [, offset]) => sum + offset, 0);
  }

  /** What is missing without a word, but for what was cut in the one byte. */
  unexplained() {
    const { exceptions } = this.relay;
    return this.lost.filter(({ channel, offset }) => !exceptions.some((it) =>
      (it.channel === channel && it.offset === offset) || (it.gap?.channel === channel && offset < it.gap.next)));
  }

  async until(condition, what) {
    if (condition()) return;
    await new Promise((done, failed) => {
      const late = setTimeout(() => failed(new Error(`${what} did not come: ${JSON.stringify([...this.at])}, ${this.relay.cuts} cuts; ${this.wrong}`)), patience);
      this.check = () => {
        if (!condition()) return;
        clearTimeout(late);
        this.check = undefined;
        done();
      };
    });
  }

  /** The promise: each message at its place, nothing missing without a word, and with one channel nothing told again. */
  check_record(record) {
    assert.deepEqual(this.wrong, []);
    assert.deepEqual(this.unexplained(), []);
    if (!this.client.keeps_id_at_its_line) assert.deepEqual(this.lost, []);
    if (record.size === 1) assert.equal(this.repeats, 0);
    for (const [channel, messages] of this.heard) {
      assert.deepEqual(messages.map(([, data]) => data), messages.map(([offset]) => record.get(channel)[offset - 1]));
    }
  }
}

const how_of = (name, count, old) => `${name}, ${count === 1 ? 'one channel' : 'several channels'}, HTTP/1.${old ? 0 : 1}`;

// ---- at random ---------------------------------------------------------------------------------------------------------

/** Publishes while `client` is cut again and again; from a chat that forgets, while it cannot connect at all for some time. */
async function follow_through_cuts(context, { client, chat, count, old }) {
  const roll = dice(SEED);
  const channels = new_rooms(count);
  const lengths = [];
  let shut = false;
  // Of several channels only the last event of a batch has an id, so that some connections have to live for a batch.
  const allowed = (n) => (shut ? 0 : lengths[n] ??= count === 1 ? roll(1500) : roll(roll(3) ? 2000 : 8000));
  const relay = await Relay.open(chat, { old, allowed });
  const listener = new Listener(client, relay, channels);
  context.after(() => { listener.close(); relay.close(); });
  const record = new Map(channels.map((channel) => [channel, []]));
  const say = async (messages) => {
    for (const [channel, data] of messages) record.get(channel).push(data);
    await publish(chat, messages);
  };
  let said = 0;
  const batch = (size) => Array.from({ length: size }, () => [channels[roll(count)], { n: said++, text: 'x'.repeat(roll(60)) }]);
  await listener.until(() => listener.opens, 'open');
  while (said < MESSAGES) {
    shut = chat === chats.forgets && (said === 0 || roll(4) === 0);
    const before = relay.cuts;
    if (shut) {
      relay.cut();
      await listener.until(() => relay.cuts > before, 'a cut');
    }
    for (let i = shut ? 2 * count : 1; i > 0; i--) await say(batch(shut ? HISTORY : 1 + roll(12)));
    shut = false;
    await listener.until(() => listener.reached() >= said - 12, 'the next ones');  // it reads what is kept, and what is new
  }
  // The last message of a channel shows whether all before it were told. One that was cut in the one byte itself is said again.
  const missing = () => channels.filter((channel) => listener.last(channel) !== 'the last');
  while (missing().length) {
    const before = relay.exceptions.length;
    await say(missing().map((channel) => [channel, 'the last']));
    await listener.until(() => !missing().length || relay.exceptions.length > before, 'the last');
  }
  const elsewhere = listener.unexplained().length;
  context.diagnostic(`${said} messages, ${relay.cuts} cuts, ${relay.exceptions.filter((it) => !it.open).length} of them in the one byte: ` +
    `${listener.lost.length - elsewhere} lost there, ${elsewhere} elsewhere; ${listener.repeats} told again, ${listener.gaps.length} gaps`);
  listener.check_record(record);
  assert.ok(relay.cuts > MESSAGES / 30, 'it was cut again and again');
  return listener;
}

for (const [name, client] of Object.entries(CLIENTS)) {
  for (const [count, old] of [[1, false], [1, true], [3, false]]) {
    const how = how_of(name, count, old);
    test(`cut at random, nothing is lost, nor doubled: ${how}`, async (context) => {
      const listener = await follow_through_cuts(context, { client, chat: chats.keeps, count, old });
      assert.deepEqual(listener.gaps, []);
    });
    test(`cut at random, what is forgotten meanwhile is told as a gap: ${how}`, async (context) => {
      const listener = await follow_through_cuts(context, { client, chat: chats.forgets, count, old });
      assert.ok(listener.gaps.length > 0);
    });
  }
}

// ---- at every byte -----------------------------------------------------------------------------------------------------

/**
 * A client that stood behind the first message of each channel, of which the next one is forgotten, comes back by two connections: the
 * first is cut behind `most` bytes, the second lives.
 */
async function come_back(client, count, old, most) {
  const chat = chats.forgets_soon;
  const channels = new_rooms(count);
  const record = new Map(channels.map((channel) => [channel, []]));
  const say = (...words) => {
    const messages = channels.flatMap((channel) => words.map((word) => [channel, word]));
    for (const [channel, data] of messages) record.get(channel).push(data);
    return publish(chat, messages);
  };
  const places = await say('heard');
  await say('forgotten', 'one', 'and two');
  const relay = await Relay.open(chat, { old, allowed: (n) => (n ? Infinity : most) });
  const listener = new Listener(client, relay, channels, places);
  const all_at = (word) => channels.every((channel) => listener.last(channel) === word);
  try {
    const exception = () => relay.exceptions.find((it) => !it.open);
    await listener.until(() => all_at('and two') || exception()?.data === 'and two', 'what was published');
    const [raw] = relay.raw;
    if (!all_at('and two')) {  // the last one was cut in the one byte: only another can show that, which may cost one more its place
      await say('the last');
      await listener.until(() => all_at('the last'), 'the last');
    }
    listener.check_record(record);
    return { raw, gaps: new Set(listener.gaps.map(({ channel }) => channel)).size, lost: listener.lost.length, exception: exception() };
  } finally {
    listener.close();
    relay.close();
  }
}

/** Calls `each` for 0 to n-1, a few at a time. */
async function some_at_a_time(n, each) {
  let next = 0;
  await Promise.all(Array.from({ length: 12 }, async () => { while (next < n) await each(next++); }));
}

for (const [name, client] of Object.entries(CLIENTS)) {
  for (const [count, old] of [[1, false], [1, true], [2, false]]) {
    test(`cut at every byte, a client that comes back hears of the gap, and each message once: ${how_of(name, count, old)}`, async (context) => {
      const { raw } = await come_back(client, count, old, Infinity);
      const begin = raw.indexOf('\nid: ');  // of `open`: whoever is cut before it has heard nothing
      const cut = { gap: 0, message: 0 }, lost = { gap: 0, message: 0 };
      await some_at_a_time(raw.length - begin, async (i) => {
        const back = await come_back(client, count, old, begin + i);
        const what = back.exception && (back.exception.gap ? 'gap' : 'message');
        if (what) cut[what]++;
        const fine = back.lost === 0 && back.gaps === count;
        if (!fine) assert.ok(what && client.keeps_id_at_its_line, `${back.lost} lost, ${back.gaps} gaps, cut behind ${begin + i} bytes`);
        if (!fine) lost[what]++;
      });
      context.diagnostic(`cut behind each of ${raw.length - begin} bytes; in the one byte: ${cut.gap} gaps, of which ${lost.gap} went unheard, and ` +
        `${cut.message} messages, of which ${lost.message} were lost; elsewhere none`);
      // With one channel the gap and each message have an id, with two each gap and the last message of each batch.
      assert.deepEqual(cut, count === 1 ? { gap: 1, message: 2 } : { gap: 2, message: 2 });
      // That byte is worth its place on the page: it does cost those clients what it is said to cost.
      if (client.keeps_id_at_its_line && old) assert.deepEqual(lost, cut);
    });
  }
}
