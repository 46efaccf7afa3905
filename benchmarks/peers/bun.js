// SPDX-License-Identifier: BSL-1.0
// Bun's server, each kind of work done in the way that its documentation shows and that serves it best.
const numbered = new Map();
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  idleTimeout: 0,
  ...(process.argv[3] && { tls: { cert: Bun.file(process.argv[3]), key: Bun.file(process.argv[4]) } }),
  fetch(request, server) {
    const url = new URL(request.url);
    if (request.headers.get("upgrade") === "websocket") {
      const data = { path: url.pathname, channel: url.searchParams.get("channel"), id: Number(url.searchParams.get("id")) };
      return server.upgrade(request, { data }) ? undefined : new Response("no", { status: 400 });
    }
    return new Response("nothing new");
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    open(ws) {
      if (ws.data.path === "/live") ws.subscribe(ws.data.channel);
      if (ws.data.path === "/direct") numbered.set(ws.data.id, ws);
    },
    close(ws) {
      if (ws.data.path === "/direct") numbered.delete(ws.data.id);
    },
    message(ws, message) {
      switch (ws.data.path) {
        case "/echo": ws.send(message); break;
        case "/live": server.publish(ws.data.channel, message); break;
        case "/direct": {
          const space = message.indexOf(" ");
          numbered.get(Number(message.slice(0, space)))?.send(message.slice(space + 1));
        }
      }
    },
  },
});
console.log(`listening on ${process.argv[3] ? "https" : "http"}://127.0.0.1:${server.port}/`);
