#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Publishes to a channel without a node: straight into Redis, by the same script as the nodes.

usage: publish.py redis://HOST:PORT CHANNEL JSON [--from USER] [--type TYPE] [--key KEY] [--prefix hailwire]

Prints the position as `epoch.offset`. What it needs to know is said in include/hailwire/detail/redis/script.hpp, from which it
takes the script. Options of the nodes that differ from those of `redis_options` are to be given to ARGV here as well.
"""

import argparse
import hashlib
import json
import pathlib
import re
import secrets
import socket
import sys
import time
import urllib.parse

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/hailwire/detail/redis/script.hpp"


class Redis:
    """A connection that asks one thing after the other (RESP2)."""

    def __init__(self, url):
        to = urllib.parse.urlsplit(url)
        self.file = socket.create_connection((to.hostname, to.port or 6379), timeout=10).makefile("rwb")
        if to.password:
            self.ask("AUTH", *([urllib.parse.unquote(to.username)] if to.username else []), urllib.parse.unquote(to.password))
        if to.path.strip("/"):
            self.ask("SELECT", to.path.strip("/"))

    def ask(self, *words):
        self.file.write(b"*%d\r\n" % len(words))
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            self.file.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.file.flush()
        answer = self.read()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        return [self.read() for _ in range(int(rest))]


def escaped(text, special):
    """Bytes for which `special` is true, and `%`, as %XX."""
    return b"".join(b"%%%02X" % c if c == 0x25 or special(c) else bytes([c]) for c in text.encode())


def script():
    """What both scripts begin with, and the one that appends."""
    texts = re.findall(r'constexpr std::string_view redis_(?:prelude|append_body) = R"lua\((.*?)\)lua";', HEADER.read_text(), re.S)
    assert len(texts) == 2, HEADER
    return "".join(texts)


def publish(redis, prefix, channel, payload, sender="", kind="", key=""):
    """The position of the payload, a JSON text. With a key that is known: of the message that had it first."""
    assert "\n" not in payload and "\r" not in payload, "a JSON text lies in the log without line breaks"
    facts = dict(line.split(":", 1) for line in redis.ask("INFO").decode().splitlines() if ":" in line)
    name = b"%s:{%s}" % (prefix.encode(), escaped(channel, lambda c: c in b"{}"))
    word = lambda text: escaped(text, lambda c: c <= 0x20 or c == 0x7F)  # noqa: E731
    now = int(time.time() * 1000)
    head = b" ".join([b"%d" % now, b"j", word(sender), word(kind), b""])
    fingerprint = hashlib.sha1(b"j\n" + payload.encode()).hexdigest() if key else ""
    draft = [key, fingerprint, head, payload]
    header = [facts["run_id"] + ":" + facts["master_replid"], secrets.token_hex(18), now, 0]
    limits = ["publish.py", "PUBLISH", 300_000, 100_000, 65536]  # who, how, a key's life in ms, keys, bytes that are announced
    keep = ["*", 10_000, 0, 0, 0, 1]  # a new epoch where the server is another; messages, bytes, age; one draft
    words = [3, name, name + b":log", prefix + ":secret", *header, *limits, *keep, *draft]
    text = script()
    try:
        answer = redis.ask("EVALSHA", hashlib.sha1(text.encode()).hexdigest(), *words)
    except RuntimeError as e:
        if not str(e).startswith("NOSCRIPT"):
            raise
        answer = redis.ask("EVAL", text, *words)
    how, epoch, offset = answer[0][0].decode(), answer[0][1].decode(), answer[0][-1]
    if how != "ok" or not isinstance(offset, int) or offset == 0:
        raise RuntimeError(f"not stored: {answer[0]}")
    return epoch, abs(offset)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("url")
    p.add_argument("channel")
    p.add_argument("json")
    p.add_argument("--from", dest="sender", default="")
    p.add_argument("--type", default="")
    p.add_argument("--key", default="", help="known to Redis for five minutes: repeating it stores nothing")
    p.add_argument("--prefix", default="hailwire")
    o = p.parse_args()
    payload = json.dumps(json.loads(o.json), ensure_ascii=False)
    epoch, offset = publish(Redis(o.url), o.prefix, o.channel, payload, o.sender, o.type, o.key)
    print(f"{epoch}.{offset}")


if __name__ == "__main__":
    sys.exit(main())
