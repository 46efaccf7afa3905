// SPDX-License-Identifier: BSL-1.0
// npm ws on Node: a broadcast is a loop over the clients, as its documentation shows.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const live = new Set(), numbered = new Map();
const http = createServer((request, response) => response.end("nothing new"));
const server = new WebSocketServer({ server: http, perMessageDeflate: false, backlog: 4096 });
server.on("connection", (socket, request) => {
  const url = new URL(request.url, "http://localhost");
  switch (url.pathname) {
    case "/echo":
      socket.on("message", (data) => socket.send(data, { binary: false }));
      break;
    case "/live":
      live.add(socket);
      socket.on("close", () => live.delete(socket));
      socket.on("message", (data) => { for (const other of live) other.send(data, { binary: false }); });
      break;
    case "/direct":
      numbered.set(Number(url.searchParams.get("id")), socket);
      socket.on("message", (data) => {
        const space = data.indexOf(32);
        numbered.get(Number(data.toString("latin1", 0, space)))?.send(data.subarray(space + 1), { binary: false });
      });
  }
});
http.listen({ port: Number(process.argv[2] ?? 0), host: "127.0.0.1", backlog: 4096 }, () =>
  console.log(`listening on http://127.0.0.1:${http.address().port}/`));
