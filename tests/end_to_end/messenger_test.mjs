// SPDX-License-Identifier: BSL-1.0
//
// Headless Chromium drives the messenger's page of the real binary: three people, one of whose networks is cut. What each page
// shows is compared with what the others wrote. Screenshots are kept in build/artifacts.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deflateSync, gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const messenger = process.env.HAILWIRE_MESSENGER ?? resolve(root, 'build/release/examples/messenger');
const artifacts = resolve(root, 'build/artifacts');
const patience = { timeout: 20_000 };
const long = { timeout: 60_000 };  // for what goes through the disk and two browsers
const wide = { viewport: { width: 1200, height: 760 } };
const narrow = { viewport: { width: 360, height: 740 } };
const dark = { colorScheme: 'dark' };

let browser;
const ends = [];  // what a test has started, ended behind it in turn

/** Runs the messenger. `stop(how)` ends it, by SIGTERM unless said. */
async function serve(...options) {
  const process = spawn(messenger, options, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exit = once(process, 'exit');
  const [line] = await Promise.race([once(createInterface({ input: process.stdout }), 'line'), exit.then(() => [`${messenger} has ended`])]);
  assert.match(line, /^listening on http:\/\/127\.0\.0\.1:\d+\/$/);
  const server = {
    origin: line.slice('listening on '.length),
    /** The most memory that it has ever had at once, in bytes. */
    peak: () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${process.pid}/status`, 'utf8'))[1]) * 1024,
    async stop(how = 'SIGTERM') {
      process.kill(how);
      const [code] = await exit;
      if (how === 'SIGTERM') assert.equal(code, 0, 'SIGTERM ends the messenger cleanly');
      server.stop = () => {};
    },
  };
  ends.push(() => server.stop());
  return server;
}

/** The way of one person to the server, which can be cut: what is open breaks, what is new is refused. */
async function way_to(origin) {
  const { port } = new URL(origin);
  const open = new Set();
  const keep = (socket) => {
    open.add(socket);
    socket.on('error', () => {}).on('close', () => open.delete(socket));
    return socket;
  };
  const proxy = createServer((near) => {
    const far = keep(connect(Number(port), '127.0.0.1'));
    keep(near).pipe(far).pipe(near);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const at = proxy.address().port;
  const way = {
    origin: `http://127.0.0.1:${at}/`,
    async cut() {
      const closed = once(proxy, 'close');
      proxy.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
    async mend() {
      proxy.listen(at, '127.0.0.1');
      await once(proxy, 'listening');
    },
  };
  ends.push(() => proxy.listening && way.cut());
  return way;
}

before(async () => {
  mkdirSync(artifacts, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.HAILWIRE_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
});
afterEach(async () => { while (ends.length) await ends.pop()(); });
after(() => browser?.close());

/** A person's device: a browser context of its own. */
async function visit(origin, user, options = wide, query = {}) {
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  ends.push(() => context.close());
  return enter_page(context, origin, user, query);
}
/** A page on a device, which may have had one before. */
async function enter_page(context, origin, user, query = {}) {
  const page = await context.newPage();
  ends.push(() => assert.deepEqual(page.faults, []));
  page.setDefaultTimeout(patience.timeout);
  page.faults = [];
  page.on('pageerror', (fault) => page.faults.push(fault.stack));
  await page.goto(`${origin}?${new URLSearchParams({ user, ...query })}`);
  await is(page, 'open');
  return page;
}

const is = (page, state, transport) => page.waitForSelector(`#status[data-state=${state}]${transport ? `[data-transport=${transport}]` : ''}`, { ...patience, state: 'attached' });
const shot = (page, name) => page.screenshot({ path: join(artifacts, `messenger_${name}.png`) });

async function begin(page, kind, others, title) {
  await page.click('#new');
  await page.check(`#begin [value=${kind}]`);
  if (title) await page.fill('#begin-name', title);
  await page.fill('#begin-with', others);
  await page.click('#begin button.main');
  await page.waitForSelector('#begin:not([open])', { state: 'attached' });
}
const enter = (page, channel) => page.click(`#chats [data-key^="${channel}"] button`);
async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/** What stands in the open chat: "text", "text ✓…" for an own one with its tick, "(taken back)", "--- New". */
const shown = (page) => page.$$eval('#log > li', (items) => items.filter((item) => !item.matches('.note')).map((item) => {
  if (item.matches('.new')) return '--- New';
  if (item.dataset.state === 'erased') return '(taken back)';
  return `${item.querySelector('.text')?.textContent ?? '(file)'}${item.dataset.tick ? ` [${item.dataset.tick}]` : ''}`;
}));
/** Waits until the open chat shows just this; gives up with a readable difference. */
async function shows(page, wanted) {
  const text = JSON.stringify(wanted);
  for (const until = Date.now() + patience.timeout; Date.now() < until;) {
    if (JSON.stringify(await shown(page)) === text) return;
    await page.evaluate(() => new Promise(requestAnimationFrame));
  }
  assert.deepEqual(await shown(page), wanted);
}
const row = (page, channel, what) => page.waitForFunction(([key, words]) => document.querySelector(`#chats [data-key^="${key}"]`)?.textContent.includes(words), [channel, what], patience);
const room_says = (page, words) => page.waitForFunction((text) => document.getElementById('room-state').textContent === text, words, patience);

/** Nothing sticks out, and every text stands out from its background by at least 4.5 to 1 (WCAG 2.2, success criterion 1.4.3). */
async function looks_well(page) {
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'nothing sticks out');
  const faint = await page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const paint = (colours) => {
      canvas.clearRect(0, 0, 1, 1);
      for (const colour of colours) {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
      }
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => {
      const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const dialog = document.querySelector('dialog[open]');
    for (const walk = document.createTreeWalker(dialog ?? document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
      const element = walk.currentNode.parentElement;
      if (!walk.currentNode.data.trim() || element.closest('.hidden, script, option') || !element.checkVisibility() || !element.getClientRects().length) continue;
      const below = [];
      for (let at = element; at; at = at === dialog ? null : at.parentElement) below.unshift(getComputedStyle(at).backgroundColor);
      const style = getComputedStyle(element);
      const ground = light(paint(below));
      const ink = light(paint([...below, style.color]));
      const ratio = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
      if (ratio < 4.5) found.push(`${element.tagName}.${element.className} “${walk.currentNode.data.trim().slice(0, 30)}” ${ratio.toFixed(2)}`);
    }
    return found;
  });
  assert.deepEqual(faint, []);
}

test('three people: one loses the network while messages flow and one is taken back, and returns on another transport', async () => {
  const { origin } = await serve('--port', '0');
  const way = await way_to(origin);
  const ada = await visit(origin, 'ada');
  const bob = await visit(origin, 'bob', { ...wide, ...dark });
  const eve = await visit(way.origin, 'eve', narrow, { device: 'phone' });
  for (const page of [ada, bob, eve]) await page.waitForFunction(() => document.querySelectorAll('#people li').length === 2, undefined, patience);

  // A group, announced to the others' inboxes. Ticks: sent, delivered to all, read by all.
  await begin(ada, 'group', 'bob, eve', 'Weekend');
  await say(ada, 'Who is in for the lake on Saturday?');
  await row(eve, 'group:', '1 unread');
  await row(bob, 'group:', 'Who is in');
  await shows(ada, ['Who is in for the lake on Saturday? [delivered]']);
  await enter(bob, 'group:');
  await shows(ada, ['Who is in for the lake on Saturday? [delivered]']);
  await looks_well(eve);
  await shot(eve, 'list_narrow_light');
  await enter(eve, 'group:');
  await shows(eve, ['--- New', 'Who is in for the lake on Saturday?']);
  await shows(ada, ['Who is in for the lake on Saturday? [read]']);

  // Typing, which nobody keeps.
  await eve.type('#text', 'Me');
  await room_says(ada, 'eve is typing…');
  await say(eve, 'Me! I bring the boat.');
  await room_says(ada, '3 members, 3 online');
  await say(bob, 'Only if it does not rain.');
  await shows(bob, ['Who is in for the lake on Saturday?', 'Me! I bring the boat.', 'Only if it does not rain. [read]']);

  // Eve's network is gone. What she writes waits; what the others write, and take back, comes later.
  await way.cut();
  await eve.waitForSelector('#offline', patience);
  await say(eve, 'Written in the tunnel');
  await say(bob, 'Wrong chat, sorry');
  await say(bob, 'I have the tent.');
  await shows(ada, ['Who is in for the lake on Saturday? [read]', 'Me! I bring the boat.', 'Only if it does not rain.', 'Wrong chat, sorry', 'I have the tent.']);
  for (const text of ['Only if it does not rain.', 'Wrong chat, sorry']) {
    await bob.click(`#log [aria-label="Take back: ${text}"]`);
    await bob.click('#take button.bad');
  }
  await shows(bob, ['Who is in for the lake on Saturday?', 'Me! I bring the boat.', '(taken back)', '(taken back)', 'I have the tent. [sent]']);
  await say(ada, 'Eve?');
  await shows(bob, ['Who is in for the lake on Saturday?', 'Me! I bring the boat.', '(taken back)', '(taken back)', 'I have the tent. [sent]', 'Eve?']);
  await shows(eve, ['Who is in for the lake on Saturday?', 'Me! I bring the boat. [read]', 'Only if it does not rain.', 'Written in the tunnel [waiting]']);
  await looks_well(eve);
  await shot(eve, 'offline_narrow_light');
  await room_says(ada, '3 members, 2 online');

  // She is back, over another transport: once, in order, with the right ticks and the empty places.
  await eve.click('#back');
  await eve.click('#status');
  await eve.selectOption('#transport', 'sse');
  await eve.click('#line button.main');
  await way.mend();
  await eve.evaluate(() => dispatchEvent(new Event('online')));  // a browser without a network of its own says nothing
  await is(eve, 'open', 'sse');
  await enter(eve, 'group:');
  await shows(eve, ['Who is in for the lake on Saturday?', 'Me! I bring the boat. [read]', '(taken back)', '--- New', '(taken back)', 'I have the tent.', 'Eve?', 'Written in the tunnel [read]']);
  await shows(bob, ['Who is in for the lake on Saturday?', 'Me! I bring the boat.', '(taken back)', '(taken back)', 'I have the tent. [read]', 'Eve?', 'Written in the tunnel']);
  await room_says(ada, '3 members, 3 online');
  for (const [page, name] of [[ada, 'group_wide_light'], [bob, 'group_wide_dark'], [eve, 'group_narrow_light']]) {
    await looks_well(page);
    await shot(page, name);
  }
  await eve.emulateMedia({ colorScheme: 'dark' });
  await looks_well(eve);
  await shot(eve, 'group_narrow_dark');

  // Another device of hers has all of it, and knows what she has read on the first.
  const tablet = await visit(origin, 'eve', wide, { device: 'tablet' });
  await row(tablet, 'group:', 'You: Written in the tunnel');
  assert.equal(await tablet.locator('.badge').count(), 0);
  await enter(tablet, 'group:');
  await shows(tablet, ['Who is in for the lake on Saturday?', 'Me! I bring the boat. [read]', '(taken back)', '(taken back)', 'I have the tent.', 'Eve?', 'Written in the tunnel [read]']);
});

test('opens without a network too, shows what it has, and sends what was written then, once', async () => {
  const { origin } = await serve('--port', '0');
  const way = await way_to(origin);
  const ada = await visit(origin, 'ada');
  const bob = await visit(way.origin, 'bob', narrow, { device: 'phone' });
  await begin(ada, 'direct', 'bob');
  await say(ada, 'The train leaves at nine.');
  await say(ada, 'Platform 7.');
  await enter(bob, 'direct:');
  await shows(ada, ['The train leaves at nine. [read]', 'Platform 7. [read]']);
  await bob.evaluate(() => navigator.serviceWorker.ready.then(() => 0));
  await way.cut();
  await bob.reload();
  await enter(bob, 'direct:');
  await bob.waitForSelector('#offline', patience);
  await shows(bob, ['The train leaves at nine.', 'Platform 7.']);
  await say(bob, 'I am in the tunnel.');
  await bob.reload();
  await enter(bob, 'direct:');
  await shows(bob, ['The train leaves at nine.', 'Platform 7.', 'I am in the tunnel. [waiting]']);
  await say(ada, 'Hurry!');
  await way.mend();
  await bob.evaluate(() => dispatchEvent(new Event('online')));
  await shows(bob, ['The train leaves at nine.', 'Platform 7.', 'Hurry!', 'I am in the tunnel. [read]']);
  await shows(ada, ['The train leaves at nine. [read]', 'Platform 7. [read]', 'Hurry! [read]', 'I am in the tunnel.']);
});

test('what is written between two in an encrypted chat is read by them alone', async () => {
  const { origin } = await serve('--port', '0');
  const ada = await visit(origin, 'ada');
  const bob = await visit(origin, 'bob', { ...narrow, ...dark });
  await begin(ada, 'secret', 'bob');
  await say(ada, 'The door code is 4711.');
  await row(bob, 'secret:', 'The door code is 4711.');
  await enter(bob, 'secret:');
  await say(bob, 'Burn after reading.');
  await shows(ada, ['The door code is 4711. [read]', 'Burn after reading.']);
  const kept = await fetch(`${origin}live?user=ada&channel=secret:ada:bob&since=earliest`).then((answer) => answer.json());
  assert.equal(kept.messages.length, 2);
  for (const { data } of kept.messages) assert.deepEqual(Object.keys(data), ['id', 'sealed']);
  assert.doesNotMatch(JSON.stringify(kept), /4711|Burn/);
  const numbers = [];
  for (const page of [ada, bob]) {
    await page.click('#info-open');
    await page.waitForFunction(() => /^(\d{5} ?){6}$/.test(document.getElementById('info-number').textContent), undefined, patience);
    numbers.push(await page.textContent('#info-number'));
    await looks_well(page);
    await shot(page, page === ada ? 'secret_wide_light' : 'secret_narrow_dark');
    await page.press('#info button', 'Enter');
  }
  assert.equal(numbers[0], numbers[1]);

  // The key is the browser's, and is there again after the page.
  await bob.reload();
  await is(bob, 'open');
  await enter(bob, 'secret:');
  await shows(bob, ['The door code is 4711.', 'Burn after reading. [read]']);
});

test('devices that were away for a thousand messages across a kill of the server show each once, in order, with the right ticks', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'messenger-'));
  ends.push(() => rmSync(folder, { recursive: true }));
  const storage = ['--storage', `sqlite:${join(folder, 'chats.db')}`];
  const first = await serve('--port', '0', ...storage);
  const { port } = new URL(first.origin);
  const way = await way_to(first.origin);
  const ada = await visit(first.origin, 'ada');
  const phone = await visit(way.origin, 'bob', narrow, { device: 'phone' });
  const tablet = await visit(first.origin, 'bob', wide, { device: 'tablet' });
  await begin(ada, 'direct', 'bob');
  await say(ada, 'Are you there?');
  await enter(tablet, 'direct:');
  await shows(ada, ['Are you there? [read]']);
  await enter(phone, 'direct:');
  await phone.click('#back');

  // The phone's page stays, without a network; the tablet's is closed.
  await way.cut();
  await tablet.waitForFunction(() => Object.entries(localStorage).some(([name, kept]) => name.endsWith('direct:ada:bob') && kept.includes('Are you there?')), undefined, patience);
  await tablet.close();

  const lines = Array.from({ length: 1000 }, (_, i) => `line ${i + 1}`);
  const ticked = (tick, upto = lines.length) => ['Are you there? [read]', ...lines.slice(0, upto).map((line) => `${line} [${tick}]`)];
  const post = async (origin, texts) => {
    for (let i = 0; i < texts.length; i += 50) {
      const commands = texts.slice(i, i + 50).map((text) => ({ id: text, publish: { channel: 'direct:ada:bob', data: { id: text, text }, type: 'text', key: text.replace(' ', '-') } }));
      const answer = await fetch(`${origin}live?user=ada`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(commands) });
      for (const { error } of await answer.json()) assert.equal(error, undefined);
    }
  };
  await post(first.origin, lines.slice(0, 500));
  await shows(ada, ticked('sent', 500));
  await first.stop('SIGKILL');
  await ada.waitForSelector('#offline', patience);
  await say(ada, lines[500]);
  await shows(ada, [...ticked('sent', 500), `${lines[500]} [waiting]`]);
  const { origin } = await serve('--port', port, ...storage);
  await shows(ada, ticked('sent', 501));
  await post(origin, lines.slice(450, 500));  // who was not sure repeats with the same keys
  await post(origin, lines.slice(501));
  await shows(ada, ticked('sent'));

  // Each comes back; a third device has never been here.
  const all = ['Are you there?', ...lines];
  const reopened = await enter_page(tablet.context(), origin, 'bob', { device: 'tablet' });
  await row(reopened, 'direct:', '1000 unread');
  await shows(ada, ticked('delivered'));
  await way.mend();
  await phone.evaluate(() => dispatchEvent(new Event('online')));
  await row(phone, 'direct:', '1000 unread');
  await enter(reopened, 'direct:');
  await shows(reopened, [all[0], '--- New', ...lines]);
  await shows(ada, ticked('read'));
  await enter(phone, 'direct:');
  await shows(phone, [all[0], '--- New', ...lines]);
  const laptop = await visit(origin, 'bob', wide, { device: 'laptop' });
  await row(laptop, 'direct:', 'line 1000');
  await laptop.waitForSelector('.badge', { ...patience, state: 'detached' });
  await enter(laptop, 'direct:');
  await shows(laptop, all);
});

/** A chat's messages as the server has them, each with the address of its content. */
async function kept(origin, channel) {
  const { messages } = await fetch(`${origin}live?${new URLSearchParams({ user: 'ada', channel, since: 'earliest' })}`).then((answer) => answer.json());
  return messages.map(({ epoch, offset }) => `${origin}live/messages?${new URLSearchParams({ user: 'bob', channel, epoch, offset })}`);
}
/** The contents of a chat's messages. */
const fetched = async (origin, channel) => Promise.all((await kept(origin, channel)).map(async (address) => {
  const answer = await fetch(address);
  assert.equal(answer.status, 200);
  return Buffer.from(await answer.arrayBuffer());
}));

/** A picture of noise as a PNG file, written whole without a byte saved: `width` times `height` points, three bytes each. */
function noise(width, height) {
  const rows = Buffer.alloc((1 + 3 * width) * height);
  randomFillSync(rows);
  for (let y = 0; y < height; y++) rows[y * (1 + 3 * width)] = 0;  // no filter
  const part = (name, data) => {
    const whole = Buffer.alloc(12 + data.length);
    whole.writeUInt32BE(data.length);
    whole.write(name, 4, 'latin1');
    data.copy(whole, 8);
    gzipSync(whole.subarray(4, 8 + data.length), { level: 0 }).subarray(-8, -4).reverse().copy(whole, 8 + data.length);  // its CRC is a PNG's
    return whole;
  };
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), part('IHDR', head), part('IDAT', deflateSync(rows, { level: 0 })), part('IEND', Buffer.alloc(0))]);
}

test('a picture goes from page to page, though the line is cut on the way, and so does an encrypted file', async () => {
  const { origin } = await serve('--port', '0');
  const way = await way_to(origin);
  const ada = await visit(way.origin, 'ada', { ...wide, acceptDownloads: true });
  const bob = await visit(origin, 'bob', narrow);
  await begin(ada, 'direct', 'bob');
  const picture = noise(460, 360);
  assert.ok(picture.length > 400_000, 'more than one piece');
  let pieces = 0;
  await ada.route('**/live/content/**', async (route) => {
    if (++pieces === 2) await way.cut();
    await route.continue();
  });
  await ada.setInputFiles('#file', { name: 'boat.png', mimeType: 'image/png', buffer: picture });
  await ada.waitForSelector('#offline', patience);
  await shot(ada, 'upload_wide_light');
  await way.mend();
  await ada.evaluate(() => dispatchEvent(new Event('online')));
  await enter(bob, 'direct:');
  await bob.waitForSelector('#log img', patience);
  await shows(ada, ['(file) [read]']);
  assert.equal(await bob.$eval('#log img', (img) => img.decode().then(() => img.naturalWidth)), 460);
  const [whole] = await fetched(origin, 'direct:ada:bob');
  assert.ok(picture.equals(whole), 'byte for byte');
  await looks_well(bob);
  await shot(bob, 'picture_narrow_light');
  await ada.unroute('**/live/content/**');

  await begin(ada, 'secret', 'bob');
  await ada.setInputFiles('#file', { name: 'plans.txt', mimeType: 'text/plain', buffer: Buffer.from('the plans, all of them') });
  await row(bob, 'secret:', 'plans.txt');
  await bob.click('#back');
  await enter(bob, 'secret:');
  const [saved] = await Promise.all([bob.waitForEvent('download'), bob.click('[aria-label^="Save plans.txt"]')]);
  const chunks = [];
  for await (const chunk of await saved.createReadStream()) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).toString(), 'the plans, all of them');
  const [sealed] = await fetched(origin, 'secret:ada:bob');
  assert.doesNotMatch(sealed.toString('latin1'), /plans/);
});

/** How large a picture of the page is, and the hash of its points. */
const points = (page, selector) => page.$eval(selector, async (img) => {
  await img.decode();
  const paint = new OffscreenCanvas(img.naturalWidth, img.naturalHeight).getContext('2d', { willReadFrequently: true });
  paint.drawImage(img, 0, 0);
  const digest = await crypto.subtle.digest('SHA-256', paint.getImageData(0, 0, img.naturalWidth, img.naturalHeight).data);
  return [img.naturalWidth, img.naturalHeight, Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')];
});

test('a picture of 50 MB goes from page to page, and the memory of the server stays where it is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'messenger-'));
  ends.push(() => rmSync(folder, { recursive: true }));
  const server = await serve('--port', '0');
  const ada = await visit(server.origin, 'ada');
  const bob = await visit(server.origin, 'bob');
  await begin(ada, 'direct', 'bob');
  await enter(bob, 'direct:');

  // A small one first: what the server needs for any picture it has then had.
  const send = async (name, width, height) => {
    const picture = noise(width, height), file = join(folder, name);
    writeFileSync(file, picture);
    await ada.setInputFiles('#file', file);
    return picture;
  };
  const small = await send('small.png', 400, 300);
  await bob.waitForSelector('#log img[alt="small.png"]', patience);
  await shows(ada, ['(file) [read]']);
  const before = server.peak();

  const began = performance.now();
  const picture = await send('large.png', 4096, 4096);
  assert.ok(picture.length > 50_000_000 && picture.length < 52_000_000);
  // One so large is fetched when it is asked for.
  await bob.click('#log [aria-label^="Show large.png"]', long);
  await bob.waitForSelector('#log img[alt="large.png"]', long);
  const taken = (performance.now() - began) / 1000, after = server.peak();
  await shows(ada, ['(file) [read]', '(file) [read]']);
  const theirs = await points(bob, '#log img[alt="large.png"]');
  assert.deepEqual(theirs.slice(0, 2), [4096, 4096]);
  assert.deepEqual(theirs, await points(ada, '#log img[alt="large.png"]'), 'every point is the sender\'s');
  const [first, second] = await fetched(server.origin, 'direct:ada:bob');
  assert.ok(small.equals(first) && picture.equals(second), 'byte for byte');
  t.diagnostic(`${picture.length} bytes in ${taken.toFixed(1)} s; the server's peak: ${before / 1024} KiB before, ${after / 1024} KiB behind it, ${server.peak() / 1024} KiB at the end`);
  assert.ok(server.peak() - before < 1 << 20, `${server.peak() - before} bytes more`);
});

test('what somebody sent as a page or as a drawing runs no script, wherever it is opened', async () => {
  const { origin } = await serve('--port', '0');
  const ada = await visit(origin, 'ada', { ...wide, acceptDownloads: true });
  const script = (mark) => `document.documentElement.setAttribute('data-ran', 'yes'); new Image().src = '/ran/${mark}'`;
  const texts = {
    'text/html': `<!doctype html><title>quiet</title><body onload="${script('onload')}"><script>${script('inline')}</script><script src="/ran/script"></script>`
      + `<img src="/ran/img" onerror="${script('onerror')}"><iframe srcdoc="<script>parent.${script('frame')}</script>"></iframe>`,
    'image/svg+xml': `<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" onload="${script('onload')}"><title>quiet</title><script>${script('inline')}</script>`
      + `<script href="/ran/script"/><foreignObject width="9" height="9"><body xmlns="http://www.w3.org/1999/xhtml"><img src="/ran/img" onerror="${script('onerror')}"/></body></foreignObject></svg>`,
  };
  const channel = 'direct:ada:bob';
  for (const [type, text] of Object.entries(texts)) {
    const upload = await fetch(`${origin}live/content?${new URLSearchParams({ user: 'ada', channel })}`, { method: 'POST', headers: { 'Content-Type': type }, body: text });
    const { content } = await upload.json();
    const answer = await fetch(`${origin}live?user=ada`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ id: 1, publish: { channel, content, data: { id: type, name: 'a file' } } }),
    });
    assert.equal(answer.status, 200);
  }
  const addresses = await kept(origin, channel);
  assert.equal(addresses.length, 2);

  const page = await ada.context().newPage();
  const asked = [];  // what a script that ran would have asked for, and what was asked for without one
  await page.route('**/ran/**', (route) => {
    asked.push(new URL(route.request().url()).pathname.slice('/ran/'.length));
    return route.abort();
  });
  await page.route(`${origin}bare`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>bare</title>' }));
  for (const [i, [type, text]] of Object.entries(texts).entries()) {
    const address = addresses[i];
    const { headers } = await fetch(address);
    assert.deepEqual([headers.get('content-type'), headers.get('x-content-type-options'), headers.get('content-disposition'), headers.get('content-security-policy')],
      [type, 'nosniff', 'attachment', "sandbox; default-src 'none'"]);

    // Opened, it is saved, and not shown.
    const [saved] = await Promise.all([page.waitForEvent('download'), page.goto(address).then(() => assert.fail('it is shown'), () => {})]);
    assert.equal(readFileSync(await saved.path(), 'utf8'), text);
    assert.equal(page.url(), 'about:blank');
    // Nor does a page of the same origin, even one without rules of its own, take it as a script, a frame or more than a picture.
    await page.goto(`${origin}bare`);
    const used_as = (tag) => page.evaluate(([name, src]) => new Promise((done) => {
      document.body.append(Object.assign(document.createElement(name), { src, onload: () => done('shown'), onerror: () => done('refused') }));
    }), [tag, address]);
    assert.equal(await used_as('script'), 'refused');
    assert.equal(await used_as('img'), type === 'text/html' ? 'refused' : 'shown');
    const [again] = await Promise.all([page.waitForEvent('download'), page.evaluate((src) => {
      document.body.append(Object.assign(document.createElement('iframe'), { src }));
    }, address)]);
    assert.equal(again.url(), address);
    assert.deepEqual(asked, []);

    // A program that shows it all the same, as if it were no attachment, keeps it in a box without scripts …
    const shown_with = async (without) => {
      asked.length = 0;
      await page.route('**/live/messages?**', async (route) => {
        const answer = await route.fetch();
        const headers = Object.fromEntries(Object.entries(answer.headers()).filter(([name]) => !without.includes(name)));
        await route.fulfill({ response: answer, headers });
      });
      await page.goto(address);
      await page.unroute('**/live/messages?**');
      return [await page.evaluate(() => document.documentElement.getAttribute('data-ran')), new Set(asked)];
    };
    assert.deepEqual(await shown_with(['content-disposition']), [null, new Set()]);
    // … where this test would see them: without the box all of them run.
    const [ran, what] = await shown_with(['content-disposition', 'content-security-policy']);
    assert.equal(ran, 'yes');
    for (const mark of ['onload', 'inline', 'script', 'img', 'onerror']) assert.ok(what.has(mark), `${type}: ${mark}`);
    asked.length = 0;
    await page.goto('about:blank');
  }
});

test('by keyboard alone: a chat is begun, written in, left and found again, and every control has a name', async () => {
  const { origin } = await serve('--port', '0');
  await visit(origin, 'bob');
  const ada = await visit(origin, 'ada', narrow);
  const press = async (...keys) => { for (const key of keys) await ada.keyboard.press(key); };
  const focused = () => ada.evaluate(() => document.activeElement.id || document.activeElement.textContent);
  await ada.focus('#new');
  await press('Enter');
  assert.equal(await focused(), 'begin-with');
  await ada.keyboard.type('bob');
  await press('Enter');
  await ada.waitForFunction(() => document.activeElement.id === 'text', undefined, patience);
  await ada.keyboard.type('one');
  await press('Shift+Enter');
  await ada.keyboard.type('two');
  await press('Enter');
  await ada.waitForSelector('#log .message[data-offset="1"]');
  assert.deepEqual((await shown(ada)).map((text) => text.split(' ')[0]), ['one\ntwo']);
  await press('Shift+Tab', 'Shift+Tab');
  assert.equal(await ada.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Take back: one\ntwo');
  await press('Enter', 'Escape');
  assert.match(await ada.evaluate(() => document.activeElement.getAttribute('aria-label')), /^Take back/, 'the focus comes back');
  await press('Escape');
  assert.equal(await ada.evaluate(() => document.body.dataset.view), 'list');
  assert.match(await focused(), /^bobob/);
  await press('Enter');
  assert.equal(await ada.evaluate(() => document.body.dataset.view), 'room');

  for (const dialog of ['new', 'status']) {
    if (await ada.evaluate(() => document.body.dataset.view) === 'room') await ada.click('#back');
    await ada.click(`#${dialog}`);
    await looks_well(ada);
    await shot(ada, `${dialog}_narrow_light`);
    await press('Escape');
  }
  const nameless = await ada.evaluate(() => [...document.querySelectorAll('button, input, textarea, select, dialog, [role]')].filter((element) => {
    const by = element.getAttribute('aria-labelledby');
    return element.type !== 'file' && element.getAttribute('role') !== 'alert' && element.getAttribute('role') !== 'status'
      && !(element.getAttribute('aria-label') || element.textContent.trim() || (by && document.getElementById(by)) || element.labels?.length);
  }).map((element) => element.outerHTML));
  assert.deepEqual(nameless, []);
});

test('who goes offline by the button is offline to the others, and what was written then comes later', async () => {
  const { origin } = await serve('--port', '0');
  const ada = await visit(origin, 'ada');
  const bob = await visit(origin, 'bob');
  await begin(ada, 'direct', 'bob');
  await enter(bob, 'direct:');
  await room_says(ada, 'online');
  const go = async (state) => {
    await bob.click('#status');
    await bob.click('#cut');
    await bob.press('#line button.main', 'Enter');
    await is(bob, state);
  };
  await go('offline');
  await say(bob, 'Back at noon');
  await say(ada, 'Lunch?');
  await room_says(ada, 'offline');
  await shows(ada, ['Lunch? [sent]']);
  await shows(bob, ['Back at noon [waiting]']);
  await go('open');
  await room_says(ada, 'online');
  await shows(ada, ['Lunch? [read]', 'Back at noon']);
  await shows(bob, ['--- New', 'Lunch?', 'Back at noon [read]']);
});

test('while no page is open the service worker says that something is there, and not what', async () => {
  const { origin } = await serve('--port', '0');
  const ada = await visit(origin, 'ada');
  await ada.evaluate(() => navigator.serviceWorker.ready.then(() => 0));
  await ada.context().grantPermissions(['notifications'], { origin });
  const other = await ada.context().newPage();  // of the same origin, but not the messenger
  await other.goto(`${origin}hailwire.js`);
  const browser_side = await ada.context().newCDPSession(other);
  const known = once(browser_side, 'ServiceWorker.workerRegistrationUpdated');
  await browser_side.send('ServiceWorker.enable');
  const [{ registrations: [{ registrationId }] }] = await known;
  const push = (text) => browser_side.send('ServiceWorker.deliverPushMessage', { origin, registrationId, data: text });
  const told = () => other.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map(({ title, body, tag }) => [title, body, tag]));
  const words = (channel, count) => JSON.stringify({ web_push: 8030, notification: { title: 'New message', navigate: origin, tag: 'hailwire', data: { channel, epoch: 'e', offset: 4, count } }, mutable: true });
  await push(words('direct:ada:bob', 2));
  assert.deepEqual(await told(), [], 'who looks at the page is not told');
  await ada.close();
  await push(words('direct:ada:bob', 3));
  await other.waitForFunction(async () => (await (await navigator.serviceWorker.ready).getNotifications()).length === 1, undefined, patience);
  assert.deepEqual(await told(), [['New message', '3 new messages in your chat, ada and bob', 'direct:ada:bob']]);
  await push('');
  await other.waitForFunction(async () => (await (await navigator.serviceWorker.ready).getNotifications()).length === 2, undefined, patience);
  assert.deepEqual((await told())[1], ['Messenger', 'A new message for you', 'messenger']);
});

test('who comes without a name is asked for one', async () => {
  const { origin } = await serve('--port', '0');
  const context = await browser.newContext(narrow);
  ends.push(() => context.close());
  const page = await context.newPage();
  await page.goto(origin);
  await shot(page, 'enter_narrow_light');
  await page.fill('#enter-name', 'a b');
  await page.press('#enter-name', 'Enter');
  assert.equal(new URL(page.url()).search, '', 'a name has no spaces');
  await page.fill('#enter-name', 'ada');
  await page.press('#enter-name', 'Enter');
  await is(page, 'open');
  assert.equal(await page.textContent('#my-name'), 'ada');
});
