// SPDX-License-Identifier: BSL-1.0
// The same as verdicts.cpp with the parsers of npm's ws and of Node's HTTP server: cases on stdin, a line of JSON for each.
import http from "node:http";
import { Duplex } from "node:stream";
import { readFileSync } from "node:fs";

const { Receiver } = await import("ws").catch(() => process.exit(77));
const { default: PerMessageDeflate } = await import(new URL("lib/permessage-deflate.js", import.meta.resolve("ws")));

async function frames(bytes, compressed) {
  const extensions = {};
  if (compressed) {
    extensions["permessage-deflate"] = new PerMessageDeflate({}, true, 1 << 20);
    extensions["permessage-deflate"].accept([{}]);
  }
  const receiver = new Receiver({ binaryType: "nodebuffer", isServer: true, maxPayload: 1 << 20, extensions, allowSynchronousEvents: true });
  const out = { events: [], end: "open", why: "" };
  const failed = (e) => { if (out.end === "open") out.end = "failed", out.why = e.message; };
  receiver.on("message", (data, binary) => out.events.push([binary ? "binary" : "text", data.toString("hex")]));
  for (const name of ["ping", "pong"]) receiver.on(name, (data) => out.events.push([name, data.toString("hex")]));
  receiver.on("conclude", (code, reason) => { out.end = `close ${code} ${reason.toString("hex")}`; });
  receiver.on("error", failed);
  await new Promise((resolve) => {
    receiver.write(bytes, () => resolve());
    receiver.once("error", () => resolve());
    receiver.once("conclude", () => resolve());
  });
  if (compressed) extensions["permessage-deflate"].cleanup();
  return out;
}

let current, arrived;  // what is said about the request under way, and Node's own object for it
const server = http.createServer({ keepAlive: false, insecureHTTPParser: false, maxHeaderSize: 16384 });
server.timeout = 0;
const begin = (request) => {
  if (current.method || current.end === "failed") return;  // a second one in the same bytes
  arrived = request;
  Object.assign(current, { method: Buffer.from(request.method, "latin1").toString("hex"), target: Buffer.from(request.url, "latin1").toString("hex"),
    minor: request.httpVersionMinor, headers: [] });
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    current.headers.push([request.rawHeaders[i], request.rawHeaders[i + 1]].map((s) => Buffer.from(s, "latin1").toString("hex")));
  }
  const parts = [];
  request.on("data", (d) => parts.push(d));
  request.on("end", () => Object.assign(current, { end: "whole", body: Buffer.concat(parts).toString("hex") }));
};
for (const name of ["request", "checkContinue", "checkExpectation"]) server.on(name, begin);
for (const name of ["upgrade", "connect"]) server.on(name, (request) => (begin(request), Object.assign(current, { end: "whole", body: "" })));
server.on("clientError", (e, socket) => {
  if (arrived?.complete) return;  // it is about what comes behind
  if (!current.why && current.end !== "whole") current.end = e.code === "HPE_INVALID_EOF_STATE" ? "open" : "failed", current.why = e.code + " " + (e.reason ?? "");
  socket.destroy();
});

async function request(bytes) {
  current = { end: "open", why: "" };
  arrived = null;
  const socket = new Duplex({ read() {}, write(chunk, _, done) {
    // What the server answers by itself, without asking anybody, is a refusal.
    if (current.end === "open" && !current.method) current.end = "failed", current.why = chunk.toString("latin1").split("\r\n")[0];
    done();
  } });
  Object.assign(socket, { setTimeout() { return this; }, setKeepAlive() {}, setNoDelay() {}, ref() {}, unref() {}, remoteAddress: "a" });
  socket.on("error", () => {});
  server.emit("connection", socket);
  socket.push(bytes);
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  socket.push(null);
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  const said = current;
  socket.destroy();
  return said;
}

const input = readFileSync(0);
const out = [];
for (let at = 0; at < input.length;) {
  const kind = String.fromCharCode(input[at]), size = input.readUInt32BE(at + 1);
  const bytes = Buffer.from(input.subarray(at + 5, at + 5 + size));  // a copy: the receiver unmasks in place
  at += 5 + size;
  out.push(JSON.stringify(kind === "h" ? await request(bytes) : await frames(bytes, kind === "d")));
}
process.stdout.write(out.join("\n") + "\n", () => process.exit(0));
