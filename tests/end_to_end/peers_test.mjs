// SPDX-License-Identifier: BSL-1.0
//
// npm's `ws` and `eventsource` on the chat, and Node's own fetch for the polls. Between them and the chat stands a relay that
// can break connections without a word, as networks do. What clients receive is compared with what the test published.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const chat = process.env.HAILWIRE_CHAT ?? resolve(root, 'build/release/examples/chat');
const patience = 30_000;  // milliseconds for anything that must happen: far more than it takes

const options = process.env.HAILWIRE_CHAT_OPTIONS?.split(' ') ?? [];
const secure = options.includes('--tls-cert') ? 's' : '';
let server, port, relay, relayed;
const pairs = new Set();
const open = new Set();
let rooms = 0;

before(async () => {
  server = spawn(chat, ['--port', '0', '--drain-seconds', '0', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  port = Number(/^listening on https?:\/\/127\.0\.0\.1:(\d+)\/$/.exec(line)[1]);
  relay = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    const pair = { near, far };
    pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('error', () => {});
      from.on('close', () => { to.destroy(); pairs.delete(pair); });
      from.pipe(to);
    }
  });
  await once(relay.listen(0, '127.0.0.1'), 'listening');
  relayed = relay.address().port;
});

afterEach(() => {
  for (const close of open) close();
  open.clear();
});

after(async () => {
  relay.close();
  for (const { near } of pairs) near.destroy();
  const ended = once(server, 'exit');
  server.kill('SIGTERM');
  assert.equal((await ended)[0], 0, 'SIGTERM ends the chat cleanly');
});

/** Breaks every connection through the relay: the client finds out by itself, the server as well. */
const break_connections = () => { for (const { near, far } of pairs) { near.resetAndDestroy(); far.resetAndDestroy(); } };

const new_room = () => `peer room ${++rooms}`;
const url = (query, { scheme = 'http', through = port } = {}) => `${scheme}${secure}://127.0.0.1:${through}/live?${new URLSearchParams(query)}`;

async function publish(room, data, user = 'host') {
  const answer = await fetch(url({ channel: room, user }), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(data) });
  assert.equal(answer.status, 201);
  return answer.json();
}

/** What arrived, and a way to wait for more. */
class Inbox {
  all = [];
  #waiting = new Set();
  push(item) {
    this.all.push(item);
    for (const check of this.#waiting) check();
  }
  /** Resolves with the first `count` items that `wanted` takes. */
  async take(count, wanted = () => true) {
    const found = () => this.all.filter(wanted);
    if (found().length < count) {
      await new Promise((done, failed) => {
        const late = setTimeout(() => failed(new Error(`${found().length} of ${count} came:\n${JSON.stringify(this.all.slice(-5))}`)), patience);
        const check = () => {
          if (found().length < count) return;
          clearTimeout(late);
          this.#waiting.delete(check);
          done();
        };
        this.#waiting.add(check);
      });
    }
    return found().slice(0, count);
  }
}
const is_message = (it) => 'channel' in it;

/** A WebSocket by `ws`, with its objects in an inbox. */
async function by_ws(query, { through, protocols = ['hailwire.v1'], options = {} } = {}) {
  const socket = new WebSocket(url(query, { scheme: 'ws', through }), protocols, options);
  const client = { socket, inbox: new Inbox(), closed: new Promise((done) => socket.on('close', (code, reason) => done({ code, reason: String(reason) }))) };
  socket.on('message', (data, binary) => client.inbox.push(socket.protocol === 'hailwire.v1.raw' ? { data, binary } : JSON.parse(data)));
  socket.on('error', () => {});
  open.add(() => socket.terminate());
  await once(socket, 'open');
  let id = 0;
  client.command = async (what) => {
    const mine = ++id;
    socket.send(JSON.stringify({ id: mine, ...what }));
    return (await client.inbox.take(1, (it) => it.reply === mine))[0];
  };
  return client;
}

/** An event stream by `eventsource`, which reconnects by itself. Each `open` notice is kept too. */
async function by_eventsource(query, { through } = {}) {
  const source = new EventSource(url(query, { through }));
  const client = { source, inbox: new Inbox(), ids: [] };
  const keep = (event) => {
    if (event.data === undefined) return;  // EventSource's own `open`
    client.ids.push(event.lastEventId);
    client.inbox.push(JSON.parse(event.data));
  };
  for (const name of ['message', 'open', 'gap', 'ping']) source.addEventListener(name, keep);
  open.add(() => source.close());
  await client.inbox.take(1, (it) => it.open);
  return client;
}

/** Polls by fetch until `count` messages have come. */
async function by_polls(query, count, wait) {
  const messages = [];
  let { since } = query;
  while (messages.length < count) {
    const answer = await (await fetch(url({ ...query, since, ...(wait ? { wait } : {}) }))).json();
    assert.deepEqual(answer.notices, []);
    messages.push(...answer.messages);
    since = answer.cursor;
  }
  return messages;
}

function check_record(messages, record) {
  assert.deepEqual(messages.map((m) => m.data), record);
  assert.deepEqual(messages.map((m) => m.offset), messages.map((_, i) => messages[0].offset + i));
}

test('ws, eventsource and both polls see the same messages from one another in the same order', async () => {
  const room = new_room();
  const socket = await by_ws({ channel: room, user: 'ada' });
  const stream = await by_eventsource({ channel: room, user: 'bob' });
  const start = { channel: room, since: (await (await fetch(url({ channel: room }))).json()).cursor };
  const polls = [by_polls({ ...start, user: 'eve' }, 60), by_polls({ ...start, user: 'joe' }, 60, 20)];
  const record = new Map();
  await Promise.all(['ada', 'bob', 'eve', 'joe'].map(async (user) => {
    for (let i = 0; i < 15; i++) {
      const data = { user, i };
      const at = user === 'ada' ? (await socket.command({ publish: { channel: room, data } })).ok : await publish(room, data, user);
      record.set(at.offset, data);
    }
  }));
  const in_order = [...record].sort(([a], [b]) => a - b).map(([, data]) => data);
  assert.equal(in_order.length, 60);
  const seen = [await socket.inbox.take(60, is_message), await stream.inbox.take(60, is_message), ...await Promise.all(polls)];
  for (const messages of seen) {
    check_record(messages, in_order);
    assert.deepEqual(messages, seen[0]);
    assert.deepEqual(messages.map((m) => m.from), in_order.map((data) => data.user));
  }
});

test('eventsource reconnects by itself with its id, and neither loses nor repeats', async () => {
  const room = new_room();
  const record = [];
  const say = async (n) => { for (let i = 0; i < n; i++) { record.push(`line ${record.length}`); await publish(room, record.at(-1)); } };
  await say(3);
  const stream = await by_eventsource({ channel: room, since: 'earliest' }, { through: relayed });
  await say(10);
  for (let cut = 1; cut <= 2; cut++) {
    const talking = say(20);
    await stream.inbox.take(record.length - 5, is_message);
    break_connections();
    await talking;
    await say(5);
    await stream.inbox.take(1 + cut, (it) => it.open);
  }
  await say(3);
  check_record(await stream.inbox.take(record.length, is_message), record);
  assert.equal(stream.inbox.all.filter((it) => it.gap).length, 0);
  for (const it of stream.inbox.all.filter((one) => one.open)) assert.equal(it.open.channels[room].recovered, true);
});

test('a ws client that is cut off goes on as eventsource, and comes back as ws, on its cursor', async () => {
  const room = new_room();
  const record = [];
  const say = async (n) => { for (let i = 0; i < n; i++) { record.push(record.length); await publish(room, record.at(-1)); } };
  const got = [];
  await say(2);
  const first = await by_ws({ channel: room, since: 'earliest' }, { through: relayed });
  const talking = say(20);
  got.push(...await first.inbox.take(8, is_message));
  break_connections();
  await talking;
  assert.equal((await first.closed).code, 1006);
  const { epoch } = first.inbox.all[0].open.channels[room];

  const second = await by_eventsource({ channel: room, since: `${epoch}.${got.at(-1).offset}` });
  await say(4);
  got.push(...await second.inbox.take(record.length - got.length, is_message));
  const cursor = second.ids.at(-1);
  assert.equal(cursor, `${epoch}.${got.at(-1).offset}`, 'the last id is the cursor');
  second.source.close();
  await say(4);

  const third = await by_ws({ channel: room, since: cursor });
  await say(4);
  got.push(...await third.inbox.take(record.length - got.length, is_message));
  check_record(got, record);
});

test('ws subscribes and unsubscribes, reads history, pings and is pinged', async () => {
  const [one, two] = [new_room(), new_room()];
  for (let i = 0; i < 5; i++) await publish(two, i);
  const client = await by_ws({ user: 'ada' });
  assert.deepEqual((await client.inbox.take(1))[0].open.channels, {});
  const { ok } = await client.command({ subscribe: { channel: one } });
  assert.deepEqual([ok.offset, ok.recovered], [0, true]);
  const from_start = await client.command({ subscribe: { channel: two, since: 'earliest' } });
  assert.deepEqual([from_start.ok.offset, from_start.ok.recovered], [0, true]);
  check_record(await client.inbox.take(5, (it) => it.channel === two), [0, 1, 2, 3, 4]);
  const again = await client.command({ subscribe: { channel: two } });
  assert.equal(again.error.code, 'bad_request');
  const history = await client.command({ history: { channel: two, before: 5, limit: 2 } });
  assert.deepEqual(history.ok.messages.map((m) => m.offset), [3, 4]);
  assert.deepEqual((await client.command({ ping: {} })).ok, {});

  // Its own publish: `ok` comes before the message.
  const { ok: at } = await client.command({ publish: { channel: one, data: 'mine', type: 'note' } });
  const [mine] = await client.inbox.take(1, (it) => it.channel === one);
  assert.deepEqual([mine.offset, mine.from, mine.type, mine.data], [at.offset, 'ada', 'note', 'mine']);
  assert.ok(client.inbox.all.findIndex((it) => it.ok?.offset === at.offset && it.ok.epoch === at.epoch) < client.inbox.all.indexOf(mine));

  assert.deepEqual((await client.command({ unsubscribe: { channel: two } })).ok, {});
  await publish(two, 'unheard');
  await publish(one, 'heard');
  await client.inbox.take(1, (it) => it.data === 'heard');
  assert.equal(client.inbox.all.some((it) => it.data === 'unheard'), false);

  client.socket.ping('are you there');
  const [pong] = await once(client.socket, 'pong');
  assert.equal(String(pong), 'are you there');
  client.socket.close(1000, 'done');
  assert.equal((await client.closed).code, 1000);
});

test('ws offers subprotocols, a token beside them and compression, and is given what the protocol says', async () => {
  const room = new_room();
  for (const [protocols, chosen] of [
    [['hailwire.v1'], 'hailwire.v1'], [['hailwire.v1', 'bearer.TOKEN'], 'hailwire.v1'], [['bearer.TOKEN', 'hailwire.v1'], 'hailwire.v1'],
    [['hailwire.v1.raw', 'hailwire.v1'], 'hailwire.v1.raw'], [['other', 'hailwire.v1'], 'hailwire.v1'], [[], ''],
  ]) {
    const client = await by_ws({ channel: room }, { protocols, options: { perMessageDeflate: true } });
    assert.equal(client.socket.protocol, chosen);
    await publish(room, 'x'.repeat(5000));
    await client.inbox.take(1, (it) => is_message(it) || 'binary' in it);
    client.socket.terminate();
  }
});

test('raw: payloads alone, text and binary, both ways', async () => {
  const room = new_room();
  const raw = await by_ws({ channel: room, user: 'ada' }, { protocols: ['hailwire.v1.raw'] });
  const other = await by_ws({ channel: room });
  raw.socket.send('a text\nof two lines');
  raw.socket.send(Buffer.from([0, 255, 10]));
  await other.inbox.take(2, is_message);
  await publish(room, { a: [1, 2] });
  const messages = await other.inbox.take(3, is_message);
  assert.deepEqual(messages.map(({ data, bytes, from }) => [data, bytes, from]),
    [['a text\nof two lines', undefined, 'ada'], [undefined, 'AP8K', 'ada'], [{ a: [1, 2] }, undefined, 'host']]);
  const frames = await raw.inbox.take(3);
  assert.deepEqual(frames.map(({ data, binary }) => [binary ? [...data] : String(data), binary]),
    [['a text\nof two lines', false], [[0, 255, 10], true], ['{"a":[1,2]}', false]]);
});

test('what ws may not open answers with the status that says why', async () => {
  for (const [query, options, status] of [
    [{ channel: '@ada', user: 'bob' }, {}, 403],
    [{ channel: 'a', since: 'nonsense' }, {}, 400],
    [{ channel: '' }, {}, 400],
    [{ channel: 'a' }, { origin: 'https://evil.example' }, 403],
  ]) {
    const socket = new WebSocket(url(query, { scheme: 'ws' }), ['hailwire.v1'], options);
    const [, response] = await once(socket, 'unexpected-response');
    assert.equal(response.statusCode, status, JSON.stringify(query));
    assert.equal(response.headers['content-type'], 'application/problem+json');
    socket.on('error', () => {});
    socket.terminate();
  }
});

test('eventsource gives up on what will not become right, and says the status', async () => {
  for (const [query, status] of [[{ channel: '@ada', user: 'bob' }, 403], [{ channel: 'a', since: 'nonsense' }, 400]]) {
    const source = new EventSource(url(query));
    open.add(() => source.close());
    const [event] = await once(source, 'error');
    assert.equal(event.code, status);
    assert.equal(source.readyState, EventSource.CLOSED);
  }
});

test('a message that ws sends over the limit closes it with 1009, and its neighbour goes on', async () => {
  const room = new_room();
  const neighbour = await by_eventsource({ channel: room });
  const client = await by_ws({ channel: room, user: 'ada' });
  client.socket.send(JSON.stringify({ publish: { channel: room, data: 'x'.repeat(3 << 20) } }));
  assert.equal((await client.closed).code, 1009);
  await publish(room, 'still here');
  assert.equal((await neighbour.inbox.take(1, is_message))[0].data, 'still here');
});

test('an HTTP client by fetch keeps one connection for many requests', async () => {
  const room = new_room();
  const tags = new Set();
  for (let i = 0; i < 50; i++) {
    await publish(room, i);
    const answer = await fetch(url({ channel: room, since: 'earliest' }));
    assert.equal((await answer.json()).messages.length, i + 1);
    tags.add(answer.headers.get('etag'));
  }
  assert.equal(tags.size, 50);
  const same = await fetch(url({ channel: room }), { headers: { 'If-None-Match': [...tags].at(-1) } });
  assert.equal(same.status, 304);
});
