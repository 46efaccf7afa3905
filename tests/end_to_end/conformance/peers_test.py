# SPDX-License-Identifier: BSL-1.0
"""Debian's python3-websockets as a client of the conformance server: `peers_test.py SERVER`."""
import asyncio
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets  # noqa: E402
from peer import Server  # noqa: E402
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate  # noqa: E402

offers = [None, [Deflate()], [Deflate(server_no_context_takeover=True)], [Deflate(client_no_context_takeover=True)],
          [Deflate(server_max_window_bits=9, client_max_window_bits=9)], [Deflate(server_max_window_bits=15, client_max_window_bits=15)],
          [Deflate(True, True, 10, 12)], [Deflate(server_max_window_bits=8), Deflate()]]


async def talk(port, offer, r):
    extensions = dict(compression=None) if offer is None else dict(compression=None, extensions=offer)
    async with websockets.connect(f"ws://127.0.0.1:{port}/any/path?x", max_size=1 << 26, **extensions) as ws:
        assert bool(ws.extensions) == bool(offer), f"{offer} was answered with {ws.extensions}"
        for size in (0, 1, 125, 126, 1000, 65535, 65536, 300000):
            text = "".join(r.choices("abc äöü €😀\0", k=size))
            for sent in (text, r.randbytes(size), bytes(size)):
                await ws.send(sent)
                got = await ws.recv()
                assert got == sent, f"{len(sent)} sent, {len(got)} came back"
        await ws.send(part for part in aside("one, ", "two, ", "", "three"))
        assert await ws.recv() == "one, two, three"
        async with asyncio.timeout(10):
            await (await ws.ping(b"payload"))
        many = [f"message {i} " * (i % 50) for i in range(500)]

        async def send_all():
            for m in many:
                await ws.send(m)
        sender = asyncio.create_task(send_all())
        for m in many:
            assert await ws.recv() == m
        await sender
        await ws.close(4321, "a reason")
        assert ws.close_code == 4321


def aside(*parts):
    return parts


async def main():
    server = Server(sys.argv[1], "--port", "0")
    r = random.Random(6455)
    for offer in offers:
        await talk(server.port, offer, r)
    assert server.stop() == 0
    print(f"websockets {websockets.__version__}: {len(offers)} ways to ask for compression")


asyncio.run(main())
