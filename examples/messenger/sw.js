// SPDX-License-Identifier: BSL-1.0
//
// The page's service worker: keeps the page's own files, so that the messenger opens without a network too. What is said in
// it does not come through here.

const shelf = 'hailwire-messenger-1';
const files = ['./', 'style.css', 'page.js', 'chats.js', 'seal.js', 'hailwire.js', 'config.json'];
const wanted = new Set(files.map((file) => new URL(file, self.registration.scope).pathname));

self.addEventListener('install', (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(shelf).then((cache) => cache.addAll(files)));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter((name) => name !== shelf).map((name) => caches.delete(name)))).then(() => self.clients.claim()));
});

// What the server has now, and, where it does not answer, what it had.
self.addEventListener('fetch', (event) => {
  const { pathname } = new URL(event.request.url);
  if (event.request.method !== 'GET' || !wanted.has(pathname)) return;
  event.respondWith((async () => {
    const cache = await caches.open(shelf);
    try {
      const answer = await fetch(event.request);
      if (answer.ok) await cache.put(pathname, answer.clone());
      return answer;
    } catch (fault) {
      const kept = await cache.match(pathname);
      if (!kept) throw fault;
      return kept;
    }
  })());
});
