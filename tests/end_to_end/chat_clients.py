# SPDX-License-Identifier: BSL-1.0
"""The chat binary and its clients, for the tests here: curl for the three HTTP transports and for publishing, Debian's
python3-websockets for WebSocket, and bare sockets where a client would be too well-behaved.

HAILWIRE_CHAT names the binary; the default is that of the release preset. HAILWIRE_CHAT_OPTIONS are more options for it: with
TLS among them, the clients use https and wss (tls/again.py).
"""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import ssl
import unittest
import urllib.parse

import websockets

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHAT = os.environ.get("HAILWIRE_CHAT", str(ROOT / "build/release/examples/chat"))
OPTIONS = os.environ.get("HAILWIRE_CHAT_OPTIONS", "").split()
SECURE = "s" if "--tls-cert" in OPTIONS else ""
PATIENCE = 30  # seconds for anything that must happen: far more than it takes
TRANSPORTS = ("short_poll", "long_poll", "sse", "ndjson", "websocket")

quote = urllib.parse.quote


class Late(AssertionError):
    """Something that must happen did not. No OSError, as TimeoutError is: nobody takes it for a lost connection."""


async def soon(awaitable, seconds=PATIENCE):
    """Not asyncio.wait_for: before Python 3.12 that swallows a cancel which comes together with the result."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await awaitable
    except TimeoutError as why:
        if limit.expired():
            raise Late(f"not within {seconds} s: {awaitable!r}") from why
        raise


async def end(*tasks):
    """Cancels them until each has ended: libraries underneath may swallow a cancel too. Says which task does not end."""
    waiting = set(tasks)
    for _ in range(PATIENCE):
        for task in waiting:
            task.cancel()
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=1)
        if not waiting:
            return
    raise Late(f"cancelled {PATIENCE} times and not ended: {waiting}")


class Chat:
    """A chat that runs, `under` a command that ends by becoming it. Ends, with exit code 0 on SIGTERM, when the `async with` does.
    It waits for no client then, unless its arguments say otherwise."""

    def __init__(self, *arguments, under=()):
        self.arguments, self.under, self.told = arguments, under, False

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(*self.under, CHAT, "--port", "0", "--drain-seconds", "0", *OPTIONS, *self.arguments, stdout=asyncio.subprocess.PIPE)
        line = (await soon(self.process.stdout.readline())).decode()
        assert line.startswith(f"listening on http{SECURE}://127.0.0.1:") and line.endswith("/\n"), line
        self.port = int(line.rsplit(":", 1)[1].rstrip("/\n"))
        self.host = f"127.0.0.1:{self.port}"
        return self

    def tell_to_end(self):
        """Once: to signal a process that has ended would take its exit code from whoever waits for it."""
        if self.process.returncode is None and not self.told:
            self.told = True
            self.process.send_signal(signal.SIGTERM)

    async def __aexit__(self, kind, value, trace):
        self.tell_to_end()
        code = await soon(self.process.wait())
        assert code == 0 or value, f"SIGTERM ended the chat with {code}"

    def url(self, scheme="http", **query):
        return f"{scheme}{SECURE}://{self.host}/live?" + urllib.parse.urlencode(query, doseq=True, safe=",.")


class Mortal(Chat):
    """A chat that is killed, or told to end, and comes back at the same port."""

    async def __aenter__(self):
        await super().__aenter__()
        self.arguments = (*self.arguments, "--port", str(self.port))
        return self

    async def kill(self):
        self.process.kill()
        assert await soon(self.process.wait()) == -signal.SIGKILL

    async def drain(self):
        self.tell_to_end()
        assert await soon(self.process.wait()) == 0

    async def restart(self):
        self.told = False
        await super().__aenter__()


# ---- curl --------------------------------------------------------------------------------------------------------------


async def curl(*arguments, body=None):
    """(status, headers, body) of one request by curl."""
    process = await asyncio.create_subprocess_exec("curl", "-sS", "-i", "--max-time", str(PATIENCE), "-H", "Expect:", *arguments,
                                                   stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, why = await process.communicate(body)
    if process.returncode:
        raise ConnectionError(f"curl {arguments}: {why.decode()}")
    head, _, rest = out.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}, rest


async def publish(chat, room, data, user="host"):
    """By curl; the position that the server gave."""
    status, _, body = await curl("--data-binary", "@-", "-H", "Content-Type: application/json", chat.url(channel=room, user=user),
                                 body=json.dumps(data).encode())
    assert status == 201, (status, body)
    return json.loads(body)


# ---- one follower for each transport -----------------------------------------------------------------------------------


class Follower:
    """Follows one room from a cursor: `await next()` is its next message, `cursor` where it stands, `cut()` drops the
    connection without a word. Each class below fetches objects in its transport's way."""

    def __init__(self, chat, room, user="", since="earliest"):
        self.chat, self.room, self.user, self.cursor = chat, room, user, since
        self.objects, self.gaps, self.bye = [], [], None

    def query(self, **more):
        return {"channel": self.room, "user": self.user, "since": self.cursor, **more}

    async def next(self):
        while True:
            while not self.objects:
                await soon(self.fetch())
            it = self.objects.pop(0)
            if "gap" in it:
                self.gaps.append(it["gap"])
                self.cursor = f'{it["gap"]["epoch"]}.{it["gap"]["next"] - 1}'
            if "bye" in it:
                self.bye = it["bye"]
            if "open" in it:
                at = it["open"]["channels"][self.room]
                self.epoch, self.cursor = at["epoch"], f'{at["epoch"]}.{at["offset"]}'
            if "channel" in it:
                self.cursor = f'{self.cursor.split(".")[0]}.{it["offset"]}'
                return it

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    async def send(self, data):
        return await publish(self.chat, self.room, data, self.user)


class Poll(Follower):
    more = {}

    async def start(self):
        # A poll is not a connection: the first one, answered at once, says where following starts.
        await self.fetch(wait=0)
        return self

    async def fetch(self, **how):
        status, headers, body = await curl(self.chat.url(**self.query(**(how or self.more))))
        assert status == 200 and headers["content-type"] == "application/json" and headers["cache-control"] == "no-store", (status, headers)
        answer = json.loads(body)
        assert headers["etag"] == f'"{answer["cursor"]}"', headers
        self.cursor = answer["cursor"]
        self.objects = answer["notices"] + answer["messages"]

    async def next(self):
        # Between two answers a client stands at the last message that it took in, not at the answer's cursor.
        while not self.objects:
            await soon(self.fetch())
        it = self.objects.pop(0)
        if "gap" in it:
            self.gaps.append(it["gap"])
            return await self.next()
        return it

    def cut(self):
        # What was fetched and not taken in is lost on the way: the cursor says where the client really is.
        lost = [it["offset"] for it in self.objects if "offset" in it]
        if lost:
            self.cursor = f'{self.cursor.split(".")[0]}.{lost[0] - 1}'
        self.objects.clear()


class ShortPoll(Poll):
    pass


class LongPoll(Poll):
    more = {"wait": 20}


class Sse(Follower):
    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            "curl", "-sSN", "-H", "Accept: text/event-stream", self.chat.url(**self.query()), stdout=asyncio.subprocess.PIPE, limit=1 << 24)
        await soon(self.fetch())
        assert "open" in self.objects[0], self.objects
        return self

    async def fetch(self):
        """One event: exactly one `data:` line, and what stands beside it. One that was cut off is none."""
        event = {}
        while line := (await self.process.stdout.readline()).decode():
            line = line.rstrip("\n")
            if not line and "data" in event:
                break
            name, _, value = line.partition(": ")
            if name:
                assert name not in event, f"{name} twice in an event"
                assert "id" not in event, f"{name} behind the id of an event"
                event[name] = value
            else:
                assert not event, f"a block without data: {event}"
        else:
            raise EOFError("the stream ended")
        it = json.loads(event["data"])
        assert event.get("event", "message") == ("message" if "channel" in it else next(iter(it))), event
        if "offset" in it:
            assert event["id"].endswith(f'.{it["offset"]}'), event
        self.objects.append(it)

    def cut(self):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self.process.kill()
        self.objects.clear()


class Ndjson(Follower):
    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            "curl", "-sSN", "-H", "Accept: application/x-ndjson", self.chat.url(**self.query()), stdout=asyncio.subprocess.PIPE, limit=1 << 24)
        await soon(self.fetch())
        assert "open" in self.objects[0], self.objects
        return self

    async def fetch(self):
        """One line: one object. One that was cut off is none."""
        line = (await self.process.stdout.readline()).decode()
        if not line.endswith("\n"):
            raise EOFError("the stream ended")
        assert line != "\n", "a blank line"
        self.objects.append(json.loads(line))

    cut = Sse.cut


class WebSocket(Follower):
    replies = 0

    async def start(self):
        self.connection = await soon(websockets.connect(self.chat.url("ws", **self.query()), subprotocols=["hailwire.v1"], max_size=1 << 24))
        assert self.connection.subprotocol == "hailwire.v1"
        await soon(self.fetch())
        assert "open" in self.objects[0], self.objects
        return self

    async def fetch(self):
        self.objects.append(json.loads(await self.connection.recv()))

    async def command(self, **what):
        """Its reply; what comes before it waits in `objects`."""
        self.replies += 1
        await self.connection.send(json.dumps({"id": self.replies, **what}))
        while True:
            it = json.loads(await soon(self.connection.recv()))
            if it.get("reply") == self.replies:
                return it
            self.objects.append(it)

    async def send(self, data):
        return (await self.command(publish={"channel": self.room, "data": data}))["ok"]

    def cut(self):
        self.connection.transport.abort()
        self.objects.clear()


FOLLOWERS = {"short_poll": ShortPoll, "long_poll": LongPoll, "sse": Sse, "ndjson": Ndjson, "websocket": WebSocket}


# ---- bare HTTP, for what no client would send --------------------------------------------------------------------------


class Bare:
    """A connection on which bytes are sent as they are, and answers are read by their length."""

    @classmethod
    async def open(cls, chat):
        self = cls()
        self.reader, self.writer = await soon(asyncio.open_connection("127.0.0.1", chat.port, limit=1 << 24, ssl=ssl.create_default_context() if SECURE else None))
        return self

    async def answer(self):
        head = (await soon(self.reader.readuntil(b"\r\n\r\n"))).decode()
        lines = head.split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
        body = await soon(self.reader.readexactly(int(headers.get("content-length", 0))))
        return int(lines[0].split()[1]), headers, body

    async def ask(self, data):
        self.writer.write(data)
        return await self.answer()

    def close(self):
        self.writer.close()


def request(method, target, *headers, body=b""):
    lines = [f"{method} {target} HTTP/1.1", "Host: chat", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class WithChat(unittest.IsolatedAsyncioTestCase):
    arguments = ()
    rooms = 0

    async def asyncSetUp(self):
        self.chat = await self.enterAsyncContext(Chat(*self.arguments))
        WithChat.rooms += 1
        self.room = f"room {WithChat.rooms}"

    async def follow(self, transport, user="", since="earliest", room=None):
        follower = await FOLLOWERS[transport](self.chat, room or self.room, user, since).start()
        if transport in ("sse", "ndjson", "websocket"):
            self.addCleanup(follower.cut)
        return follower

    def check_record(self, got, record):
        """`got` are messages, `record` what was published, in the order of the positions that the publisher was given."""
        self.assertEqual([m["data"] for m in got], record)
        self.assertEqual([m["offset"] for m in got], list(range(got[0]["offset"], got[0]["offset"] + len(got))))
        self.assertEqual({m["channel"] for m in got}, {self.room})
