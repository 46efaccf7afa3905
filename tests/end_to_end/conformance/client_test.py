#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""conformance_client against Debian's python3-websockets in the role of a suite's server: it counts cases, runs each, and takes the
reports. Each case sends messages and must get them back; bad frames must be closed with their code.

usage: client_test.py CONFORMANCE_CLIENT
"""

import asyncio
import logging
import sys
import unittest
import urllib.parse

import websockets
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

client = sys.argv[1]

MESSAGES = ["", "text", "\u20ac" * 1000, b"", b"\0\xff" * 40_000, "x" * 65_535, "x" * 65_536, b"y" * 3_000_000, ["in", " three", " parts"], [b"", b"a", b""]]
# What a server must not send (RFC 6455, sections 5 and 7.4), and the code with which a client closes.
BAD = [(b"\x81\x81\0\0\0\0x", 1002), (b"\xc1\x00", 1002), (b"\x83\x00", 1002), (b"\x09\x00", 1002), (b"\x89\x7e\0\x7e" + b"x" * 126, 1002), (b"\x80\x00", 1002),
       (b"\x01\x01a\x81\x01b", 1002), (b"\x81\x02\xc3\x28", 1007), (b"\x88\x02\x03\xed", 1002), (b"\x88\x03\x03\xe8\xff", 1007), (b"\x82\x7f\x80" + b"\0" * 7, 1002)]


class Suite(unittest.IsolatedAsyncioTestCase):
    async def run_cases(self, cases, extensions=()):
        """How often each was run, and whether the reports were asked for."""
        done, reports, faults = [0] * len(cases), asyncio.Event(), []

        async def serve(socket, path=None):
            where = urllib.parse.urlparse(path if path is not None else socket.path)
            query = urllib.parse.parse_qs(where.query)
            if where.path == "/getCaseCount":
                await socket.send(str(len(cases)))
            elif where.path == "/runCase":
                self.assertEqual(query["agent"], ["hailwire"])
                n = int(query["case"][0]) - 1
                try:
                    await cases[n](socket)
                    done[n] += 1
                except Exception as fault:
                    faults.append((n, repr(fault)))
            elif where.path == "/updateReports":
                reports.set()

        server = await websockets.serve(serve, "127.0.0.1", 0, extensions=list(extensions), compression=None, max_size=None, ping_interval=None)
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(client, f"ws://127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        server.close()
        await server.wait_closed()
        self.assertEqual(faults, [])
        self.assertEqual((process.returncode, said), (0, f"{len(cases)} cases\n".encode()))
        self.assertEqual(done, [1] * len(cases))
        self.assertTrue(reports.is_set())

    @staticmethod
    def echo(message):
        async def case(socket):
            for _ in range(3):
                await socket.send(message)
                whole = message if not isinstance(message, list) else type(message[0])().join(message)
                got = await socket.recv()
                assert got == whole, (whole[:50], got[:50])
            await (await socket.ping(b"p" * 125))
        return case

    @staticmethod
    def bad(frame, code):
        async def case(socket):
            # As bytes, past the library that would not write them.
            socket.transport.write(frame)
            await socket.wait_closed()
            assert socket.close_code == code, (frame[:10], code, socket.close_code)
        return case

    async def test_messages_come_back(self):
        await self.run_cases([self.echo(m) for m in MESSAGES])

    async def test_messages_come_back_compressed_in_every_way(self):
        for more in ({}, {"server_no_context_takeover": True}, {"client_no_context_takeover": True}, {"server_max_window_bits": 9}, {"client_max_window_bits": 10}):
            with self.subTest(str(more)):
                await self.run_cases([self.echo(m) for m in MESSAGES], [ServerPerMessageDeflateFactory(**more)])

    async def test_bad_frames_are_closed_with_their_code(self):
        await self.run_cases([self.bad(*b) for b in BAD])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
