#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""The chat with a file, killed with SIGKILL again and again at random moments, under publishers and followers; and on a disk
that fills up.

Each publisher numbers its messages, gives each a key, and repeats it under that key until it is acknowledged. Each follower
comes back with its own cursor, and none of them is told what is right. At the end the room is read, and held against what
publishers were told and followers heard.

HAILWIRE_CRASHES kills (15), HAILWIRE_CRASH_SEED decides when. The publishers' timing is the machine's own, so a seed repeats
the moments, not the run.
"""

import asyncio
import itertools
import json
import os
import pathlib
import random
import signal
import tempfile
import unittest

import websockets

from chat_clients import CHAT, FOLLOWERS, OPTIONS, TRANSPORTS, Bare, Chat, Late, Mortal, end, quote, request, soon

KILLS = int(os.environ.get("HAILWIRE_CRASHES", 15))
SEED = int(os.environ.get("HAILWIRE_CRASH_SEED", 1))
LOST = (OSError, EOFError, websockets.WebSocketException)  # what a connection ends with when the server is gone
ROOM = "the room"


class Crashing(Mortal):
    """A chat that may be killed before it listens."""

    async def kill_while_it_starts(self, random):
        process = await asyncio.create_subprocess_exec(CHAT, *OPTIONS, *self.arguments, stdout=asyncio.subprocess.DEVNULL)
        await asyncio.sleep(random.uniform(0, 0.03))
        process.kill()
        assert await soon(process.wait()) == -signal.SIGKILL


class Publisher:
    """Its messages are {"by": its name, "n": 0, 1, 2, …}, up to `window` of them unanswered at once."""

    window = 1

    def __init__(self, run, name):
        self.run, self.name, self.numbers = run, name, itertools.count()
        self.unanswered = {}  # n -> how often it was sent
        self.acknowledged = {}  # n -> (epoch, offset)

    def next(self):
        """The numbers to send now: first those whose outcome is unknown."""
        while len(self.unanswered) < self.window and not self.run.ending:
            self.unanswered[next(self.numbers)] = 0
        for n in self.unanswered:
            self.unanswered[n] += 1
        return list(self.unanswered)

    def took(self, n, position):
        self.acknowledged[n] = (position["epoch"], position["offset"])
        self.run.repeated += self.unanswered.pop(n) > 1
        self.run.progress.set()

    def goes_on(self):
        return not self.run.over and (not self.run.ending or self.unanswered)

    async def live(self):
        while self.goes_on():
            try:
                await self.talk()
            except LOST:
                await asyncio.sleep(self.run.random.uniform(0, 0.05))

    def data(self, n):
        return {"by": self.name, "n": n}

    def command(self, n):
        return {"id": n, "publish": {"channel": ROOM, "data": self.data(n), "key": f"{self.name}-{n}"}}

    def reply(self, reply):
        # `internal` would be an unknown outcome and is repeated; nothing else is refused here.
        if "error" in reply and reply["error"]["code"] in ("internal", "overloaded"):
            raise ConnectionError(reply["error"]["code"])
        self.took(reply["reply"], reply["ok"])


class ByWebSocket(Publisher):
    window = 8

    async def talk(self):
        async with websockets.connect(self.run.chat.url("ws", user=self.name), subprotocols=["hailwire.v1"], close_timeout=1) as connection:
            sent = set()
            while self.goes_on():
                for n in self.next():
                    if n not in sent:
                        await connection.send(json.dumps(self.command(n)))
                        sent.add(n)
                while "reply" not in (it := json.loads(await soon(connection.recv()))):
                    pass
                self.reply(it)


class ByPost(Publisher):
    """Plain publishes, as curl does them, on a connection that is kept."""

    async def talk(self):
        bare = await Bare.open(self.run.chat)
        try:
            while self.goes_on():
                for n in self.next():
                    status, _, body = await bare.ask(request(
                        "POST", f"/live?channel={quote(ROOM)}&user={self.name}", "Content-Type: application/json", f"Idempotency-Key: {self.name}-{n}",
                        body=json.dumps(self.data(n)).encode()))
                    if status in (500, 503):
                        raise ConnectionError(status)
                    assert status == 201, (status, body)
                    self.took(n, json.loads(body))
        finally:
            bare.close()


class ByCommands(Publisher):
    """Many commands in one POST."""

    window = 5

    async def talk(self):
        bare = await Bare.open(self.run.chat)
        try:
            while self.goes_on():
                commands = [self.command(n) for n in self.next()]
                status, _, body = await bare.ask(request("POST", f"/live?user={self.name}", "Content-Type: application/json",
                                                         body=json.dumps(commands).encode()))
                assert status == 200, (status, body)
                for reply in json.loads(body):
                    self.reply(reply)
        finally:
            bare.close()


class Run:
    def __init__(self, chat, seed):
        self.chat, self.random = chat, random.Random(seed)
        self.ending = False  # publishers begin no new message
        self.over = False  # nobody goes on, also who never heard that it was cancelled
        self.repeated, self.resumed = 0, 0
        self.publishers = [ByWebSocket(self, "ws"), ByPost(self, "post"), ByCommands(self, "commands"), ByPost(self, "post2")]
        self.heard = {transport: [] for transport in TRANSPORTS}  # (epoch, offset, data)
        self.gaps = []
        self.progress = asyncio.Event()  # something was acknowledged or heard

    async def until(self, condition):
        while not condition():
            self.progress.clear()
            await soon(self.progress.wait())

    async def follow(self, transport):
        follower = FOLLOWERS[transport](self.chat, ROOM, transport, "earliest")
        while not self.over:
            try:
                await follower.start()
                while not self.over:
                    it = await follower.next()
                    self.heard[transport].append((follower.cursor.split(".")[0], it["offset"], it["data"]))
                    self.progress.set()
                    if transport == "short_poll" and not follower.objects:
                        await asyncio.sleep(self.random.uniform(0, 0.04))
            except LOST:
                self.resumed += 1
                await asyncio.sleep(self.random.uniform(0, 0.05))
            finally:
                if transport in ("sse", "ndjson", "websocket") and hasattr(follower, "connection" if transport == "websocket" else "process"):
                    follower.cut()
                self.gaps += [(transport, gap) for gap in follower.gaps]
                follower.gaps = []

    async def log(self):
        """The room, page by page, as (epoch, offset, data)."""
        reader = FOLLOWERS["short_poll"](self.chat, ROOM)
        await reader.start()
        got = []
        while reader.objects:
            epoch = reader.cursor.split(".")[0]
            got += [(epoch, it["offset"], it["data"]) for it in reader.objects if "offset" in it]
            await reader.fetch()
        return got

    async def kill_again_and_again(self, kills):
        await self.until(lambda: sum(len(p.acknowledged) for p in self.publishers) >= 20)  # so that there is something to lose
        for _ in range(kills):
            await asyncio.sleep(self.random.choice([self.random.uniform(0, 0.05), self.random.uniform(0, 1)]))
            await self.chat.kill()
            if self.random.random() < 0.25:
                await self.chat.kill_while_it_starts(self.random)
            await asyncio.sleep(self.random.uniform(0, 0.1))
            await self.chat.restart()

    async def go(self, kills):
        """What was not as promised."""
        everyone = [asyncio.create_task(p.live()) for p in self.publishers]
        followers = [asyncio.create_task(self.follow(t)) for t in TRANSPORTS]
        try:
            killing = asyncio.create_task(self.kill_again_and_again(kills))
            done, _ = await asyncio.wait([killing, *everyone, *followers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # whoever ends early ended by failing
            self.ending = True
            await soon(asyncio.gather(*everyone))
            log = await self.log()
            hearing = asyncio.create_task(self.until(lambda: all(heard and heard[-1][:2] == log[-1][:2] for heard in self.heard.values())))
            everyone.append(hearing)
            done, _ = await asyncio.wait([hearing, *followers], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {hearing}:
                task.result()
            await asyncio.wait([hearing])  # ends by itself: `until` waits so long; what was not heard is named below
        finally:
            self.over = True
            await end(killing, *everyone, *followers)
        return self.faults(log), log

    def faults(self, log):
        faults = [f"{transport} was told of a gap: {gap}" for transport, gap in self.gaps]
        if [offset for _, offset, _ in log] != list(range(1, len(log) + 1)):
            faults.append("the room's offsets are not 1, 2, 3, …")
        if len({epoch for epoch, _, _ in log}) != 1:
            faults.append("the room has not one epoch")
        for p in self.publishers:
            if [data["n"] for _, _, data in log if data["by"] == p.name] != list(range(len(p.acknowledged))):
                faults.append(f"the room does not have each message of {p.name} once, in order")
            there = {(epoch, offset): data for epoch, offset, data in log}
            for n, position in p.acknowledged.items():
                if there.get(position) != p.data(n):
                    faults.append(f"message {n} of {p.name} was acknowledged as {position}; there stands {there.get(position)}")
                    break
        for transport, heard in self.heard.items():
            if heard != log:
                at = next((i for i, (a, b) in enumerate(zip(heard, log)) if a != b), min(len(heard), len(log)))
                faults.append(f"{transport} heard {len(heard)} of {len(log)}; the first difference is {heard[at:at + 1]} for {log[at:at + 1]}")
        return faults


class Ends(unittest.IsolatedAsyncioTestCase):
    """What these tests lean on: a task that is cancelled ends."""

    async def test_a_wait_that_is_cancelled_as_its_result_comes_is_cancelled(self):
        came = asyncio.get_running_loop().create_future()
        heard = []

        async def follow():
            while True:
                heard.append(await soon(came))
                await asyncio.Event().wait()

        task = asyncio.create_task(follow())
        await asyncio.sleep(0)
        came.set_result("a message")
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        self.assertTrue(task.cancelled())

    async def test_what_swallows_a_cancel_is_cancelled_again(self):
        async def deaf(times):
            for _ in range(times):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        tasks = [asyncio.create_task(deaf(times)) for times in (0, 1, 2)]
        await asyncio.sleep(0)
        await end(*tasks)
        self.assertTrue(all(task.done() for task in tasks))

    async def test_what_is_late_is_named_and_is_no_lost_connection(self):
        with self.assertRaises(Late) as late:
            await soon(asyncio.Event().wait(), 0.01)
        self.assertIn("Event.wait", str(late.exception))
        self.assertNotIsInstance(late.exception, LOST)

        async def times_out():
            raise TimeoutError("the peer's")

        with self.assertRaises(TimeoutError):
            await soon(times_out())


class Crash(unittest.IsolatedAsyncioTestCase):
    async def crash(self, storage, kills):
        async with Crashing("--history", "1000000", "--storage", storage) as chat:
            run = Run(chat, SEED)
            faults, log = await run.go(kills)
            acknowledged = sum(len(p.acknowledged) for p in run.publishers)
            print(f"{storage.split(':')[0]}: {kills} kills from seed {SEED}: {acknowledged} messages acknowledged, {run.repeated} of them repeated; "
                  f"followers came back {run.resumed} times", flush=True)
            return faults, log, run

    async def test_what_was_acknowledged_is_there_once_and_in_order_and_followers_neither_lose_nor_repeat(self):
        with tempfile.TemporaryDirectory() as folder:
            faults, log, run = await self.crash(f"sqlite:{folder}/chat.db", KILLS)
            self.assertEqual(faults, [])
            self.assertGreater(len(log), KILLS * 10)
            self.assertGreater(run.repeated, 0)
            self.assertGreaterEqual(run.resumed, KILLS * 2)
            async with Chat("--storage", f"sqlite:{folder}/chat.db", "--history", "1000000") as again:
                self.assertEqual(await Run(again, 0).log(), log)

    async def test_would_notice_if_a_kill_cost_messages(self):
        faults, _, _ = await self.crash("memory", 2)
        self.assertNotEqual(faults, [])


class FullDisk(unittest.IsolatedAsyncioTestCase):
    async def test_a_disk_of_8_mib_that_fills_up_refuses_publishes_keeps_what_it_has_and_takes_more_when_there_is_room(self):
        with tempfile.TemporaryDirectory() as folder:
            # A file system in a mount name space of the chat's own; the test reaches it through /proc.
            mount = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"', folder)
            probe = await asyncio.create_subprocess_exec(*mount, "true", stderr=asyncio.subprocess.DEVNULL)
            if await probe.wait():
                self.skipTest("not run: this user may mount nothing")
            async with Chat("--storage", f"sqlite:{folder}/chat.db", "--history", "1000000", under=mount) as chat:
                disk = pathlib.Path(f"/proc/{chat.process.pid}/root{folder}")
                (disk / "filler").write_bytes(bytes(4 << 20))
                socket = await FOLLOWERS["websocket"](chat, ROOM, "ada", "latest").start()
                record, refused = [], 0
                for n in range(3000):
                    status, headers, body = await self.post(chat, n)
                    if status == 201:
                        self.assertEqual(json.loads(body)["offset"], len(record) + 1)
                        record.append(self.data(n))
                        continue
                    self.assertEqual((status, headers["retry-after"], json.loads(body)["code"]), (503, "10", "overloaded"))
                    refused += 1
                    if refused == 20:
                        break
                self.assertEqual(refused, 20)
                reply = await socket.command(publish={"channel": ROOM, "data": self.data(0)})
                self.assertEqual((reply["error"]["code"], reply["error"]["retry_after"]), ("overloaded", 10))
                self.assertGreater(len(record), 50)
                self.assertEqual([data for _, _, data in await Run(chat, 0).log()], record)

                (disk / "filler").unlink()
                for n in range(3000, 3050):
                    self.assertEqual((await self.post(chat, n))[0], 201)
                    record.append(self.data(n))
                self.assertEqual([m["data"] for m in await socket.take(len(record))], record)
                self.assertEqual([data for _, _, data in await Run(chat, 0).log()], record)
                socket.cut()

    def data(self, n):
        return f"{n} " + "." * (n * 611 % 20000)

    async def post(self, chat, n):
        bare = await Bare.open(chat)
        try:
            return await bare.ask(request("POST", f"/live?channel={quote(ROOM)}", "Content-Type: application/json", body=json.dumps(self.data(n)).encode()))
        finally:
            bare.close()


if __name__ == "__main__":
    unittest.main()
