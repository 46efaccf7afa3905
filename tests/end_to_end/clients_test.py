#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""Other people's clients on the chat: together, cut off, polling, publishing, slow, and there when it ends.

What clients receive is compared with what the test itself published, never with what the server says it has.
"""

import asyncio
import json
import os
import pathlib
import signal
import socket
import tempfile
import unittest

import websockets

from chat_clients import SECURE, TRANSPORTS, Bare, Chat, WithChat, curl, publish, quote, request, soon


class Together(WithChat):
    async def test_clients_on_all_transports_see_the_same_messages_from_one_another_in_the_same_order(self):
        everyone = [await self.follow(t, user=t) for t in TRANSPORTS]
        record = {}

        async def talk(follower):
            for i in range(10):
                data = {"from": follower.user, "turn": i}
                at = await follower.send(data)
                record[at["offset"]] = data

        await soon(asyncio.gather(*(talk(f) for f in everyone)))
        count = 10 * len(everyone)
        self.assertEqual(sorted(record), list(range(1, count + 1)))
        in_order = [record[i] for i in range(1, count + 1)]
        for follower in everyone:
            got = await follower.take(count)
            self.check_record(got, in_order)
            self.assertEqual([m["from"] for m in got], [d["from"] for d in in_order])
            self.assertEqual(follower.gaps, [])

    async def test_a_client_that_is_cut_off_resumes_on_any_transport_without_loss_or_repeat(self):
        for before in TRANSPORTS:
            for after in TRANSPORTS:
                with self.subTest(before=before, after=after):
                    self.room = f"from {before} to {after}"
                    record = []

                    async def talk(count):
                        bare = await Bare.open(self.chat)
                        for _ in range(count):
                            record.append(f"message {len(record)}")
                            status, _, _ = await bare.ask(request("POST", f"/live?channel={quote(self.room)}", "Content-Type: text/plain",
                                                                  body=record[-1].encode()))
                            self.assertEqual(status, 201)
                        bare.close()

                    await talk(3)
                    first = await self.follow(before, "ada")
                    talking = asyncio.create_task(talk(30))
                    got = await first.take(10)
                    first.cut()  # while the talk goes on
                    await talking
                    await talk(5)
                    second = await self.follow(after, "ada", since=first.cursor)
                    talking = asyncio.create_task(talk(12))
                    got += await second.take(40)
                    await talking
                    self.check_record(got, record)
                    self.assertEqual(first.gaps + second.gaps, [])

    async def test_history_that_is_gone_is_a_gap_on_every_transport(self):
        async with Chat("--history", "5") as self.chat:
            at = await publish(self.chat, self.room, 1)
            for i in range(2, 11):
                await publish(self.chat, self.room, i)
            for transport in TRANSPORTS:
                with self.subTest(transport=transport):
                    follower = await self.follow(transport, since=f'{at["epoch"]}.1')
                    got = await follower.take(5)
                    self.assertEqual([m["data"] for m in got], [6, 7, 8, 9, 10])
                    self.assertEqual(follower.gaps, [{"channel": self.room, "reason": "trimmed", "epoch": at["epoch"], "next": 6}])

    async def test_one_request_follows_several_rooms(self):
        rooms = ["several a", "several b", "several c"]
        for i, room in enumerate(rooms):
            await publish(self.chat, room, i)
        status, headers, body = await curl(self.chat.url(channel=rooms, since="earliest"))
        answer = json.loads(body)
        self.assertEqual({(m["channel"], m["data"]) for m in answer["messages"]}, set(zip(rooms, range(3))))
        self.assertEqual(len(answer["cursor"].split(",")), 3)
        for i, room in enumerate(rooms):
            await publish(self.chat, room, 10 + i)
        process = await asyncio.create_subprocess_exec("curl", "-sSN", "-H", "Accept: text/event-stream", "-H", f'Last-Event-ID: {answer["cursor"]}',
                                                       self.chat.url(channel=rooms), stdout=asyncio.subprocess.PIPE)
        seen, last = set(), None
        while len(seen) < 3 or line:  # up to the end of the last block, where its id stands
            line = (await soon(process.stdout.readline())).decode().rstrip("\n")
            if line.startswith("id: "):
                last = line[4:]
            if line.startswith("data: ") and "offset" in (m := json.loads(line[6:])):
                seen.add((m["channel"], m["data"]))
        process.kill()
        self.assertEqual(seen, set(zip(rooms, (10, 11, 12))))
        # The id behind the last message of the last batch is the place after all of them.
        _, _, body = await curl(self.chat.url(channel=rooms, since=last))
        self.assertEqual(json.loads(body)["messages"], [])


class Publishing(WithChat):
    async def test_payloads_arrive_as_what_they_were_sent_as(self):
        url = self.chat.url(channel=self.room, user="ada")
        sent = [
            ("application/json", b'{"a": 1.50,\t"b":[1e3,"\\u00e9"]}', b'"data":{"a": 1.50,\t"b":[1e3,"\\u00e9"]}'),
            ("application/json", b'{"a":\r\n1,\n"b":2\r}', b'"data":{"a":  1, "b":2 }'),
            ("text/plain", "line one\nline two\r\n„three“".encode(), '"data":"line one\\nline two\\r\\n„three“"'.encode()),
            ("application/octet-stream", b"\x00\xff\n\r", b'"bytes":"AP8KDQ=="'),
        ]
        for i, (kind, body, _) in enumerate(sent, 1):
            status, headers, answer = await curl("--data-binary", "@-", "-H", f"Content-Type: {kind}", url, body=body)
            self.assertEqual((status, headers["content-type"]), (201, "application/json"))
            self.assertEqual(json.loads(answer).keys(), {"channel", "epoch", "offset"})
            self.assertEqual(json.loads(answer)["offset"], i)
        _, _, raw = await curl(self.chat.url(channel=self.room, since="earliest"))
        for _, _, wanted in sent:
            self.assertIn(wanted, raw)
        # On SSE too each is one line of data; Sse.fetch fails otherwise.
        stream = await self.follow("sse")
        got = await stream.take(len(sent))
        socket_ = await self.follow("websocket")
        self.assertEqual(await socket_.take(len(sent)), got)
        self.assertEqual(json.loads(raw)["messages"], got)
        self.assertEqual(got[2]["data"], "line one\nline two\r\n„three“")

    async def test_the_same_key_publishes_once(self):
        async def post(data, key, user):
            return await curl("--data-binary", "@-", "-H", "Content-Type: application/json", "-H", f"Idempotency-Key: {key}",
                              self.chat.url(channel=self.room, user=user), body=json.dumps(data).encode())

        first = await post("once", '"k-1"', "ada")
        self.assertEqual(first[0], 201)
        for key in ('"k-1"', "k-1"):
            again = await post("once", key, "ada")
            self.assertEqual((again[0], again[2]), (201, first[2]))
        status, headers, body = await post("other", "k-1", "ada")
        self.assertEqual((status, json.loads(body)["code"]), (409, "conflict"))
        self.assertEqual(json.loads((await post("once", "k-1", "bob"))[2])["offset"], 2)  # bob's keys are his own
        # The same key as a command, on another transport.
        socket_ = await self.follow("websocket", "ada")
        reply = await socket_.command(publish={"channel": self.room, "data": "once", "key": "k-1"})
        self.assertEqual(reply["ok"]["offset"], 1)
        _, _, body = await curl(self.chat.url(channel=self.room, since="earliest"))
        self.assertEqual([m["data"] for m in json.loads(body)["messages"]], ["once", "once"])

    async def test_commands_in_one_post_are_answered_in_order(self):
        commands = [{"id": i, "publish": {"channel": self.room, "data": i}} for i in range(5)]
        commands += [{"id": "h", "history": {"channel": self.room, "limit": 2}}, {"id": None, "fly": {}}, {"ping": {}}]
        status, _, body = await curl("--data-binary", "@-", "-H", "Content-Type: application/json", self.chat.url(user="ada"),
                                     body=json.dumps(commands).encode())
        replies = json.loads(body)
        self.assertEqual(status, 200)
        self.assertEqual([r["reply"] for r in replies[:6]], [0, 1, 2, 3, 4, "h"])
        self.assertEqual([r["ok"]["offset"] for r in replies[:5]], [1, 2, 3, 4, 5])
        self.assertEqual([m["data"] for m in replies[5]["ok"]["messages"]], [3, 4])
        self.assertEqual(replies[6]["error"]["code"], "bad_request")

    async def test_pipelined_requests_are_answered_in_order(self):
        bare = await Bare.open(self.chat)
        room = quote(self.room)
        wanted = []
        for i in range(20):
            bare.writer.write(request("POST", f"/live?channel={room}", "Content-Type: application/json", body=str(i).encode()))
            wanted.append((201, i + 1))
            if i % 5 == 0:
                bare.writer.write(request("GET", f"/live?channel={room}&since=earliest"))
                wanted.append((200, i + 1))
                bare.writer.write(request("GET", "/nothing"))
                wanted.append((404, None))
        # A held poll keeps what is behind it waiting, and is answered by another connection's message.
        bare.writer.write(request("GET", f"/live?channel={room}&since=earliest&wait=20"))
        bare.writer.write(request("GET", f"/live?channel={room}&wait=20", f"If-None-Match: {(await self.etag(room))}"))
        bare.writer.write(request("GET", "/"))
        for status, number in wanted:
            answer = await bare.answer()
            self.assertEqual(answer[0], status)
            if status == 201:
                self.assertEqual(json.loads(answer[2])["offset"], number)
            elif status == 200:
                self.assertEqual([m["data"] for m in json.loads(answer[2])["messages"]], list(range(number)))
        self.assertEqual([m["data"] for m in json.loads((await bare.answer())[2])["messages"]], list(range(20)))
        await publish(self.chat, self.room, "late")
        self.assertEqual(json.loads((await bare.answer())[2])["messages"][-1]["data"], "late")
        self.assertEqual((await bare.answer())[0], 200)
        bare.close()

    async def etag(self, room):
        return (await curl(self.chat.url(channel=self.room)))[1]["etag"]


class Polling(WithChat):
    async def test_nothing_new_is_304_for_whoever_names_the_cursor(self):
        await publish(self.chat, self.room, 1)
        url = self.chat.url(channel=self.room)
        status, headers, body = await curl(url)  # from `latest`: at once, with the place where following starts
        self.assertEqual((status, json.loads(body)["messages"]), (200, []))
        tag = headers["etag"]
        for more in ([], ["-H", "Prefer: wait=1"]):
            for form in (tag, "W/" + tag, f'"other", {tag}'):
                status, headers, body = await curl("-H", f"If-None-Match: {form}", *more, url)
                self.assertEqual((status, headers["etag"], body), (304, tag, b""))
        await publish(self.chat, self.room, 2)
        status, headers, body = await curl("-H", f"If-None-Match: {tag}", url)
        self.assertEqual((status, [m["data"] for m in json.loads(body)["messages"]]), (200, [2]))
        self.assertNotEqual(headers["etag"], tag)

    async def test_a_lost_answer_is_read_again(self):
        for i in range(3):
            await publish(self.chat, self.room, i)
        url = self.chat.url(channel=self.room, since="earliest", wait=5)
        answers = {(await curl(url))[2] for _ in range(3)}
        self.assertEqual(len(answers), 1)

    async def test_a_long_answer_comes_in_parts(self):
        bare = await Bare.open(self.chat)
        for i in range(4):
            bare.writer.write(request("POST", f"/live?channel={quote(self.room)}", "Content-Type: text/plain", body=bytes([65 + i]) * 500_000))
            self.assertEqual((await bare.answer())[0], 201)
        bare.close()
        poll = await self.follow("short_poll")
        parts = []
        while len(parts) < 10 and sum(parts) < 4:
            parts.append(len(poll.objects))
            poll.objects.clear()
            await poll.fetch()
        self.assertEqual(sum(parts), 4)
        self.assertGreater(len(parts), 1)

    async def test_head_says_what_get_would(self):
        await publish(self.chat, self.room, 1)
        status, headers, body = await curl("-I", self.chat.url(channel=self.room, since="earliest"))
        got, shown, content = await curl(self.chat.url(channel=self.room, since="earliest"))
        self.assertEqual((status, headers["etag"], body), (got, shown["etag"], b""))
        self.assertEqual(int(headers["content-length"]), len(content))


@unittest.skipIf(SECURE, "it reads from a bare socket, and TLS ends at one")
class Slow(WithChat):
    COUNT, SIZE = 640, 16 * 1024  # 10 MiB: more than the socket buffers on both sides and a connection's own hold together

    async def stalled(self, room, *headers):
        """A client that has asked and reads nothing, with as small a buffer as the system allows."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", self.chat.port))
        s.sendall(request("GET", f"/live?channel={quote(room)}&since=earliest", *headers))
        self.addCleanup(s.close)
        return s

    async def publish_all(self, follower):
        bare = await Bare.open(self.chat)
        for first in range(0, self.COUNT, 32):
            batch = list(range(first, first + 32))
            for i in batch:
                bare.writer.write(request("POST", f"/live?channel={quote(self.room)}", "Content-Type: application/json",
                                          body=json.dumps([i, "x" * self.SIZE]).encode()))
            for _ in batch:
                self.assertEqual((await bare.answer())[0], 201)
            self.assertEqual([m["data"][0] for m in await follower.take(32)], batch, "a neighbour is not held up")
        bare.close()

    def memory(self):
        """Resident, in MiB."""
        text = pathlib.Path(f"/proc/{self.chat.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    async def read_events(self, s):
        reader, writer = await asyncio.open_connection(sock=s, limit=1 << 20)
        self.addCleanup(writer.close)
        while True:
            line = (await soon(reader.readline())).decode()
            if line.startswith("data: "):
                yield json.loads(line[6:])

    async def test_a_slow_reader_costs_a_cursor_and_catches_up(self):
        async with Chat("--history", "10000") as self.chat:
            await publish(self.chat, self.room, "first")
            neighbour = await self.follow("websocket")
            await neighbour.next()
            slow = [await self.stalled(self.room, "Accept: text/event-stream") for _ in range(20)]
            before = self.memory()
            await self.publish_all(neighbour)
            grown = self.memory() - before
            # The history is 10 MiB, kept once and once more as encoded bytes at most; 20 queues would be 200 MiB.
            self.assertLess(grown, 80)
            for s in slow[:1]:
                got = []
                async for it in self.read_events(s):
                    self.assertNotIn("gap", it)
                    if "channel" in it:
                        got.append(it)
                        if len(got) == self.COUNT + 1:
                            break
                self.assertEqual([m["offset"] for m in got], list(range(1, self.COUNT + 2)))
                self.assertEqual([m["data"][0] for m in got[1:]], list(range(self.COUNT)))

    async def test_a_reader_slower_than_the_retention_is_told_of_its_gap_and_goes_on(self):
        async with Chat("--history", "50") as self.chat:
            await publish(self.chat, self.room, "first")
            neighbour = await self.follow("websocket")
            await neighbour.next()
            s = await self.stalled(self.room, "Accept: text/event-stream")
            await self.publish_all(neighbour)
            at, gaps = 0, 0
            async for it in self.read_events(s):
                if "gap" in it:
                    self.assertEqual(it["gap"]["reason"], "trimmed")
                    self.assertGreater(it["gap"]["next"], at + 1)
                    at, gaps = it["gap"]["next"] - 1, gaps + 1
                elif "channel" in it:
                    self.assertEqual(it["offset"], at + 1, "every hole has its notice")
                    at += 1
                    if at == self.COUNT + 1:
                        break
            self.assertGreaterEqual(gaps, 1)


class Ending(WithChat):
    async def test_sigterm_ends_the_chat_in_order_whoever_is_connected(self):
        stream = await self.follow("sse")
        client = await self.follow("websocket")
        idle, half, stalled, held = [await Bare.open(self.chat) for _ in range(4)]
        held.writer.write(request("GET", f"/live?channel={quote(self.room)}&since=earliest&wait=25"))
        half.writer.write(b"GET /live?chan")
        stalled.writer.write(request("POST", f"/live?channel={quote(self.room)}", "Content-Length: 100"))
        for _ in range(2):  # what was sent before has been read when a later request is answered
            self.assertEqual((await idle.ask(request("GET", "/")))[0], 200)
        self.chat.process.send_signal(signal.SIGTERM)
        self.assertEqual(await soon(self.chat.process.wait(), 10), 0)
        with self.assertRaises(websockets.ConnectionClosed) as closed:
            await client.next()
        self.assertEqual(closed.exception.code, 1012)
        with self.assertRaises(EOFError):
            await stream.next()
        self.assertEqual((client.bye["code"], stream.bye["code"]), ("draining", "draining"))
        self.assertEqual(await soon(stream.process.wait()), 0)  # curl counts an end without the last chunk as an error
        self.assertIn((await held.answer())[0], (200, 503))
        for bare in (idle, half, stalled, held):
            bare.close()

    async def test_sigint_ends_it_too(self):
        self.chat.process.send_signal(signal.SIGINT)
        self.assertEqual(await soon(self.chat.process.wait(), 10), 0)


class Tickets(unittest.IsolatedAsyncioTestCase):
    async def test_nodes_that_share_a_key_take_one_another_s_tickets(self):
        """Who brings one that is good is given no other."""
        with tempfile.TemporaryDirectory() as folder:
            key = f"{folder}/tickets"
            async with Chat("--tickets", key) as one, Chat("--tickets", key) as other, Chat() as stranger:
                self.assertEqual(os.listdir(folder), ["tickets"])
                self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)

                async def given(chat, **query):
                    _, _, body = await curl(chat.url(channel="room", user="ada", **query))
                    return json.loads(body).get("ticket")

                ticket = await given(one)
                self.assertTrue(ticket)
                self.assertIsNone(await given(other, ticket=ticket))
                self.assertTrue(await given(stranger, ticket=ticket))


class Draining(WithChat):
    arguments = ("--drain-seconds", "60")

    async def test_a_drain_answers_what_is_asked_and_ends_when_the_last_client_has_gone(self):
        following = {t: await self.follow(t) for t in ("sse", "ndjson", "websocket")}
        held, half, asking, late = [await Bare.open(self.chat) for _ in range(4)]
        held.writer.write(request("GET", f"/live?channel={quote(self.room)}&since=earliest&wait=25"))
        body = b'"under way"'
        whole = request("POST", f"/live?channel={quote(self.room)}", "Content-Type: application/json", body=body)
        half.writer.write(whole[:-5])  # it holds the drain up, and with that the process
        for _ in range(2):  # what was sent before has been read when a later request is answered
            self.assertEqual((await asking.ask(request("GET", "/")))[0], 200)
        self.chat.process.send_signal(signal.SIGTERM)
        status, fields, answer = await held.answer()
        bye = json.loads(answer)["notices"][0]["bye"]
        self.assertEqual((status, fields["connection"], bye["code"]), (200, "close", "draining"))
        self.assertGreaterEqual(bye["after"][1], bye["after"][0] + 1000)
        self.assertEqual((await late.ask(request("GET", f"/live?channel={quote(self.room)}")))[0], 503)
        half.writer.write(whole[-5:])
        self.assertEqual((await half.answer())[0], 201)
        for bare in (held, half, asking, late):
            bare.close()
        for transport, client in following.items():
            with self.assertRaises((EOFError, websockets.ConnectionClosed)):
                while True:
                    await client.next()
            self.assertEqual(client.bye["code"], "draining", transport)
        self.assertEqual(await soon(self.chat.process.wait()), 0)


if __name__ == "__main__":
    unittest.main()
