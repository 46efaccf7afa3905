// SPDX-License-Identifier: BSL-1.0
//
// Headless Chromium drives the chat page of the real binary over each transport. What each page shows is compared with
// what the test itself published: every message once, in order.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const chat = process.env.HAILWIRE_CHAT ?? resolve(root, 'build/release/examples/chat');
const artifacts = resolve(root, 'build/artifacts');
const transports = ['websocket', 'sse', 'long_poll', 'short_poll'];

let server, browser, origin;
let rooms = 0;
const contexts = [];

before(async () => {
  mkdirSync(artifacts, { recursive: true });
  server = spawn(chat, ['--port', '0', '--drain-seconds', '0', ...(process.env.HAILWIRE_CHAT_OPTIONS?.split(' ') ?? [])], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((_, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`${chat} ended with ${code}`)));
  });
  ended.catch(() => {});
  const first = new Promise((found) => createInterface({ input: server.stdout }).once('line', found));
  const line = await Promise.race([first, ended]);
  assert.match(line, /^listening on https?:\/\/127\.0\.0\.1:\d+\/$/);
  origin = line.slice('listening on '.length);
  browser = await chromium.launch({
    executablePath: process.env.HAILWIRE_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
});

afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
});

after(async () => {
  await browser?.close();
  if (server?.exitCode !== null) return;
  const ended = new Promise((code) => server.once('exit', code));
  server.kill('SIGTERM');
  assert.equal(await ended, 0, 'SIGTERM ends the chat cleanly');
});

const new_room = () => `room-${++rooms}`;

/** A page of its own browser context: its own six connections an origin, like another person's machine. */
async function visit(room, user, transport, options = {}, opens = transport) {
  const context = await browser.newContext(options);
  contexts.push(context);
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (fault) => page.faults.push(fault.message));
  await page.goto(`${origin}?${new URLSearchParams({ user, room, transport })}`);
  await is_open(page, opens);
  return page;
}

const is_open = (page, transport) => page.waitForSelector(`#state[data-state=open][data-transport=${transport}]`, { timeout: 15_000 });

async function publish(room, text) {
  const answer = await fetch(`${origin}live?${new URLSearchParams({ channel: room, user: 'host' })}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text }),
  });
  assert.equal(answer.status, 201);
  return answer.json();
}

async function say(page, text) {
  await page.fill('#input', text);
  await page.click('#send');
}

const shown = (page) => page.$$eval('#log li[data-offset]', (items) => items.map((item) => ({
  offset: Number(item.dataset.offset), epoch: item.dataset.epoch, text: item.querySelector('.text').textContent,
})));

/** Waits until the page shows exactly `texts`, with offsets 1, 2, 3, … of one epoch; gives up with a readable difference. */
async function shows(page, texts) {
  await page.waitForFunction((n) => document.querySelectorAll('#log li[data-offset]').length >= n, texts.length, { timeout: 15_000 })
    .catch(() => {});
  const found = await shown(page);
  assert.deepEqual(found.map(({ text }) => text), texts);
  assert.deepEqual(found.map(({ offset }) => offset), texts.map((_, i) => i + 1));
  assert.equal(new Set(found.map(({ epoch }) => epoch)).size, Math.min(1, texts.length));
  assert.equal(await page.textContent('#missing'), '0');
  assert.equal(await page.textContent('#gaps'), '0');
  assert.deepEqual(page.faults, []);
}

/** The costs are written twice a second: waits until the cell says so. */
const costs = (page, transport, what, wanted) => page.waitForFunction(
  ([row, cell, text]) => document.querySelector(`#costs tr[data-transport=${row}] td[data-what=${cell}]`).textContent === text,
  [transport, what, wanted], { timeout: 5000 });
const cost = (page, transport, what) => page.textContent(`#costs tr[data-transport=${transport}] td[data-what=${what}]`);

for (const transport of transports) {
  test(`${transport}: reads history, receives, sends, and resumes after a cut without loss or repeat`, async () => {
    const room = new_room();
    const texts = ['before anyone came', 'a second line'];
    for (const text of texts) await publish(room, text);
    const page = await visit(room, 'ada', transport);
    await shows(page, texts);

    texts.push('live');
    await publish(room, 'live');
    await shows(page, texts);

    texts.push('from the page');
    await say(page, 'from the page');
    await shows(page, texts);
    assert.equal(await page.locator('#log li.mine').count(), 1);

    await page.click('#cut');
    await page.waitForSelector('#state[data-state=offline]');
    for (let i = 1; i <= 20; i++) {
      texts.push(`missed ${i}`);
      await publish(room, `missed ${i}`);
    }
    assert.equal((await shown(page)).length, 4, 'what is said while the page is cut off does not reach it');
    await page.click('#resume', { timeout: 1000 }).catch(() => {});  // unless it came back by itself already
    await is_open(page, transport);
    await shows(page, texts);
    assert.equal(await page.textContent('#caught'), '20');
    assert.match(await page.textContent('#outcome'), /20 caught up, \d+ repeats? dropped, nothing lost/);

    texts.push('live again');
    await publish(room, 'live again');
    await shows(page, texts);
    await costs(page, transport, 'messages', String(texts.length));
    assert.notEqual(await cost(page, transport, 'requests'), '–');
    for (const other of transports.filter((name) => name !== transport)) {
      assert.equal(await cost(page, other, 'requests'), '–', `${other} was not used`);
    }
  });

  test(`${transport}: what is written while cut off is sent once on resuming`, async () => {
    const room = new_room();
    const page = await visit(room, 'ada', transport);
    await say(page, 'one');
    await shows(page, ['one']);
    await page.click('#cut');
    await say(page, 'two');
    await say(page, 'three');
    await page.click('#resume', { timeout: 1000 }).catch(() => {});
    await is_open(page, transport);
    await shows(page, ['one', 'two', 'three']);
  });
}

test('a page moves through all transports with its cursor, while others talk', async () => {
  const room = new_room();
  const page = await visit(room, 'ada', 'auto', {}, 'websocket');
  const texts = [];
  let talking = true;
  const talk = (async () => {
    for (let i = 1; talking && i < 500; i++) {
      await publish(room, `line ${i}`);
      texts.push(`line ${i}`);
      await new Promise((later) => setTimeout(later, 10));
    }
  })();
  for (const transport of ['sse', 'long_poll', 'short_poll', 'websocket', 'long_poll', 'sse']) {
    await page.selectOption('#transport', transport);
    await is_open(page, transport);
    const seen = (await shown(page)).length;
    await page.waitForFunction((n) => document.querySelectorAll('#log li[data-offset]').length > n, seen);
  }
  talking = false;
  await talk;
  await shows(page, texts);
});

test('four pages on four transports see the same messages from one another in the same order', async () => {
  const room = new_room();
  const people = ['ada', 'bob', 'eve', 'joe'];
  const pages = await Promise.all(people.map((name, i) => visit(room, name, transports[i])));
  for (let round = 1; round <= 5; round++) {
    await Promise.all(pages.map((page, i) => say(page, `${people[i]} says ${round}`)));
  }
  for (const page of pages) {
    await page.waitForFunction(() => document.querySelectorAll('#log li[data-offset]').length >= 20, undefined, { timeout: 15_000 });
  }
  const first = await shown(pages[0]);
  assert.equal(first.length, 20);
  const all = people.flatMap((name) => [1, 2, 3, 4, 5].map((round) => `${name} says ${round}`));
  assert.deepEqual(first.map(({ text }) => text).sort(), all.sort());
  for (const name of people) {
    const own = first.map(({ text }) => text).filter((text) => text.startsWith(name));
    assert.deepEqual(own, [1, 2, 3, 4, 5].map((round) => `${name} says ${round}`), 'each writer is heard in order');
  }
  for (const page of pages) {
    assert.deepEqual(await shown(page), first);
    await shows(page, first.map(({ text }) => text));
  }
});

test('keeps a screenshot of the page, wide and narrow', async () => {
  const room = 'lobby';
  const page = await visit(room, 'ada', 'sse', { viewport: { width: 1180, height: 760 } });
  const lines = ['Morning! Is the new build up?', 'It is. Four transports, one port.', 'Cut me off and I will not miss a word.'];
  for (const line of lines) await publish(room, line);
  await say(page, 'Let us try that.');
  await shows(page, [...lines, 'Let us try that.']);
  await page.click('#cut');
  await publish(room, 'Said while you were gone.');
  await page.click('#resume', { timeout: 1000 }).catch(() => {});
  await is_open(page, 'sse');
  await shows(page, [...lines, 'Let us try that.', 'Said while you were gone.']);
  await page.selectOption('#transport', 'long_poll');
  await is_open(page, 'long_poll');
  await say(page, 'And on to another transport.');
  await shows(page, [...lines, 'Let us try that.', 'Said while you were gone.', 'And on to another transport.']);
  await costs(page, 'long_poll', 'messages', '1');
  await page.screenshot({ path: resolve(artifacts, 'chat.png') });
  await page.setViewportSize({ width: 390, height: 844 });
  await page.screenshot({ path: resolve(artifacts, 'chat_phone.png'), fullPage: true });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(wider, false, 'nothing sticks out at the width of a phone');
});
