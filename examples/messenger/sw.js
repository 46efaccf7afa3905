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

// Something is there while no page is. The server's words name a chat and a number of messages, no text and no sender: what
// is said stays between the page and the server. A browser that knows Declarative Web Push would show this by itself.
self.addEventListener('push', (event) => {
  let told;
  try { told = event.data.json().notification; } catch { /* then there is something, and no more is known */ }
  const { channel = '', count = 1 } = told?.data ?? {};
  const [kind, ...names] = channel.split(':');
  event.waitUntil((async () => {
    if ((await self.clients.matchAll({ type: 'window' })).some((page) => page.focused && new URL(page.url).pathname === new URL(self.registration.scope).pathname)) return;  // it is being read
    const of = kind === 'direct' || kind === 'secret' ? `in your chat, ${names.join(' and ')}` : 'for you';
    await self.registration.showNotification(told?.title ?? 'Messenger', {
      body: `${count > 1 ? `${count} new messages` : 'A new message'} ${of}`, tag: channel || 'messenger', data: { channel },
    });
  })());
});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  const { channel } = event.notification.data ?? {};
  event.waitUntil((async () => {
    const [page] = await self.clients.matchAll({ type: 'window' });
    if (!page) return self.clients.openWindow(self.registration.scope);
    page.postMessage({ channel });
    return page.focus();
  })());
});
