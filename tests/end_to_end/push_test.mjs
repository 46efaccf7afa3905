// SPDX-License-Identifier: BSL-1.0
//
// The push notifiers against push services that check everything their specifications demand: APNs over HTTP/2, FCM with its
// OAuth 2, a Web Push service whose browser decrypts by npm's `http_ece`, and a webhook verified as Standard Webhooks says. They
// fail, are slow, go away and come back, and change their tokens. And the whole way of a wake: a service that the messenger's
// webhook calls starts the client of a device that sleeps, and that client misses nothing.

import '../watchdog.mjs';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createECDH, createHmac, createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { constants, createSecureServer } from 'node:http2';
import { tmpdir } from 'node:os';
import { join, resolve, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { decrypt } from 'http_ece';
import WebSocket from 'ws';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const program = process.env.HAILWIRE_PUSH_SENDER ?? resolve(root, 'build/release/tests/push_sender');
const folder = mkdtempSync(join(tmpdir(), 'hailwire-push-'));
const wrong = [];  // what a service found that its specification forbids
let certificate, key;
const senders = new Set(), services = new Set(), processes = new Set();

before(() => {
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '3', '-subj',
    '/CN=push test', '-addext', 'subjectAltName=DNS:localhost', '-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]);
  assert.equal(made.status, 0, String(made.stderr));
  certificate = readFileSync(join(folder, 'cert.pem'), 'utf8');
  key = readFileSync(join(folder, 'key.pem'), 'utf8');
});
beforeEach(() => { wrong.length = 0; });
after(() => {
  for (const s of senders) s.process.kill('SIGKILL');
  for (const p of processes) p.kill('SIGKILL');
  for (const s of services) s.close();
  rmSync(folder, { recursive: true });
});

/** Notes what is not as it has to be; the tests look at the list. */
function expect(fine, what) {
  if (!fine) wrong.push(what);
  return fine;
}

/** The program under test. */
class Sender {
  constructor(configuration) {
    const file = join(folder, randomBytes(6).toString('hex'));
    writeFileSync(file, JSON.stringify({ ca: certificate, ...configuration }));
    this.process = spawn(program, [file], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.told = new Map();
    this.counters = {};
    this.waiting = new Map();
    this.next = 1;
    this.ended = once(this.process, 'exit');
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const told = JSON.parse(line);
      if (told.counters) return void (this.counters[told.counters] = told);
      assert.ok(!this.told.has(told.id), 'each notice is told of once');
      this.told.set(told.id, told);
      this.waiting.get(told.id)?.(told);
    });
    senders.add(this);
  }
  /** Sends one notice; the promise has what became of it. */
  notify(service, device, more = {}) {
    const id = this.next++;
    this.process.stdin.write(JSON.stringify({ id, service, device, ...more }) + '\n');
    return new Promise((done) => this.waiting.set(id, done));
  }
  /** Ends it, and gives the counters. */
  async end() {
    this.process.stdin.end();
    assert.equal((await this.ended)[0], 0);
    senders.delete(this);
    return this.counters;
  }
}

/**
 * A server over TLS that speaks HTTP/2, and 1.1 where `http1`; where `plain`, one of HTTP/1.1 without TLS. `handle(request, body)`
 * gives {status, headers, body, hold, reset}.
 */
class Service {
  constructor(handle, { http1 = false, plain = false } = {}) {
    this.handle = handle;
    this.http1 = http1;
    this.plain = plain;
    this.sessions = new Set();
    this.count = 0;
    services.add(this);
  }
  async listen(port = 0) {
    this.server = this.plain ? createServer() : createSecureServer({ key, cert: certificate, allowHTTP1: this.http1 });
    this.server.on('session', (s) => { ++this.count; this.sessions.add(s); s.on('close', () => this.sessions.delete(s)); s.on('error', () => {}); });
    this.server.on('request', (request, response) => {
      const parts = [];
      request.on('error', () => {});
      response.on('error', () => {});
      request.on('data', (part) => parts.push(part));
      request.on('end', async () => {
        const answer = await this.handle(request, Buffer.concat(parts));
        if (answer.reset) return request.stream.close(constants.NGHTTP2_REFUSED_STREAM);
        if (answer.goaway) request.stream.session.goaway();
        response.writeHead(answer.status, answer.headers ?? {});
        response.end(answer.body ?? '');
      });
    });
    await once(this.server.listen(port, 'localhost'), 'listening');
    this.port = this.server.address().port;
    this.url = `${this.plain ? 'http' : 'https'}://localhost:${this.port}`;
    return this;
  }
  close() {
    for (const s of this.sessions) s.destroy();
    this.server?.close();
    this.server = undefined;
  }
}

/** Reads a signed token and verifies it. */
function read_token(token, public_key, algorithm) {
  const parts = token.split('.');
  if (!expect(parts.length === 3, 'a token has three parts')) return { header: {}, claims: {} };
  const header = JSON.parse(Buffer.from(parts[0], 'base64url')), claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
  expect(header.alg === algorithm, `the algorithm is ${header.alg}`);
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`), signature = Buffer.from(parts[2], 'base64url');
  expect(verify('sha256', signed, algorithm === 'ES256' ? { key: public_key, dsaEncoding: 'ieee-p1363' } : public_key, signature), 'the signature is wrong');
  return { header, claims };
}
const now = () => Math.floor(Date.now() / 1000);

// ---- APNs ---------------------------------------------------------------------------------------------------------------

const apple_keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const reason = (status, text, more = {}) => ({ status, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ reason: text, ...more }) });

/** What Apple's pages demand of a request. `script`: answers by device token, each used once; then 200. */
function apple(script = {}) {
  const seen = [];
  const service = new Service(async (request, body) => {
    const h = request.headers;
    expect(request.httpVersion === '2.0', 'APNs speaks HTTP/2 alone');
    expect(h[':method'] === 'POST', 'the method');
    const path = /^\/3\/device\/([0-9a-f]+)$/.exec(h[':path']);
    if (!expect(path, `the path is ${h[':path']}`)) return reason(404, 'BadPath');
    const bearer = /^bearer (.+)$/i.exec(h.authorization ?? '');
    if (!expect(bearer, 'no provider token')) return reason(403, 'MissingProviderToken');
    const { header, claims } = read_token(bearer[1], apple_keys.publicKey, 'ES256');
    expect(header.kid === 'KEY4567890', 'kid');
    expect(claims.iss === 'TEAM567890', 'iss');
    expect(Number.isInteger(claims.iat) && claims.iat <= now() && claims.iat > now() - 3600, `iat ${claims.iat}`);
    expect(h['apns-topic'] === 'org.example.chat', 'the topic');
    expect(h['apns-push-type'] === 'alert' && h['apns-priority'] === '10', 'type and priority');
    expect(/^\d+$/.test(h['apns-expiration']) && Math.abs(Number(h['apns-expiration']) - now() - 86400) < 300, `the expiration is not absolute: ${h['apns-expiration']}`);
    expect(Buffer.byteLength(h['apns-collapse-id'] ?? '') <= 64 && h['apns-collapse-id'], 'the collapse id');
    expect(body.length <= 4096, 'the payload is too large');
    const payload = JSON.parse(body);
    expect(payload.aps.alert['loc-key'] && payload.aps['mutable-content'] === 1 && !('content-available' in payload.aps), 'an alert that can be changed');
    expect(!('body' in payload.aps.alert) && !('title' in payload.aps.alert), 'no text goes through Apple');
    const { aps, ...notice } = payload;
    seen.push({ device: path[1], notice, token: bearer[1] });
    const next = script[path[1]]?.shift();
    return (typeof next === 'function' ? await next(request) : next) ?? { status: 200, headers: { 'apns-id': randomBytes(8).toString('hex') } };
  });
  return { service, seen };
}
const apns = (service) => ({ apns: { team: 'TEAM567890', key_id: 'KEY4567890', topic: 'org.example.chat', url: service.url, sandbox_url: service.url,
  key: apple_keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) } });

test('APNs: 200 devices over one connection, each told once, with one provider token', async () => {
  const { service, seen } = apple();
  await service.listen();
  const sender = new Sender(apns(service));
  const told = await Promise.all(Array.from({ length: 200 }, (_, i) => sender.notify('apns', { push: 'apns', token: i.toString(16).padStart(4, '0') })));
  assert.ok(told.every((t) => t.outcome === 'delivered'));
  assert.deepEqual(wrong, []);
  assert.equal(new Set(seen.map((s) => s.device)).size, 200);
  assert.equal(seen.length, 200);
  assert.equal(new Set(seen.map((s) => s.token)).size, 1);
  assert.deepEqual(seen[0].notice, { channel: '@ada', epoch: 'E1', offset: 42, count: 3 });
  assert.equal(service.count, 1, 'connections');
  const { apns: counters } = await sender.end();
  assert.deepEqual([counters.delivered, counters.failed, counters.waiting], [200, 0, 0]);
  service.close();
});

test('APNs: what it answers decides whether a token is forgotten, tried again, or kept', async () => {
  const slow = () => new Promise((done) => setImmediate(() => done(undefined)));
  const script = {
    '01': [reason(410, 'Unregistered', { timestamp: 2000 })],
    '02': [reason(410, 'Unregistered', { timestamp: 2000 })],
    '03': [reason(400, 'BadDeviceToken')],
    '04': [reason(429, 'TooManyRequests'), reason(500, 'InternalServerError')],
    '05': [{ reset: true, status: 0 }],
    '06': [slow],
    '07': [{ ...reason(503, 'Shutdown'), goaway: true }],
    '08': [reason(403, 'InvalidProviderToken')],
    '09': [reason(410, 'ExpiredToken', { timestamp: 2000 })],
  };
  const { service, seen } = apple(script);
  await service.listen();
  const sender = new Sender(apns(service));
  const send = (token, registered = 0) => sender.notify('apns', { push: 'apns', token }, { registered });
  const told = await Promise.all([send('01', 1999), send('02', 2000), send('03'), send('04'), send('05'), send('06'), send('08'), send('09', 1)]);
  told.push(await send('07'));  // alone: whatever else was on that connection would be sent again
  assert.deepEqual(told.map((t) => t.outcome), ['gone', 'failed', 'failed', 'delivered', 'delivered', 'delivered', 'failed', 'gone', 'delivered']);
  assert.equal(seen.filter((s) => s.device === '04').length, 3);
  assert.deepEqual(wrong, []);
  const refused = await sender.notify('apns', { push: 'apns', token: '../01' });
  assert.equal(refused.outcome, 'refused');
  await sender.end();
  service.close();
});

test('APNs: an outage costs nothing but time', async () => {
  const { service, seen } = apple();
  await service.listen();
  const { port } = service;
  const sender = new Sender(apns(service));
  assert.equal((await sender.notify('apns', { push: 'apns', token: '00' })).outcome, 'delivered');
  service.close();
  const all = Array.from({ length: 50 }, (_, i) => sender.notify('apns', { push: 'apns', token: (i + 16).toString(16) }));
  // The first that fails is seen as a try that nobody takes: a socket that listens and closes.
  const trap = createServer();
  const tried = once(trap, 'connection');
  await once(trap.listen(port, 'localhost'), 'listening');
  (await tried)[0].destroy();
  trap.close();
  await once(trap, 'close');
  const { service: again, seen: later } = apple();
  await again.listen(port);
  const told = await Promise.all(all);
  assert.ok(told.every((t) => t.outcome === 'delivered'), JSON.stringify(told.find((t) => t.outcome !== 'delivered')));
  assert.equal(new Set(later.map((s) => s.device)).size, 50);
  assert.equal(seen.length, 1);
  assert.deepEqual(wrong, []);
  await sender.end();
  again.close();
});

// ---- FCM ----------------------------------------------------------------------------------------------------------------

const google_keys = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** The token endpoint of OAuth 2 and FCM v1 behind one port. */
function google(script = {}) {
  const state = { seen: [], good: new Set(), given: 0, life: 3600, oauth: [] };
  const service = new Service(async (request, body) => {
    const h = request.headers;
    expect(request.method === 'POST', 'the method');
    if (request.url === '/token') {
      expect(h['content-type'] === 'application/x-www-form-urlencoded', 'the form');
      const form = new URLSearchParams(String(body));
      expect(form.get('grant_type') === 'urn:ietf:params:oauth:grant-type:jwt-bearer', 'grant_type');
      const { header, claims } = read_token(form.get('assertion'), google_keys.publicKey, 'RS256');
      expect(header.kid === 'k1' && header.typ === 'JWT', 'the token\'s header');
      expect(claims.iss === 'push@chat-1.example' && claims.aud === `${service.url}/token`, 'iss and aud');
      expect(claims.scope === 'https://www.googleapis.com/auth/firebase.messaging', 'scope');
      expect(claims.exp - claims.iat <= 3600 && claims.exp > now() && claims.iat <= now(), 'life of the assertion');
      const odd = state.oauth.shift();
      if (odd) return odd;
      const token = `ya29.${++state.given}`;
      state.good.add(token);
      return { status: 200, body: JSON.stringify({ access_token: token, expires_in: state.life, token_type: 'Bearer' }) };
    }
    if (!expect(request.url === '/v1/projects/chat-1/messages:send', `the path is ${request.url}`)) return { status: 404 };
    const failure = (status, word, code) => ({ status, body: JSON.stringify({ error: { code: status, status: word, details: [{ '@type': 'type.googleapis.com/google.firebase.fcm.v1.FcmError', errorCode: code }] } }) });
    if (!state.good.has(/^Bearer (.+)$/.exec(h.authorization ?? '')?.[1])) return failure(401, 'UNAUTHENTICATED', 'UNSPECIFIED_ERROR');
    const { message, ...rest } = JSON.parse(body);
    expect(Object.keys(rest).length === 0, 'one member, message');
    const targets = ['fid', 'token', 'topic', 'condition'].filter((t) => t in message);
    expect(targets.length === 1, `one target, not ${targets}`);
    expect(Object.values(message.data).every((v) => typeof v === 'string'), 'data holds texts');
    expect(!Object.keys(message.data).some((k) => k === 'from' || /^(google|gcm)/.test(k)), 'reserved names');
    expect(/^\d+(\.\d+)?s$/.test(message.android.ttl) && message.android.priority === 'HIGH' && message.android.collapse_key, 'android');
    expect(!('notification' in message), 'no text goes through Google');
    const word = message[targets[0]];
    state.seen.push({ kind: targets[0], word, data: message.data });
    const next = script[word]?.shift();
    return next ? (Array.isArray(next) ? failure(...next) : next) : { status: 200, body: JSON.stringify({ name: 'projects/chat-1/messages/1' }) };
  }, { http1: true });
  return { service, state };
}
const fcm = (service) => ({ fcm: { url: service.url, service_account: JSON.stringify({ project_id: 'chat-1', private_key_id: 'k1', client_email: 'push@chat-1.example',
  private_key: google_keys.privateKey.export({ type: 'pkcs8', format: 'pem' }), token_uri: `${service.url}/token` }) } });

test('FCM: installation ids and tokens, one access token for all, UNREGISTERED forgets', async () => {
  const { service, state } = google({
    dead: [[404, 'NOT_FOUND', 'UNREGISTERED']], odd: [[400, 'INVALID_ARGUMENT', 'INVALID_ARGUMENT']], other: [[403, 'PERMISSION_DENIED', 'SENDER_ID_MISMATCH']],
    busy: [{ status: 503, headers: { 'retry-after': '1' } }, [500, 'INTERNAL', 'INTERNAL']],
  });
  await service.listen();
  const sender = new Sender(fcm(service));
  const send = (device) => sender.notify('fcm', { push: 'fcm', ...device });
  const told = await Promise.all([send({ fid: 'installation' }), send({ token: 'registration:1' }), send({ token: 'dead' }), send({ fid: 'odd' }), send({ token: 'other' }), send({ token: 'busy' })]);
  assert.deepEqual(told.map((t) => t.outcome), ['delivered', 'delivered', 'gone', 'failed', 'failed', 'delivered']);
  assert.equal(state.given, 1);
  assert.deepEqual(state.seen[0], { kind: 'fid', word: 'installation', data: { channel: '@ada', epoch: 'E1', offset: '42', count: '3' } });
  assert.deepEqual(wrong, []);
  await sender.end();
  service.close();
});

test('FCM: access tokens that are withdrawn, and a sign-in that fails at first', async () => {
  const { service, state } = google();
  await service.listen();
  state.oauth = [{ status: 500 }, { status: 400, body: '{"error":"invalid_grant"}' }, { status: 200, body: '<html>' }];
  const sender = new Sender(fcm(service));
  assert.equal((await sender.notify('fcm', { push: 'fcm', fid: 'a' })).outcome, 'delivered');
  assert.equal(state.given, 1);
  for (let i = 0; i < 3; ++i) {
    state.good.clear();  // as a key that is rotated withdraws them
    assert.equal((await sender.notify('fcm', { push: 'fcm', fid: 'b' })).outcome, 'delivered');
  }
  assert.equal(state.given, 4);
  state.life = 1;  // half of it is used
  state.good.clear();
  for (let i = 0; i < 3; ++i) assert.equal((await sender.notify('fcm', { push: 'fcm', fid: 'c' })).outcome, 'delivered');
  assert.deepEqual(wrong, []);
  await sender.end();
  service.close();
});

// ---- Web Push -----------------------------------------------------------------------------------------------------------

/** Browsers by path, each with its key and its secret, behind one push service. */
function browsers() {
  const state = { made: new Map(), seen: [], script: {}, vapid: new Set() };
  const service = new Service(async (request, body) => {
    const h = request.headers;
    expect(request.method === 'POST', 'the method');
    const browser = state.made.get(request.url);
    if (!browser) return { status: 404 };
    expect(/^\d+$/.test(h.ttl ?? ''), 'TTL is said always (RFC 8030, section 5.2)');
    expect(/^[A-Za-z0-9_-]{1,32}$/.test(h.topic ?? ''), 'Topic (RFC 8030, section 5.4)');
    expect(['very-low', 'low', 'normal', 'high'].includes(h.urgency), 'Urgency');
    expect(h['content-encoding'] === 'aes128gcm', 'Content-Encoding (RFC 8291, section 4)');
    expect(body.length <= 4096, 'the body is too large');
    const vapid = /^vapid t=([^,]+), ?k=([A-Za-z0-9_-]+)$/.exec(h.authorization ?? '');
    if (!expect(vapid, 'no VAPID header (RFC 8292, section 3)')) return { status: 401 };
    const point = Buffer.from(vapid[2], 'base64url');
    const public_key = createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') } });
    const { claims } = read_token(vapid[1], public_key, 'ES256');
    expect(claims.aud === service.url, `aud is ${claims.aud}`);
    expect(claims.exp > now() && claims.exp <= now() + 86400, 'exp is at most a day away (RFC 8292, section 2)');
    expect(/^(mailto:|https:)/.test(claims.sub ?? ''), 'sub');
    // A subscription is bound to the key that it was made for (RFC 8292, section 4.2).
    if (browser.vapid !== vapid[2]) return { status: 403 };
    const text = decrypt(body, { version: 'aes128gcm', privateKey: browser.key, authSecret: browser.secret.toString('base64url') });
    const message = JSON.parse(text);
    expect(message.web_push === 8030 && typeof message.notification.title === 'string' && new URL(message.notification.navigate), 'a declarative message');
    state.seen.push({ path: request.url, body, message });
    return state.script[request.url]?.shift() ?? { status: 201, headers: { location: `${service.url}/m/1` } };
  }, { http1: true });
  /** A subscription as PushSubscription.toJSON gives it. */
  function subscribe(vapid) {
    const ecdh = createECDH('prime256v1'), path = `/send/${randomBytes(12).toString('base64url')}`;
    ecdh.generateKeys();
    const browser = { key: ecdh, secret: randomBytes(16), vapid };
    state.made.set(path, browser);
    return { path, command: { push: 'web', token: { endpoint: service.url + path, expirationTime: null,
      keys: { p256dh: ecdh.getPublicKey('base64url'), auth: browser.secret.toString('base64url') } } } };
  }
  return { service, state, subscribe };
}
function vapid_key() {
  const ecdh = createECDH('prime256v1');
  ecdh.generateKeys();
  return { secret: Buffer.concat([Buffer.alloc(32), ecdh.getPrivateKey()]).subarray(-32).toString('base64url'), public: ecdh.getPublicKey('base64url') };
}

test('Web Push: 50 browsers decrypt what is theirs; a subscription that is gone is forgotten', async () => {
  const { service, state, subscribe } = browsers();
  await service.listen();
  const vapid = vapid_key();
  const sender = new Sender({ web: { keys: [vapid.secret], own_services: ['localhost'], title: 'Neue Nachricht ✉' } });
  const all = Array.from({ length: 50 }, () => subscribe(vapid.public));
  state.script[all[7].path] = [{ status: 429, headers: { 'retry-after': '1' } }, { status: 500 }];
  const told = await Promise.all(all.map((b) => sender.notify('web', b.command)));
  assert.ok(told.every((t) => t.outcome === 'delivered'), JSON.stringify(told.find((t) => t.outcome !== 'delivered')));
  assert.deepEqual(wrong, []);
  assert.equal(new Set(state.seen.map((s) => s.path)).size, 50);
  assert.equal(new Set(state.seen.map((s) => s.body.subarray(0, 16).toString('hex'))).size, state.seen.length, 'a salt is used once');
  assert.deepEqual(state.seen[0].message.notification.data, { channel: '@ada', epoch: 'E1', offset: 42, count: 3 });
  assert.equal(state.seen[0].message.notification.title, 'Neue Nachricht ✉');
  state.made.delete(all[0].path);
  assert.equal((await sender.notify('web', undefined, { kept: told[0].kept })).outcome, 'gone');
  await sender.end();
  service.close();
});

test('Web Push: a new VAPID key serves new subscriptions, the old one those that were made for it', async () => {
  const { service, subscribe } = browsers();
  await service.listen();
  const old = vapid_key(), fresh = vapid_key();
  const first = new Sender({ web: { keys: [old.secret], own_services: ['localhost'] } });
  const a = subscribe(old.public), b = subscribe(fresh.public);
  const kept = (await first.notify('web', a.command)).kept;
  await first.end();
  const second = new Sender({ web: { keys: [fresh.secret, old.secret], own_services: ['localhost'] } });
  assert.equal((await second.notify('web', undefined, { kept })).outcome, 'delivered');
  assert.equal((await second.notify('web', a.command, { kept })).outcome, 'delivered', 'named again, it keeps its key');
  assert.equal((await second.notify('web', b.command)).outcome, 'delivered');
  assert.deepEqual(wrong, []);
  await second.end();
  service.close();
});

test('Web Push: redirects are followed nowhere, and a listed name at a private address is not connected to', async () => {
  const { service, state, subscribe } = browsers();
  await service.listen();
  let called = 0;
  const inside = createServer((request, response) => { ++called; response.end(); });
  await once(inside.listen(0, 'localhost'), 'listening');
  const vapid = vapid_key();
  const sender = new Sender({ web: { keys: [vapid.secret], own_services: ['localhost'] } });
  for (const status of [301, 302, 303, 307, 308]) {
    const b = subscribe(vapid.public);
    state.script[b.path] = [{ status, headers: { location: `http://localhost:${inside.address().port}/admin` } }];
    assert.equal((await sender.notify('web', b.command)).outcome, 'failed');
  }
  assert.equal(called, 0);
  assert.deepEqual(wrong, []);
  await sender.end();
  // The same name as a service of somebody else's: refused for its port, and at the standard port for its address.
  const other = new Sender({ web: { keys: [vapid.secret], services: ['localhost'] } });
  const b = subscribe(vapid.public);
  assert.equal((await other.notify('web', b.command)).outcome, 'refused');
  b.command.token.endpoint = 'https://localhost/x';
  const told = await other.notify('web', b.command);
  assert.deepEqual([told.outcome, told.reason], ['failed', 'its name leads to an address that is not public']);
  await other.end();
  inside.close();
  service.close();
});

// ---- webhook ------------------------------------------------------------------------------------------------------------

/** What Standard Webhooks demands of a request, and what it says. */
function read_webhook({ headers: h }, body, secret) {
  const wanted = `v1,${createHmac('sha256', secret).update(`${h['webhook-id']}.${h['webhook-timestamp']}.${body}`).digest('base64')}`;
  expect((h['webhook-signature'] ?? '').split(' ').includes(wanted), 'the signature');
  expect(Math.abs(Number(h['webhook-timestamp']) - now()) < 300, 'the time');
  return JSON.parse(body);
}

test('a webhook is verified as Standard Webhooks says, and a slow one costs its queue alone', async () => {
  const secret = randomBytes(16).toString('hex'), seen = [];
  const held = [];
  const service = new Service(async (request, body) => {
    seen.push(read_webhook(request, body, secret));
    if (seen.length > 1 && held.length < 64) return new Promise((done) => held.push(() => done({ status: 204 })));
    return { status: 204 };
  }, { http1: true });
  await service.listen();
  const sender = new Sender({ max_waiting: 100, webhook: { url: `${service.url}/wake`, secrets: [secret] } });
  assert.equal((await sender.notify('webhook', { push: 'webhook', token: 'w-1' })).outcome, 'delivered');
  assert.deepEqual(seen[0], { user: 'ada', device: 'phone', token: 'w-1', channel: '@ada', epoch: 'E1', offset: 42, count: 3 });
  const all = Array.from({ length: 120 }, () => sender.notify('webhook', { push: 'webhook', token: 'w' }));
  const dropped = await Promise.all(all.slice(100));
  assert.ok(dropped.every((t) => t.outcome === 'failed' && t.reason === 'too many notices wait'));
  while (held.length) held.shift()();
  const release = setInterval(() => { while (held.length) held.shift()(); }, 5);
  const told = await Promise.all(all.slice(0, 100));
  clearInterval(release);
  assert.ok(told.every((t) => t.outcome === 'delivered'));
  assert.deepEqual(wrong, []);
  const { webhook } = await sender.end();
  assert.deepEqual([webhook.delivered, webhook.dropped, webhook.waiting], [101, 20, 0]);
  service.close();
});

// ---- a client that sleeps -----------------------------------------------------------------------------------------------

const messenger = process.env.HAILWIRE_MESSENGER ?? resolve(root, 'build/release/examples/messenger');
const hw = process.env.HAILWIRE_HW ?? resolve(root, 'build/release/examples/hw');
const sleepers = Number(process.env.HAILWIRE_SLEEPERS ?? 200);
const skip = [messenger, hw].filter((file) => !existsSync(file)).map((file) => `${file} is not built`)[0] ?? false;
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/_proxy$/i.test(name)));
// A page says that it is a module; to Node 18 the name alone does not.
const { connect } = await import(`data:text/javascript;base64,${readFileSync(resolve(root, 'examples/web/hailwire.js'), 'base64')}`);

/** Does something for all of a list, so many at a time. */
async function each(list, width, act) {
  const left = [...list];
  await Promise.all(Array.from({ length: width }, async () => { while (left.length) await act(left.shift()); }));
}

/** The messenger, and the service that its webhook tells of whose device sleeps. */
class Night {
  notices = [];
  #ids = new Set();
  #waiting = new Map();

  async begin() {
    const secret = randomBytes(16).toString('hex');
    this.service = new Service(async (request, body) => {
      expect(request.method === 'POST' && request.url === '/wake' && request.headers['content-type'] === 'application/json', `${request.method} ${request.url}`);
      const notice = read_webhook(request, body, secret);
      expect(!this.#ids.has(request.headers['webhook-id']), 'a notice that was taken is not sent again');
      this.#ids.add(request.headers['webhook-id']);
      this.notices.push(notice);
      this.#waiting.get(notice.user)?.(notice);
      return { status: 204 };
    }, { plain: true });
    await this.service.listen();
    this.process = spawn(messenger, ['--port', '0', '--webhook', `${this.service.url}/wake`, '--webhook-secret', secret], { stdio: ['ignore', 'pipe', 'inherit'], env: environment });
    processes.add(this.process);
    const [line] = await once(createInterface({ input: this.process.stdout }), 'line');
    this.live = `${/^listening on (http:\S+)$/.exec(line)[1]}live`;
    return this;
  }
  async end() {
    const ended = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    assert.equal((await ended)[0], 0);
    processes.delete(this.process);
    this.service.close();
  }

  /** The first notice for this user's device. */
  told(user) { return new Promise((done) => this.#waiting.set(user, done)); }

  /** Commands of somebody's device; all are carried out. */
  async command(user, device, ...commands) {
    const answer = await fetch(`${this.live}?${new URLSearchParams({ user, device })}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(commands.map((one, id) => ({ id, ...one }))),
    });
    return (await answer.json()).map(({ ok, error }) => {
      assert.equal(error, undefined);
      return ok;
    });
  }
  /** Publishes texts into somebody's inbox. */
  publish(user, ...texts) {
    return this.command('eve', 'desk', ...texts.map((data) => ({ publish: { channel: `@${user}`, data } })));
  }

  /** The client of the page, in this process. `leave()` closes it, and the server has closed it too. */
  async visit(user, device) {
    let socket;
    const live = connect({
      url: this.live, channels: [`@${user}`], since: 'received', params: { user, device }, transports: ['websocket'],
      runtime: { WebSocket: class extends WebSocket { constructor(...all) { super(...all); socket = this; } } },
    });
    await live.command('device', { push: 'webhook', token: `${user} ${device}` });
    live.leave = async () => {
      const closed = once(socket, 'close');
      live.close();
      if (socket.readyState !== WebSocket.CLOSED) await closed;
    };
    return live;
  }

  /** A client that is a process, which is told to end when it has heard the text `last`. */
  async run(user, device, last, ...options) {
    const child = spawn(hw, ['tail', ...options, `${this.live}?${new URLSearchParams({ user, device })}`, `@${user}`], { stdio: ['ignore', 'pipe', 'inherit'], env: environment });
    processes.add(child);
    const heard = [], lines = createInterface({ input: child.stdout }), ended = [once(child, 'exit'), once(lines, 'close')];
    lines.on('line', (line) => {
      const { offset, data } = JSON.parse(line);
      heard.push([offset, data]);
      if (data === last) child.kill('SIGTERM');
    });
    const [[code]] = await Promise.all(ended);
    processes.delete(child);
    assert.equal(code, 143);
    return heard;
  }
}

test('a device whose client is gone is woken by the webhook, and the client that is then started misses nothing', { skip }, async () => {
  const night = await new Night().begin();
  // Ada's client keeps a cursor in a file, bob's says to the server what it has received. Either has a tab open elsewhere.
  const tabs = [];
  const spend = async (user, come_back) => {
    tabs.push(await night.visit(user, 'laptop'));
    const [{ epoch, offset }] = await night.publish(user, 'evening');
    assert.equal(offset, 1);
    const received = { received: { channel: `@${user}`, epoch, offset } };
    if (user === 'ada') {
      await night.command(user, 'phone', { device: { push: 'webhook', token: 'ada phone' } }, received);
      assert.deepEqual(await night.run(user, 'phone', 'evening', ...come_back, '--since', 'earliest'), [[1, 'evening']]);
    } else {
      const phone = await night.visit(user, 'phone');
      await phone.command('received', received.received);
      await phone.leave();
    }
    const woken = night.told(user);
    await night.publish(user, 'one', 'two', 'three', 'four');
    assert.deepEqual(await woken, { user, device: 'phone', token: `${user} phone`, channel: `@${user}`, epoch, offset: 5, count: 4 });
    // More comes while the client is started, and while it runs.
    await night.publish(user, 'five');
    const back = night.run(user, 'phone', 'morning', ...come_back);
    await night.publish(user, 'six');
    await night.publish(user, 'morning');
    assert.deepEqual(await back, ['one', 'two', 'three', 'four', 'five', 'six', 'morning'].map((text, i) => [i + 2, text]));
  };
  await Promise.all([spend('ada', ['--cursor', join(folder, 'cursor')]), spend('bob', ['--since', 'received'])]);
  // Whose client was there is not told of, and nobody was told of twice for one night.
  assert.deepEqual(night.notices.filter(({ device, offset }) => device !== 'phone' || offset === 5).map(({ user, device }) => `${user} ${device}`).sort(), ['ada phone', 'bob phone']);
  assert.deepEqual(wrong, []);
  for (const tab of tabs) await tab.leave();
  await night.end();
});

test(`${sleepers} devices sleep: each is woken once, and none misses a message`, { skip }, async (t) => {
  const night = await new Night().begin();
  const users = Array.from({ length: sleepers }, (_, i) => `user${i}`), texts = ['one', 'two', 'three'];
  const woken = new Map();
  const began = performance.now(), seconds = () => ((performance.now() - began) / 1000).toFixed(1);
  await each(users, 8, async (user) => {
    const phone = await night.visit(user, 'phone');
    const [{ epoch, offset }] = await night.publish(user, 'evening');
    await phone.command('received', { channel: `@${user}`, epoch, offset });
    await phone.leave();
    woken.set(user, night.told(user));
  });
  const asleep = seconds();
  await each(users, 8, (user) => night.publish(user, ...texts));
  // Twenty processes at a time; who is woken while they run waits for a turn.
  let free = 20, last_told;
  const turns = [];
  const turn = () => (free > 0 ? free-- : new Promise((done) => turns.push(done)));
  const give = () => (turns.length ? turns.shift()() : ++free);
  const all = await Promise.all(users.map(async (user) => {
    await woken.get(user);
    last_told = seconds();
    await turn();
    const back = night.run(user, 'phone', 'morning', '--since', 'received');
    await night.publish(user, 'morning');
    const heard = await back;
    give();
    return heard;
  }));
  t.diagnostic(`${sleepers} were asleep after ${asleep} s, told of by ${last_told} s, and up to date after ${seconds()} s`);
  const wanted = JSON.stringify([...texts, 'morning'].map((text, i) => [i + 2, text]));
  assert.deepEqual(all.filter((heard) => JSON.stringify(heard) !== wanted), [], 'each has all that was published, once, in order');
  // What came in the morning may be told of too, to a device whose client has ended again.
  const nightly = night.notices.filter(({ offset }) => offset === 1 + texts.length);
  assert.deepEqual(nightly.map(({ user, count }) => `${user} ${count}`).sort(), users.map((user) => `${user} ${texts.length}`).sort());
  assert.deepEqual(wrong, []);
  await night.end();
});
