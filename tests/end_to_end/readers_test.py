#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""Python's usual readers of event streams on the chat, one message at a time: each is published when the one before has come.

These readers hand on what one chunk of the answer holds (RFC 9112, section 7.1). Without chunks they wait until as many bytes have come as
they like to read at once, 512 or more, and a message waits for those behind it: seconds, where it is quiet.

HAILWIRE_READER_MESSAGES (20) for each reader; what is printed is how long a message took from the publisher's request to the reader.
"""

import asyncio
import http.client
import json
import os
import statistics
import threading
import time
import unittest
import unittest.mock

import requests
import sseclient
import urllib3

from chat_clients import Bare, Chat, WithChat, quote, request, soon

MESSAGES = int(os.environ.get("HAILWIRE_READER_MESSAGES", 20))
EVENT_STREAM = {"Accept": "text/event-stream"}


def by_requests(url):
    return requests.get(url, headers=EVENT_STREAM, stream=True, timeout=60)


def lines(pieces):
    """The lines of a stream that comes in pieces of any size."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def data_of(all_lines):
    return (line[6:] for line in all_lines if line.startswith(b"data: "))


# Each yields the data of each event of an answer.
READERS = {
    "requests, iter_lines()": lambda url: data_of(by_requests(url).iter_lines()),
    "requests, iter_content(None)": lambda url: data_of(lines(by_requests(url).iter_content(None))),
    "requests, iter_content(65536)": lambda url: data_of(lines(by_requests(url).iter_content(65536))),
    "sseclient over requests": lambda url: (event.data for event in sseclient.SSEClient(by_requests(url)).events()),
    "sseclient over urllib3": lambda url: (event.data for event in sseclient.SSEClient(
        urllib3.PoolManager().request("GET", url, headers=EVENT_STREAM, preload_content=False, timeout=60)).events()),
}


class Listening:
    """A reader in a thread of its own: what it yields, with the time, comes out of `items`; its end is None."""

    def __init__(self, iterate):
        self.items = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def read():
            hand_on = lambda it: loop.call_soon_threadsafe(self.items.put_nowait, it)
            try:
                for it in iterate():
                    hand_on((time.perf_counter(), it))
            except Exception as why:  # the test sees it in place of what it waits for
                hand_on((time.perf_counter(), why))
            hand_on(None)

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()

    async def next(self):
        it = await soon(self.items.get())
        assert it is not None, "the stream ended"
        if isinstance(it[1], Exception):
            raise it[1]
        return it


class OneAtATime(WithChat):
    async def listen(self, name, channels):
        bare = await Bare.open(self.chat)
        url = self.chat.url(channel=channels, since="earliest")
        listening = Listening(lambda: READERS[name](url))
        _, first = await listening.next()
        self.assertIn("open", json.loads(first))
        delays = []
        for i in range(MESSAGES):
            began = time.perf_counter()
            status, _, _ = await bare.ask(request("POST", f"/live?channel={quote(channels[i % len(channels)])}", "Content-Type: application/json", body=b"%d" % i))
            self.assertEqual(status, 201)
            came, data = await listening.next()
            while "ping" in (it := json.loads(data)):
                came, data = await listening.next()
            self.assertEqual((it["channel"], it["data"]), (channels[i % len(channels)], i))
            delays.append((came - began) * 1000)
        bare.close()
        print(f"{name}, {len(channels)} channels: {len(delays)} messages one by one, {statistics.median(delays):.2f} ms in the middle, "
              f"{sorted(delays)[len(delays) * 99 // 100]:.2f} ms for 99 of 100, {max(delays):.2f} ms at most", flush=True)

    async def test_each_message_comes_before_the_next_is_published_whichever_reader_and_however_many_channels(self):
        for name in READERS:
            for count in (1, 3):  # the first that stalls ends the test, and has its name in those of its channels
                await self.listen(name, [f"{name} {count} {i}" for i in range(count)])


class Ends(WithChat):
    async def pieces(self, version):
        """What iter_content hands on of a stream of three messages, published one by one, that the chat ends in order."""
        async with Chat() as chat:
            # requests has no option for it; its connections say what this says.
            with unittest.mock.patch.multiple(http.client.HTTPConnection, _http_vsn=int(version.replace(".", "")), _http_vsn_str=f"HTTP/{version}"):
                response = await asyncio.to_thread(by_requests, chat.url(channel=self.room, since="earliest"))
            listening = Listening(lambda: response.iter_content(65536))
            got = []
            if version == "1.1":
                got.append((await listening.next())[1])
            bare = await Bare.open(chat)
            for i in range(3):
                await bare.ask(request("POST", f"/live?channel={quote(self.room)}", "Content-Type: application/json", body=b"%d" % i))
                if version == "1.1":
                    got.append((await listening.next())[1])
            bare.close()
            chat.tell_to_end()
            while (it := await soon(listening.items.get())) is not None:
                got.append(it[1])
            return response.headers, got

    async def test_chunks_are_what_makes_the_difference(self):
        headers, got = await self.pieces("1.1")
        self.assertEqual(headers.get("Transfer-Encoding"), "chunked")
        self.assertEqual([piece.count(b"data: ") for piece in got], [1, 1, 1, 1, 1])  # open, the messages, bye
        headers, got = await self.pieces("1.0")
        self.assertNotIn("Transfer-Encoding", headers)
        self.assertEqual([piece.count(b"data: ") for piece in got], [5], "without chunks nothing comes before the end")

    async def test_a_stream_that_ends_in_order_is_no_error_to_its_reader(self):
        for version in ("1.1", "1.0"):
            with self.subTest(version=version):
                _, got = await self.pieces(version)
                self.assertEqual([it for it in got if isinstance(it, Exception)], [])


if __name__ == "__main__":
    unittest.main()
