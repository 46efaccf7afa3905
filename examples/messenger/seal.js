// SPDX-License-Identifier: BSL-1.0
//
// End-to-end encryption of direct chats with the browser's WebCrypto: the server carries payloads that it cannot read.
//
// How it works. Each device has an ECDH key pair on P-256, whose private half cannot leave the browser (IndexedDB keeps it,
// not extractable). The public halves stand in the channel `keys:USER`, where only that user may publish. A message is
// encrypted once, with a key of its own (AES-256-GCM), and that key once for each device of both people, under the secret
// that the two devices share (ECDH, then HKDF-SHA-256 with both keys' names). So only the two people's devices can read it,
// and only a device of theirs can have made it. The channel and the writer are authenticated along (additional data): a
// message cannot be moved to another chat.
//
// What it does not do. There is no ratchet: who steals a device's key reads all of its messages. A device that comes later does
// not read what was written before. Whoever runs the server could announce a key of their own as a new device of somebody's;
// the safety number of a chat, compared by the two people over the phone, changes then.

const curve = { name: 'ECDH', namedCurve: 'P-256' };
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const to_base64 = (bytes) => btoa(Array.from(new Uint8Array(bytes), (b) => String.fromCharCode(b)).join(''));
const from_base64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const random = (n) => crypto.getRandomValues(new Uint8Array(n));
const hex = (bytes) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, '0')).join('');

/** The name of a public key (base64 of the uncompressed point): 64 bits of its SHA-256, in hex. */
export async function name_of(key) {
  return hex((await crypto.subtle.digest('SHA-256', from_base64(key))).slice(0, 8));
}

/** Whether this page may encrypt: WebCrypto is there on https and on this machine, not on plain http from another. */
export const can_seal = () => !!globalThis.crypto?.subtle;

/** Keys kept in IndexedDB: `get(name)` and `put(name, value)`. */
export async function browser_keys() {
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const opening = indexedDB.open('hailwire-messenger', 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('keys');
  const file = await settled(opening);
  const store = (mode) => file.transaction('keys', mode).objectStore('keys');
  return { get: (name) => settled(store('readonly').get(name)), put: (name, value) => settled(store('readwrite').put(value, name)) };
}

/** One device's key pair, and what it is good for. */
export class Vault {
  #private; #shared = new Map();

  /** The device's key of before, or a new one. */
  static async open(name, keys) {
    let pair = await keys.get(name);
    if (!pair) {
      pair = await crypto.subtle.generateKey(curve, false, ['deriveBits']);
      await keys.put(name, pair);
    }
    const vault = new Vault();
    vault.#private = pair.privateKey;
    /** What others need to write to this device. */
    vault.key = to_base64(await crypto.subtle.exportKey('raw', pair.publicKey));
    vault.name = await name_of(vault.key);
    return vault;
  }

  /** The secret between this device and another, for messages that went from `from` to `to`. */
  #between(key, from, to) {
    const label = `${key} ${from} ${to}`;
    if (!this.#shared.has(label)) this.#shared.set(label, this.#agree(key, from, to));
    return this.#shared.get(label);
  }

  async #agree(key, from, to) {
    const other = await crypto.subtle.importKey('raw', from_base64(key), curve, false, []);
    const secret = await crypto.subtle.deriveBits({ name: 'ECDH', public: other }, this.#private, 256);
    const base = await crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveKey']);
    const info = encoder.encode(`hailwire messenger 1 ${from} ${to}`);
    return crypto.subtle.deriveKey({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(32), info }, base, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  }

  /** Encrypts `plain` (any JSON value) for the devices with these keys (`keys`: name -> key). */
  async seal(channel, user, keys, plain) {
    const once = random(32);
    const iv = random(12);
    const body = await crypto.subtle.encrypt(
      { name: 'AES-GCM', iv, additionalData: encoder.encode(`${channel} ${user}`) }, await aes(once), encoder.encode(JSON.stringify(plain)));
    const to = {};
    for (const [name, key] of keys) {
      const wrap = random(12);
      const wrapped = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: wrap }, await this.#between(key, this.name, name), once);
      to[name] = [to_base64(wrap), to_base64(wrapped)];
    }
    return { by: this.name, iv: to_base64(iv), body: to_base64(body), to };
  }

  /** Decrypts what a device of `user`, one of those whose `keys` are given, has sealed. Throws if that is not what it is. */
  async open(channel, user, keys, { by, iv, body, to }) {
    const key = keys.get(by);
    if (!key) throw new Error('sealed by a device that is not known');
    if (!Object.hasOwn(to, this.name)) throw new Error('not for this device');
    const [wrap, wrapped] = to[this.name].map(from_base64);
    const once = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: wrap }, await this.#between(key, by, this.name), wrapped);
    const plain = await crypto.subtle.decrypt(
      { name: 'AES-GCM', iv: from_base64(iv), additionalData: encoder.encode(`${channel} ${user}`) }, await aes(once), from_base64(body));
    return JSON.parse(decoder.decode(plain));
  }
}

const aes = (raw) => crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt']);

/** Encrypts a file: what to upload, and what to seal into the message so that it can be opened again. */
export async function seal_file(file) {
  const key = random(32);
  const iv = random(12);
  const body = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, await aes(key), await file.arrayBuffer());
  return { content: new Blob([body], { type: 'application/octet-stream' }), lock: { key: to_base64(key), iv: to_base64(iv) } };
}

/** What `seal_file` encrypted. */
export async function open_file(content, { key, iv }, type) {
  const body = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: from_base64(iv) }, await aes(from_base64(key)), await content.arrayBuffer());
  return new Blob([body], { type });
}

/** Thirty digits that two people can compare: the same for both exactly when both see the same keys. */
export async function safety_number(keys) {
  const text = [...keys].sort().join(' ');
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(text)));
  const groups = [];
  for (let i = 0; i < 6; i++) groups.push(String((digest[4 * i] * 2 ** 24 + digest[4 * i + 1] * 2 ** 16 + digest[4 * i + 2] * 2 ** 8 + digest[4 * i + 3]) % 100_000).padStart(5, '0'));
  return groups.join(' ');
}
