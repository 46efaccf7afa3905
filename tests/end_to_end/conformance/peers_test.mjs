// SPDX-License-Identifier: BSL-1.0
// npm's ws and Node's own HTTP client as clients of the conformance server: `node peers_test.mjs SERVER`. Needs `npm ci` in the
// folder above; exits with 77 (skipped) without it.
import "../../watchdog.mjs";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";

const { default: WebSocket } = await import("ws").catch(() => (console.log("skipped: no ws; run npm ci in tests/end_to_end"), process.exit(77)));

const server = spawn(process.argv[2], ["--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
const [line] = await once(createInterface(server.stdout), "line");
const port = new URL(line.replace("listening on ", "")).port;

const offers = [false, true,
  { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
  { threshold: 0, serverMaxWindowBits: 12, clientMaxWindowBits: 15, serverNoContextTakeover: true },
  { threshold: 0, zlibDeflateOptions: { level: 9, memLevel: 9 } }];

for (const perMessageDeflate of offers) {
  const ws = new WebSocket(`ws://127.0.0.1:${port}/any`, { perMessageDeflate, maxPayload: 1 << 26 });
  await once(ws, "open");
  assert.equal(ws.extensions, perMessageDeflate ? "permessage-deflate" : "");
  const sent = [];
  for (const size of [0, 1, 125, 126, 1023, 1024, 65535, 65536, 1 << 20]) {
    sent.push("ä€😀 text ".repeat(size / 12), Buffer.alloc(size, "binary"), Buffer.from(Array.from({ length: Math.min(size, 5000) }, () => Math.random() * 256)));
  }
  const all = new Promise((resolve, reject) => {
    let next = 0;
    ws.on("message", (data, binary) => {
      try {
        const wanted = sent[next++];
        assert.equal(binary, typeof wanted !== "string");
        assert.ok(data.equals(Buffer.from(wanted)), `message ${next - 1} came back changed`);
        if (next === sent.length) resolve();
      } catch (e) { reject(e); }
    });
  });
  for (const m of sent) ws.send(m);
  await all;
  ws.removeAllListeners("message");
  ws.send("one, ", { fin: false });
  ws.ping("between");
  const [pong] = await once(ws, "pong");
  assert.equal(pong.toString(), "between");
  ws.send("two", { fin: true });
  assert.equal((await once(ws, "message"))[0].toString(), "one, two");
  ws.close(4321, "a reason");
  assert.equal((await once(ws, "close"))[0], 4321);
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
for (const [method, body, headers] of [["GET", "", {}], ["HEAD", "", {}], ["POST", "whole", { "content-length": 5 }], ["PUT", "in chunks", {}],
  ["DELETE", "", {}], ["OPTIONS", "", {}], ["PATCH", "x".repeat(100000), { expect: "100-continue", "content-length": 100000 }]]) {
  const request = http.request({ port, method, path: "/x?y", headers, agent });
  if (headers.expect) request.once("continue", () => request.end(body)), request.flushHeaders();
  else request.end(body);
  const [answer] = await once(request, "response");
  const parts = [];
  for await (const part of answer) parts.push(part);
  assert.equal(answer.statusCode, 200);
  assert.equal(Buffer.concat(parts).toString(), method === "HEAD" ? "" : body);
}
agent.destroy();

server.kill("SIGTERM");
assert.deepEqual(await once(server, "exit"), [0, null]);
console.log(`ws: ${offers.length} ways to ask for compression; http: 7 methods`);
