#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""Content through the messenger as it is shipped, beside a SQLite file: 50 MB up over a connection that is cut ten times, and down
again to a reader that pauses, while the server's memory stays where it is; and a SIGKILL in the middle of 50 uploads.
"""

import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import unittest

MESSENGER = os.environ["HAILWIRE_MESSENGER"]
CHAT = "direct:ada:bob"
SIZE = 50 * 1000 * 1000
GROWTH = 1 << 20


class Messenger:
    """One on a directory of its own, which may be killed and started again."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.content = self.directory / "content"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [MESSENGER, "--port", "0", "--storage", f"sqlite:{self.directory / 'log.db'}", "--content", str(self.content)],
            stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)", self.process.stdout.readline()).group(1))
        self.kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def kill(self):
        self.kept.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def peak(self):
        """The most memory that it has ever had at once, in bytes."""
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) * 1024

    def ask(self, method, path, body=None, **fields):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer, text

    def begin(self, user, size, key, chat=CHAT):
        answer, text = self.ask("POST", f"/live/content?channel={chat}&user={user}", b"", Content_Type="image/png", Upload_Length=str(size),
                                Upload_Complete="?0", Idempotency_Key=key)
        assert answer.status == 201, text
        return json.loads(text)["content"]

    def offset(self, user, upload):
        self.kept.request("HEAD", f"/live/content/{upload}?user={user}")  # on one connection: newcomers are counted
        answer = self.kept.getresponse()
        answer.read()
        assert answer.status == 204, answer.status
        return int(answer.headers["Upload-Offset"])

    def publish(self, user, upload):
        command = {"id": 1, "publish": {"channel": CHAT, "content": upload, "data": {"text": "look"}, "key": upload}}
        answer, text = self.ask("POST", f"/live?user={user}", json.dumps(command), Content_Type="application/json")
        assert answer.status == 200, text
        return json.loads(text)["ok"]

    def patch(self, user, upload, offset, size):
        """A connection on which so many bytes more are promised."""
        to = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        to.sendall(f"PATCH /live/content/{upload}?user={user} HTTP/1.1\r\nHost: h\r\nContent-Type: application/partial-upload\r\n"
                   f"Upload-Offset: {offset}\r\nContent-Length: {size}\r\n\r\n".encode())
        return to


class Content(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.server = Messenger(self.place.name)
        self.addCleanup(self.server.kill)

    def test_fifty_megabytes_over_ten_cuts_and_down_again_without_memory_moving(self):
        server, whole, chance = self.server, random.Random(16).randbytes(SIZE), random.Random(1)
        small = server.begin("bob", 300_000, "warm")
        self.assertEqual(server.ask("PATCH", f"/live/content/{small}?user=bob", whole[:300_000], Content_Type="application/partial-upload",
                                    Upload_Offset="0")[0].status, 204)
        at = server.publish("bob", small)
        self.assertEqual(len(server.ask("GET", f"/live/messages?channel={CHAT}&user=bob&epoch={at['epoch']}&offset={at['offset']}")[1]), 300_000)
        before = server.peak()

        upload = server.begin("ada", SIZE, "picture")
        cuts = 0
        while cuts < 10:
            offset = server.offset("ada", upload)
            with server.patch("ada", upload, offset, SIZE - offset) as to:
                try:
                    to.sendall(whole[offset:offset + 4_500_000])
                    # An answer can only say that what came before the cut was still being taken: it stands further on.
                    while server.offset("ada", upload) < offset + 3_000_000 and not select.select([to], [], [], 0)[0]:
                        pass  # it is on its way
                    self.assertTrue(not select.select([to], [], [], 0)[0] or b" 409 " in to.recv(1000).split(b"\r\n")[0])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # it was answered before all was said
                if server.offset("ada", upload) < offset + 3_000_000:
                    continue
                cuts += 1
                if chance.random() < 0.5:  # a reset rather than an end
                    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.assertEqual(server.begin("ada", SIZE, "picture"), upload)  # the key leads back to it
        status = b"409"
        while status == b"409":
            offset = server.offset("ada", upload)
            with server.patch("ada", upload, offset, SIZE - offset) as to:
                try:
                    to.sendall(whole[offset:])
                    status = to.recv(1000).split()[1]
                except (BrokenPipeError, ConnectionResetError):
                    pass
        self.assertEqual(status, b"204")
        at = server.publish("ada", upload)
        self.assertEqual(server.publish("ada", upload), at)

        path = f"/live/messages?channel={CHAT}&user=bob&epoch={at['epoch']}&offset={at['offset']}"
        reader = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        reader.request("GET", path)
        answer = reader.getresponse()
        digest = hashlib.sha256()
        for _ in range(100):
            digest.update(answer.read(100_000))
        # Paused: what others ask meanwhile is answered, and the rest comes by a range.
        part, text = server.ask("GET", path, Range=f"bytes={10_000_000}-", If_Range=answer.headers["ETag"])
        reader.close()
        self.assertEqual(part.status, 206)
        digest.update(text)
        self.assertEqual(digest.hexdigest(), hashlib.sha256(whole).hexdigest())
        self.assertLess(server.peak() - before, GROWTH)

    def test_a_kill_in_the_middle_of_fifty_uploads_leaves_what_messages_name_and_nothing_else(self):
        server = self.server
        named = {}
        for _ in range(5):
            body = os.urandom(10_000)
            answer, text = server.ask("POST", f"/live/content?channel={CHAT}&user=ada", body, Content_Type="image/png")
            self.assertEqual(answer.status, 201)
            upload = json.loads(text)["content"]
            named[upload] = (server.publish("ada", upload), body)
        cut = []
        for i in range(50):
            user = f"user{i % 10}"  # five each
            chat = f"direct:{user}:zoe"
            upload = server.begin(user, 1_000_000, f"k{i}", chat)
            to = server.patch(user, upload, 0, 1_000_000)
            to.sendall(os.urandom(100_000))
            cut.append((user, upload, to))
        server.kill()
        self.assertGreater(len(os.listdir(server.content)), len(named))
        server.start()
        for user, upload, to in cut:
            to.close()
            self.assertEqual(server.ask("HEAD", f"/live/content/{upload}?user={user}")[0].status, 404)
        for upload, (at, body) in named.items():
            answer, text = server.ask("GET", f"/live/messages?channel={CHAT}&user=bob&epoch={at['epoch']}&offset={at['offset']}")
            self.assertEqual((answer.status, text), (200, body))
            self.assertEqual(server.publish("ada", upload), at)  # its key is known still
        self.assertEqual(sorted(os.listdir(server.content)), sorted(named))


if __name__ == "__main__":
    unittest.main()
