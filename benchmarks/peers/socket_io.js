// SPDX-License-Identifier: BSL-1.0
// Socket.IO on Node, WebSocket transport only: `echo` goes back, `live` goes to everybody.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false, perMessageDeflate: false });
io.on("connection", (socket) => {
  socket.on("echo", (text) => socket.emit("echo", text));
  socket.on("live", (text) => io.emit("live", text));
});
http.listen({ port: Number(process.argv[2] ?? 0), host: "127.0.0.1", backlog: 4096 }, () =>
  console.log(`listening on http://127.0.0.1:${http.address().port}/`));
