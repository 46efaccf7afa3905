// SPDX-License-Identifier: BSL-1.0
//
// A chat that drains, or is killed, and is started anew, under clients that know nothing of hailwire: npm's `eventsource` 3 and 2, and Chromium's
// own EventSource. They heed `retry:` alone, so each is given a time of its own within the span of its `bye`.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EventSource as EventSource3 } from 'eventsource';
import EventSource2 from 'eventsource-2';
import { chromium } from 'playwright-core';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const program = process.env.HAILWIRE_CHAT ?? resolve(root, 'build/release/examples/chat');
const EACH = 12, IN_A_PAGE = 5, ALL = 2 * EACH + IN_A_PAGE;  // a page has six connections to an origin
let folder, chat, port = 0, browser;

async function start() {
  chat = spawn(program, ['--port', String(port), '--storage', `sqlite:${folder}/chat.db`], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: chat.stdout }), 'line');
  port = Number(/:(\d+)\/$/.exec(line)[1]);
}

async function drain() {
  const ended = once(chat, 'exit');
  chat.kill('SIGTERM');
  assert.equal((await ended)[0], 0);
}

async function kill() {
  const ended = once(chat, 'exit');
  chat.kill('SIGKILL');
  await ended;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hailwire-drain-'));
  await start();
  browser = await chromium.launch({ executablePath: process.env.HAILWIRE_CHROMIUM ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
});
after(async () => {
  await browser?.close();
  await drain();
  rmSync(folder, { recursive: true });
});

async function publish(data) {
  const answer = await fetch(`http://127.0.0.1:${port}/live?channel=room`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(data) });
  assert.equal(answer.status, 201);
}

async function refused() {
  const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/^hailwire_refusals_total\{code="overloaded"\} (\d+)$/m.exec(page)[1]);
}

/** What is told of each stream: `['open'|'bye'|'error'|'message', when, what]`. Runs in a page as well. */
function follow(EventSource, url, note) {
  const source = new EventSource(url);
  source.addEventListener('open', (event) => { if (event.data) note('open', performance.now(), null); });
  source.addEventListener('bye', (event) => note('bye', performance.now(), JSON.parse(event.data).bye.after));
  source.addEventListener('error', () => note('error', performance.now(), null));
  source.onmessage = (event) => note('message', performance.now(), JSON.parse(event.data).data);
  return source;
}

/** Has everybody follow, ends the chat by `end`, starts it anew; by name what each was told, when all have heard all. */
async function restart(end) {
  const seen = new Map(), waiting = [];
  const note = (name) => (...what) => {
    seen.set(name, [...(seen.get(name) ?? []), what]);
    for (const look of [...waiting]) look();
  };
  const until = (fine) => new Promise((done) => {
    const look = () => {
      if (seen.size < ALL || ![...seen.values()].every(fine)) return;
      waiting.splice(waiting.indexOf(look), 1);
      done();
    };
    waiting.push(look);
    look();
  });
  const url = `http://127.0.0.1:${port}/live?channel=room`;
  const sources = [];
  for (let i = 0; i < EACH; ++i) sources.push(follow(EventSource3, url, note(`eventsource 3, ${i}`)), follow(EventSource2, url, note(`eventsource 2, ${i}`)));
  const page = await browser.newPage();
  await page.exposeFunction('told', (i, ...what) => note(`Chromium, ${i}`)(...what));
  await page.goto(`http://127.0.0.1:${port}/config.json`);
  await page.evaluate(`const follow = ${follow}; for (let i = 0; i < ${IN_A_PAGE}; ++i) follow(EventSource, ${JSON.stringify(url)}, (...what) => told(i, ...what));`);

  await until((told) => told.some(([what]) => what === 'open'));
  await publish('before');
  await until((told) => told.some(([, , data]) => data === 'before'));
  await end();
  await start();
  await publish('after');
  await until((told) => told.some(([, , data]) => data === 'after'));
  assert.equal(await refused(), 0);
  for (const source of sources) source.close();
  await page.close();
  for (const [name, told] of seen) assert.deepEqual(told.filter(([what]) => what === 'message').map(([, , data]) => data), ['before', 'after'], name);
  return seen;
}

/** How long each waited from what it was told first to its next `open`; and that they did not all come at once. */
function waits(seen, first) {
  const all = new Map();
  for (const [name, told] of seen) {
    const from = told.find(([what]) => what === first);
    all.set(name, told.find(([what, at]) => what === 'open' && at > from[1])[1] - from[1]);
  }
  const moments = new Set([...all.values()].map((ms) => Math.floor(ms / 50)));
  assert.ok(moments.size > ALL / 6, `they came back at ${[...all.values()].map(Math.round)}`);
  return all;
}

test('everybody comes back within the span that bye has named, each at a time of its own, and has lost nothing', async () => {
  const seen = await restart(drain);
  for (const [name, ms] of waits(seen, 'bye')) {
    const [, , after] = seen.get(name).find(([what]) => what === 'bye');
    assert.ok(ms >= after[0] - 5, `${name} came back after ${ms} ms, told was ${after}`);
  }
});

test('of a chat that was killed everybody comes back as its retry: has said, each at a time of its own, and has lost nothing', async () => {
  const seen = await restart(kill);
  for (const [name, ms] of waits(seen, 'error')) assert.ok(ms >= 2000 - 5, `${name} came back after ${ms} ms`);
});
