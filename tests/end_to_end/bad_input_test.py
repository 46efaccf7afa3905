#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""What no client should send: each gets what the protocol names, while neighbours on two streams miss nothing."""

import contextlib
import json
import struct
import unittest

from chat_clients import Bare, WithChat, publish, quote, request, soon


class BadInput(WithChat):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.neighbours = [await self.follow("sse", "sam"), await self.follow("websocket", "wes")]
        self.said = 0

    async def neighbours_hear(self):
        self.said += 1
        await publish(self.chat, self.room, self.said)
        for neighbour in self.neighbours:
            self.assertEqual((await neighbour.next())["data"], self.said)

    async def expect(self, data, status, code, then_works=None):
        bare = await Bare.open(self.chat)
        self.addCleanup(bare.close)
        answer = await bare.ask(data)
        self.assertEqual(answer[0], status, answer)
        self.assertEqual(answer[1]["content-type"], "application/problem+json")
        problem = json.loads(answer[2])
        self.assertEqual((problem["code"], problem["status"]), (code, status))
        if then_works:
            self.assertEqual((await bare.ask(request("GET", "/")))[0], 200, "the connection goes on")
        elif then_works is False:
            self.assertEqual(await soon(bare.reader.read()), b"", "the connection ends: where the next request begins cannot be known")

    async def test_heads(self):
        table = [
            (b"nonsense\r\n\r\n", 400, "bad_request"),
            (b"GET /live\r\nHost: a\r\n\r\n", 400, "bad_request"),
            (b"GET  /live HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400, "bad_request"),
            (b"GET /live HTTP/2.0\r\nHost: a\r\n\r\n", 505, "http_version"),
            (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, "headers_too_large"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
            (b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
            (b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request"),
            (b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
            (b"POST /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
            (b"POST /live?channel=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
            (b"POST /live?channel=a HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\na", 417, "expectation"),
        ]
        for data, status, code in table:
            with self.subTest(data[:60]):
                await self.expect(data, status, code, then_works=False)
                await self.neighbours_hear()

    async def test_queries(self):
        ok = quote(self.room)
        table = [
            ("", "no channel"),
            ("channel=", "an empty name"),
            ("channel=" + "a" * 256, "a name of 256 bytes"),
            ("channel=a%00b", "NUL"),
            ("channel=a%0Ab", "a line break"),
            ("channel=a%7Fb", "DEL"),
            ("channel=a%C2%85b", "a C1 control"),
            ("channel=a%E2%80%A8b", "U+2028"),
            ("channel=a%FFb", "no UTF-8"),
            ("channel=%ED%A0%80", "a surrogate"),
            ("channel=a%zzb", "a bad escape"),
            ("channel=a%2", "half an escape"),
            ("channel=a&channel=a", "a channel twice"),
            ("&".join(f"channel=c{i}" for i in range(33)), "33 channels"),
            (f"channel={ok}&since=nonsense", "a word that is no cursor"),
            (f"channel={ok}&since=abc.", "no offset"),
            (f"channel={ok}&since=.5", "no epoch"),
            (f"channel={ok}&since=abc.-1", "a negative offset"),
            (f"channel={ok}&since=abc.01", "a leading zero"),
            (f"channel={ok}&since=abc.9007199254740992", "an offset of 2^53"),
            (f"channel={ok}&since=a%2Fb.1", "an epoch with a slash"),
            (f"channel={ok}&since={'a' * 33}.1", "an epoch of 33 letters"),
            (f"channel={ok}&since=a.1,a.2", "a place too many"),
            (f"channel={ok}&channel=other&since=a.1", "a place too few"),
            (f"channel={ok}&since=a.1,", "a comma at the end"),
            (f"channel={ok}&since={','.join(['abcdefgh.1'] * 500)}", "a cursor over 4 KiB"),
            (f"channel={ok}&wait=soon", "a wait that is no number"),
        ]
        for query, what in table:
            with self.subTest(what):
                await self.expect(request("GET", f"/live?{query}"), 400, "bad_request")
                if "wait" not in query:
                    await self.expect(request("GET", f"/live?{query}", "Accept: text/event-stream"), 400, "bad_request")
                await self.neighbours_hear()
        for header in ("Last-Event-ID: nonsense", "Last-Event-ID: a.1,b.2"):
            await self.expect(request("GET", f"/live?channel={ok}", "Accept: text/event-stream", header), 400, "bad_request", then_works=True)
        await self.neighbours_hear()

    async def test_who_may_not(self):
        for data in (request("GET", "/live?channel=%40ada&user=bob"),
                     request("GET", "/live?channel=%40ada&channel=other&user=bob", "Accept: text/event-stream"),
                     request("GET", "/live?channel=%40ada", "Prefer: wait=5"),
                     request("POST", "/live?channel=a&user=ada", "Origin: https://evil.example", "Content-Type: text/plain", body=b"a"),
                     request("POST", "/live?channel=a&user=ada", "Origin: null", "Content-Type: text/plain", body=b"a")):
            with self.subTest(data):
                await self.expect(data, 403, "forbidden", then_works=True)
                await self.neighbours_hear()
        await self.expect(request("PUT", "/live?channel=a", body=b"a"), 405, "method_not_allowed", then_works=True)
        await self.expect(request("GET", "/nowhere"), 404, "not_found", then_works=True)

    async def test_bodies(self):
        room, kind = quote(self.room), "Content-Type: application/json"
        one, many = f"/live?channel={room}&user=ada", "/live?user=ada"
        table = [
            (one, kind, b"{", 400, "bad_request"),
            (one, kind, b"01", 400, "bad_request"),
            (one, kind, b"{} {}", 400, "bad_request"),
            (one, kind, b'"\x01"', 400, "bad_request"),
            (one, kind, b'"\xff"', 400, "bad_request"),
            (one, kind, b"[" * 5000, 400, "bad_request"),
            (one, "Content-Type: text/plain", b"\xff\xfe", 415, "unsupported_media"),
            (one + "&channel=b", kind, b"1", 400, "bad_request"),
            (many, kind, b"{", 400, "bad_request"),
            (many, kind, b"7", 400, "bad_request"),
            (many, kind, b"{}", 400, "bad_request"),
            (many, kind, b'{"fly":{}}', 400, "bad_request"),
            (many, kind, b'{"ping":{},"history":{"channel":"a"}}', 400, "bad_request"),
            (many, kind, b'{"ping":{},"ping":{}}', 400, "bad_request"),
            (many, kind, b'{"id":{"a":1},"ping":{}}', 400, "bad_request"),
            (many, kind, b'{"id":"' + b"a" * 100 + b'","ping":{}}', 400, "bad_request"),
            (many, kind, b'{"publish":{"channel":"","data":1}}', 400, "bad_request"),
            (many, kind, b'{"publish":{"channel":"a"}}', 400, "bad_request"),
            (many, kind, b'{"publish":{"channel":"a","bytes":"###"}}', 400, "bad_request"),
            (many, kind, b'{"subscribe":{"channel":"a"}}', 400, "bad_request"),
            (many, kind, b"[" + b",".join([b'{"ping":{}}'] * 65) + b"]", 400, "bad_request"),
            (many, "Content-Type: text/plain", b'{"ping":{}}', 415, "unsupported_media"),
        ]
        for target, header, body, status, code in table:
            with self.subTest(body[:60]):
                await self.expect(request("POST", target, header, body=body), status, code, then_works=True)
                await self.neighbours_hear()
        stored = await self.follow("short_poll")
        self.assertEqual([m["data"] for m in await stored.take(self.said)], list(range(1, self.said + 1)), "what was refused is not stored")

    async def test_bodies_that_are_too_large(self):
        target, kind = f"/live?channel={quote(self.room)}", "Content-Type: text/plain"
        await self.expect(request("POST", target, kind, "Content-Length: 5000000"), 413, "too_large", then_works=False)
        await self.neighbours_hear()
        await self.expect(request("POST", target, kind, body=b"a" * ((1 << 20) + 1)), 413, "too_large")
        await self.neighbours_hear()
        bare = await Bare.open(self.chat)
        bare.writer.write(request("POST", target, kind, "Transfer-Encoding: chunked"))
        with contextlib.suppress(ConnectionError):
            for _ in range(64):  # says nothing of its length, and goes on
                bare.writer.write(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
                await bare.writer.drain()
        self.assertEqual((await bare.answer())[0], 413)
        bare.close()
        await self.neighbours_hear()

    async def test_websocket_frames(self):
        def frame(first, payload, masked=True):
            size = bytes([len(payload) | (128 if masked else 0)]) if len(payload) < 126 else bytes([127 | (128 if masked else 0)]) + struct.pack(">Q", len(payload))
            return bytes([first]) + size + (bytes(4) if masked else b"") + payload

        table = [
            ("an unmasked frame", frame(0x81, b"{}", masked=False), 1002),
            ("a reserved bit", frame(0xC1, b"{}"), 1002),
            ("an unknown opcode", frame(0x83, b"{}"), 1002),
            ("a continuation of nothing", frame(0x80, b"{}"), 1002),
            ("a long control frame", frame(0x89, b"a" * 126), 1002),
            ("a close without room for a code", frame(0x88, b"a"), 1002),
            ("a close code that nobody may send", frame(0x88, struct.pack(">H", 1005)), 1002),
            ("a text that is not UTF-8", frame(0x81, b"\xff"), 1007),
            ("a message over the limit", frame(0x81, b"")[:1] + bytes([255]) + struct.pack(">Q", 1 << 40), 1009),
        ]
        for what, data, code in table:
            with self.subTest(what):
                bare = await Bare.open(self.chat)
                bare.writer.write(request("GET", f"/live?channel={quote(self.room)}", "Connection: Upgrade", "Upgrade: websocket",
                                          "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + data)
                got = await soon(bare.reader.read())  # up to the end: the server closes
                at = got.rfind(struct.pack(">H", code))
                self.assertNotEqual(at, -1, got)
                self.assertEqual(got[at - 2], 0x88, "the last frame is a close")
                bare.close()
                await self.neighbours_hear()
        table = [
            ("not an upgrade to version 13", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), (400, 426)),
            ("no key", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), (400,)),
            ("a short key", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"), (400,)),
            ("unknown subprotocols", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                                      "Sec-WebSocket-Protocol: soap"), (400,)),
            ("a foreign page", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                                "Origin: https://evil.example"), (403,)),
        ]
        for what, headers, statuses in table:
            with self.subTest(what):
                bare = await Bare.open(self.chat)
                self.assertIn((await bare.ask(request("GET", f"/live?channel={quote(self.room)}", *headers)))[0], statuses)
                bare.close()
                await self.neighbours_hear()

    async def test_commands_on_a_websocket_that_are_wrong_cost_only_an_answer(self):
        client = await self.follow("websocket", "ada")
        for text, code in (("{", "bad_request"), ("[]", "bad_request"), ('{"ping":{},"read":{}}', "bad_request"), ('{"fly":{}}', "bad_request"),
                           ('{"publish":{"channel":"a\\u0000","data":1}}', "bad_request"), ('{"subscribe":{"channel":"@bob"}}', "forbidden"),
                           ('{"history":{"channel":"@bob"}}', "forbidden"), ('{"unsubscribe":{"channel":"never"}}', "bad_request")):
            with self.subTest(text):
                await client.connection.send(text)
                answer = json.loads(await soon(client.connection.recv()))
                self.assertEqual((answer["reply"], answer["error"]["code"]), (None, code))
        await client.connection.send('{"ping":{}}')  # without an id nothing is answered
        self.assertEqual(await client.command(ping={}), {"reply": 1, "ok": {}})
        await self.neighbours_hear()
        self.assertEqual((await client.next())["data"], 1)

    async def test_a_client_that_trickles_holds_nobody_up(self):
        bare = await Bare.open(self.chat)
        data = request("POST", f"/live?channel={quote(self.room)}", "Content-Type: application/json", body=b'"slowly"')
        for i in range(0, len(data), 7):
            if i % 35 == 0:
                await self.neighbours_hear()
            bare.writer.write(data[i:i + 7])
            await bare.writer.drain()
        self.assertEqual((await bare.answer())[0], 201)
        for neighbour in self.neighbours:
            self.assertEqual((await neighbour.next())["data"], "slowly")
        bare.close()


if __name__ == "__main__":
    unittest.main()
