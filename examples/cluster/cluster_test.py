#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs the cluster as a person would, kills nodes of it under a stream of publishes, and checks every client's record.

usage: cluster_test.py FOLDER_OF_THE_BINARIES [unittest options]      exit code 77 without redis-server or haproxy
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

here = pathlib.Path(__file__).resolve().parent
PATIENCE = 60  # seconds for anything to happen


def request(port, method, target, body=None, headers={}):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        c.request(method, target, body, headers)
        answer = c.getresponse()
        return answer.status, answer.read()
    finally:
        c.close()


class Cluster:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, here / "run", "--port", "0", "--binary", binaries / "chat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        first = self.process.stdout.readline()
        found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)/\n", first)
        if not found:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"run began with {first!r}")
        self.port = int(found[1])
        self.redis = self.process.stdout.readline().removeprefix("Redis: ").strip()
        self.nodes = {}
        for _ in range(3):
            name, port = re.fullmatch(r"node (\w): http://127\.0\.0\.1:(\d+)/\n", self.process.stdout.readline()).groups()
            self.nodes[name] = int(port)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)


class Follower(threading.Thread):
    """Follows a channel by SSE through `port`, and comes back with its cursor when the stream ends; keeps what it has seen."""

    def __init__(self, port, channel):
        super().__init__(daemon=True)
        self.port, self.channel = port, channel
        self.seen, self.gaps, self.connects, self.cursor = [], [], 0, "earliest"
        self.epoch, self.same = None, []  # of the newest message; of each whether the one before is of the same epoch
        self.changed, self.ended = threading.Condition(), False
        self.start()

    def run(self):
        while not self.ended:
            try:
                self.stream()
            except OSError:
                pass

    def stream(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as s:
            s.sendall(f"GET /live?channel={self.channel}&since={self.cursor} HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n".encode())
            file, event = s.makefile("rb"), {}
            for line in file:
                line = line.decode().rstrip("\r\n")
                if self.ended:
                    return
                if not line and event:
                    self.take(event)
                    event = {}
                name, _, value = line.partition(": ")
                if name in ("data", "event", "id"):
                    event[name] = value

    def take(self, event):
        with self.changed:
            if "id" in event:
                self.cursor = event["id"]
            data = json.loads(event.get("data", "{}"))
            if "open" in data:
                self.connects += 1
                if self.epoch is None:
                    self.epoch = data["open"]["channels"][self.channel]["epoch"]
            self.begin(data.get("gap"))
            if "offset" in data and "channel" in data:
                self.take_message(data)
            self.changed.notify_all()

    def begin(self, gap):
        if gap:
            self.gaps.append(gap)
            self.same.append(False) if gap["epoch"] != self.epoch and len(self.same) == len(self.seen) else None
            self.epoch = gap["epoch"]

    def take_message(self, message):
        if len(self.same) == len(self.seen):
            self.same.append(bool(self.seen))
        self.seen.append((message["offset"], message["data"]))

    def wait(self, done):
        with self.changed:
            while not done(self):
                if not self.changed.wait(PATIENCE):
                    return False
            return True


class Case(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster()
        self.addCleanup(self.cluster.end)

    def publish(self, port, channel, data, key):
        """Until it is acknowledged: a key makes repeating safe."""
        body = json.dumps(data)
        while True:
            try:
                status, answer = request(port, "POST", f"/live?channel={channel}&user=ada", body,
                                         {"Content-Type": "application/json", "Idempotency-Key": key})
            except OSError:
                continue
            if status == 201:
                return json.loads(answer)["offset"]
            self.assertIn(status, (408, 500, 502, 503, 504), answer)


class Nodes(Case):
    def test_nodes_die_and_nothing_is_lost_or_doubled(self):
        c = self.cluster
        through, direct = c.port, c.nodes
        followers = [Follower(through, "lobby") for _ in range(4)] + [Follower(port, "lobby") for port in direct.values()]
        for f in followers:
            self.assertTrue(f.wait(lambda f: f.connects == 1))
        record = []
        for i in range(30):
            record.append(self.publish(through, "lobby", i, f"key{i}"))
            if i in (5, 15, 25):
                name = {5: "a", 15: "b", 25: "c"}[i]
                self.assertEqual(c.tell("kill " + name), f"{name} is gone")
            if i in (10, 20):
                name = {10: "a", 20: "b"}[i]
                self.assertEqual(c.tell("start " + name), f"{name} is there")
        self.assertEqual(c.tell("start c"), "c is there")
        self.assertEqual(record, list(range(1, 31)))
        for f in followers:
            self.assertTrue(f.wait(lambda f: f.seen and f.seen[-1][0] == 30), f.seen[-3:])
            self.assertEqual(f.seen, [(i + 1, i) for i in range(30)])
            self.assertEqual(f.gaps, [])
            f.ended = True

    def test_any_node_resumes_any_cursor_and_a_program_publishes_without_one(self):
        c = self.cluster
        ports = list(c.nodes.values())
        said = subprocess.run([sys.executable, here / "publish.py", c.redis, "lobby", '{"text":"hé"}', "--from", "bob", "--key", "k"],
                              check=True, capture_output=True, text=True).stdout.strip()
        again = subprocess.run([sys.executable, here / "publish.py", c.redis, "lobby", '{"text":"hé"}', "--from", "bob", "--key", "k"],
                               check=True, capture_output=True, text=True).stdout.strip()
        self.assertEqual(said, again)
        cursor = "earliest"
        for i in range(6):
            status, answer = request(ports[i % 3], "GET", f"/live?channel=lobby&since={cursor}&wait=20")
            answer = json.loads(answer)
            cursor = answer["cursor"]
            self.assertEqual([m["offset"] for m in answer["messages"]], [i + 1])
            if i == 0:
                self.assertEqual((answer["messages"][0]["from"], answer["messages"][0]["data"]), ("bob", {"text": "hé"}))
                self.assertEqual(cursor, said)
            self.publish(ports[(i + 1) % 3], "lobby", i, f"key{i}")
        self.assertEqual(json.loads(request(ports[0], "GET", "/config.json")[1]), {"path": "/live", "storage": "redis", "node": "a"})

    def test_a_node_is_drained_behind_the_balancer(self):
        c = self.cluster
        follower = Follower(c.port, "lobby")
        self.assertTrue(follower.wait(lambda f: f.connects == 1))
        for name in c.nodes:
            self.assertEqual(c.tell("stop " + name), f"{name} is gone")
            self.assertEqual(c.tell("start " + name), f"{name} is there")
            self.publish(c.port, "lobby", name, "key " .strip() + name)
        self.assertTrue(follower.wait(lambda f: len(f.seen) == 3))
        self.assertEqual(follower.seen, [(1, "a"), (2, "b"), (3, "c")])
        self.assertGreaterEqual(follower.connects, 2)
        follower.ended = True


class Poller(Follower):
    """The same by long poll, one request after the other, by whichever node the proxy picks."""

    def stream(self):
        status, answer = request(self.port, "GET", f"/live?channel={self.channel}&since={self.cursor}&wait=5")
        if status != 200:
            return
        answer = json.loads(answer)
        with self.changed:
            for gap in answer.get("notices", []):
                self.begin(gap.get("gap"))
            if self.epoch is None:
                self.epoch = answer["cursor"].split(".")[0]
            for message in answer["messages"]:
                self.take_message(message)
            self.cursor = answer["cursor"]
            self.changed.notify_all()


class Faults(Case):
    def test_what_was_acknowledged_is_there_once_and_in_order_whatever_dies(self):
        c, seed = self.cluster, int(os.environ.get("HAILWIRE_SEED", "1"))
        seconds = float(os.environ.get("HAILWIRE_FAULT_SECONDS", "12"))
        random_of = random.Random(seed)
        followers = [Follower(c.port, "lobby") for _ in range(3)] + [Follower(p, "lobby") for p in c.nodes.values()]
        followers += [Poller(c.port, "lobby") for _ in range(3)]
        acknowledged, over = [], threading.Event()

        def publish_until_over(who):
            chance = random.Random(seed * 10 + who)
            for i in range(400):
                if over.is_set():
                    return
                acknowledged.append((self.publish(c.port, "lobby", f"{who}.{i}", f"key{who}.{i}"), f"{who}.{i}"))
                time.sleep(chance.uniform(0, 0.06) * max(1, seconds / 12))

        publishers = [threading.Thread(target=publish_until_over, args=(who,), daemon=True) for who in range(2)]
        for p in publishers:
            p.start()
        end, done = time.monotonic() + seconds, []
        while time.monotonic() < end:
            node = random_of.choice("abc")
            for line in random_of.choice([[f"kill {node}", f"start {node}"], [f"stop {node}", f"start {node}"], ["pause redis", "resume redis"],
                                          ["kill redis", "start redis"], ["SCRIPT FLUSH"], ["CLIENT KILL TYPE pubsub"]]):
                done.append(line)
                if line[0].isupper():
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(c.redis.rsplit(":")[-1])), timeout=PATIENCE) as s:
                        s.sendall(line.encode() + b"\r\n")
                        s.recv(100)
                else:
                    c.tell(line)
                # Silence is noticed within 5 seconds; some pauses are longer, some shorter.
                time.sleep(random_of.uniform(0.05, 6 if line.startswith("pause") else 1))
        over.set()
        for p in publishers:
            p.join(PATIENCE)
        last = self.publish(c.port, "lobby", "end", "end")
        with self.subTest(seed=seed, faults=done):
            for f in followers:
                self.assertTrue(f.wait(lambda f: f.seen and f.seen[-1][0] == last), (type(f).__name__, f.seen[-2:], last))
                f.ended = True
                # Within an epoch offsets rise by one; the last epoch has everything that was ever acknowledged.
                for (before, _), (after, _), same in zip(f.seen, f.seen[1:], f.same[1:]):
                    self.assertTrue(not same or after == before + 1, (before, after))
                ours = f.seen[len(f.same) - 1 - f.same[::-1].index(False):]
                self.assertEqual([at for at, _ in ours], list(range(1, last + 1)))
                for at, data in acknowledged:
                    self.assertEqual(ours[at - 1], (at, data))
                self.assertEqual(len({data for _, data in ours}), last)


if __name__ == "__main__":
    if not shutil.which("redis-server") or not (shutil.which("haproxy") or os.path.exists("/usr/sbin/haproxy")):
        print("no redis-server or no haproxy here")
        sys.exit(77)
    binaries = pathlib.Path(sys.argv[1])
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
