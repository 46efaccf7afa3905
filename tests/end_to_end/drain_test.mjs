// SPDX-License-Identifier: BSL-1.0
//
// A chat that drains and is started anew, under clients that know nothing of hailwire: npm's `eventsource` 3 and 2, and Chromium's
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
const EACH = 12, IN_A_PAGE = 5;  // a page has six connections to an origin
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

/** What is told of each stream: `['open'|'bye'|'message', when, what]`. Runs in a page as well. */
function follow(EventSource, url, note) {
  const source = new EventSource(url);
  source.addEventListener('open', (event) => { if (event.data) note('open', performance.now(), null); });
  source.addEventListener('bye', (event) => note('bye', performance.now(), JSON.parse(event.data).bye.after));
  source.onmessage = (event) => note('message', performance.now(), JSON.parse(event.data).data);
  return source;
}

test('everybody comes back within the span that bye has named, each at a time of its own, and has lost nothing', async () => {
  const seen = new Map(), waiting = [];
  const note = (name) => (...what) => {
    seen.set(name, [...(seen.get(name) ?? []), what]);
    for (const look of [...waiting]) look();
  };
  const all = 2 * EACH + IN_A_PAGE;
  const until = (fine) => new Promise((done) => {
    const look = () => {
      if (seen.size < all || ![...seen.values()].every(fine)) return;
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
  await drain();
  await start();
  await publish('after');
  await until((told) => told.some(([, , data]) => data === 'after'));

  const waits = [];
  for (const [name, told] of seen) {
    assert.deepEqual(told.filter(([what]) => what === 'message').map(([, , data]) => data), ['before', 'after'], name);
    const bye = told.find(([what]) => what === 'bye');
    const again = told.find(([what, at]) => what === 'open' && at > bye[1]);
    waits.push(again[1] - bye[1]);
    assert.ok(waits.at(-1) >= bye[2][0] - 5, `${name} came back after ${waits.at(-1)} ms, told was ${bye[2]}`);
  }
  const tenths = new Set(waits.map((ms) => Math.floor(ms / 50)));
  assert.ok(tenths.size > all / 6, `they came back at ${waits.map(Math.round)}`);
  for (const source of sources) source.close();
  await page.close();
});
