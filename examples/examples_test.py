#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs each example as a user would: starts it, talks to it, ends it with a signal.

usage: examples_test.py FOLDER_OF_THE_BINARIES CLASS [unittest options]
"""

import base64
import hmac
import http.client
import http.server
import json
import os
import pathlib
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

here = pathlib.Path(__file__).resolve().parent
binaries = pathlib.Path(sys.argv[1])
PATIENCE = 20  # seconds for anything to happen: far more than it takes, also under sanitizers


def chunks(file):
    """The lines in a chunked body (RFC 9112, section 7.1), up to the last chunk; a body that breaks off is an EOFError."""
    rest = b""
    while True:
        head = file.readline()
        if not head:
            raise EOFError("no last chunk")
        size = int(head, 16)
        rest += file.read(size)
        assert file.readline() == b"\r\n", "a chunk ends with CRLF"
        if size == 0:
            return
        *lines, rest = rest.split(b"\n")
        yield from (line + b"\n" for line in lines)


class Stream:
    """A connection that is read line by line, for what http.client would wait for to end."""

    def __init__(self, program, head, body=b""):
        self.socket = socket.create_connection((program.host, program.port), timeout=PATIENCE)
        self.socket.sendall("\r\n".join(head + ["Host: " + program.host, "", ""]).encode() + body)
        self.file = self.socket.makefile("rb")
        self.status = self.file.readline().decode().strip()
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, value = line.split(": ", 1)
            self.headers[name.lower()] = value
        self.lines = chunks(self.file) if self.headers.get("transfer-encoding") == "chunked" else self.file

    def event(self):
        """The next server-sent event as (fields, data), or None at the end. Comments and `retry` alone are no events."""
        fields, data = {}, []
        for line in self.lines:
            line = line.decode().rstrip("\r\n")
            if not line and data:
                return fields, json.loads("\n".join(data))
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "data":
                data.append(value)
            elif name:
                fields[name] = value
        return None

    def message(self):
        """The next message, notices left out."""
        while event := self.event():
            if "channel" in event[1]:
                return event[1]

    def close(self):
        self.file.close()
        self.socket.close()


class Program:
    """An example that runs."""

    def __init__(self, name, *arguments):
        if name == "chat" and "--drain-seconds" not in arguments:
            arguments += ("--drain-seconds", "0")  # a test's clients stay
        self.told = False
        self.process = subprocess.Popen([binaries / name, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on https?://(127\.0\.0\.1|\[::1\]):(\d+)/\n", line)
        if not found:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{name} began with {line!r}")
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def request(self, method, target, body=None, headers={}):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer
        finally:
            connection.close()

    def get(self, target, **headers):
        return self.request("GET", target, headers=headers)

    def poll(self, target):
        answer = self.get(target)
        assert answer.status == 200, (answer.status, answer.body)
        return json.loads(answer.body)

    def publish(self, target, data):
        answer = self.request("POST", target, json.dumps(data), {"Content-Type": "application/json"})
        return answer.status, json.loads(answer.body)

    def follow(self, target):
        return Stream(self, [f"GET {target} HTTP/1.1", "Accept: text/event-stream"])

    def tell_to_end(self, how=signal.SIGTERM):
        """Once: a program that is on its way out may die of a second signal."""
        if not self.told:
            self.told = True
            self.process.send_signal(how)

    def end(self, how=signal.SIGTERM):
        """Its exit code."""
        self.tell_to_end(how)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.stdout.close()


class Case(unittest.TestCase):
    def start(self, name, *arguments):
        program = Program(name, *arguments)
        self.addCleanup(lambda: self.assertEqual(program.end(), 0, f"{name} ends cleanly on SIGTERM"))
        return program

    def follow(self, program, target):
        stream = program.follow(target)
        self.addCleanup(stream.close)
        self.assertEqual(stream.status, "HTTP/1.1 200 OK")
        self.assertEqual(stream.headers["content-type"], "text/event-stream")
        fields, data = stream.event()
        self.assertEqual(fields.get("event"), "open")
        stream.open = data["open"]
        return stream


class Chat(Case):
    def test_serves_its_page_from_the_same_port_with_safe_headers(self):
        chat = self.start("chat", "--port", "0")
        for target, name, kind in [("/", "index.html", "text/html;charset=utf-8"), ("/hailwire.js", "hailwire.js", "text/javascript;charset=utf-8")]:
            answer = chat.get(target)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Content-Type"], kind)
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
            self.assertEqual(answer.body, (here / "web" / name).read_bytes())
            head = chat.request("HEAD", target)
            self.assertEqual((head.status, head.headers["Content-Length"], head.body), (200, str(len(answer.body)), b""))
        config = chat.get("/config.json")
        self.assertEqual(config.headers["Content-Type"], "application/json")
        self.assertEqual(json.loads(config.body), {"path": "/live", "storage": "memory"})
        self.assertEqual(chat.get("/web/index.html").status, 404)
        self.assertEqual(chat.request("POST", "/", "x").status, 405)

    def test_says_one_message_to_followers_on_four_transports(self):
        chat = self.start("chat", "--port", "0")
        sse = self.follow(chat, "/live?channel=lobby&user=eve")
        key = base64.b64encode(os.urandom(16)).decode()
        ws = Stream(chat, ["GET /live?channel=lobby&user=bob HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket",
                           "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key])
        self.addCleanup(ws.close)
        self.assertEqual(ws.status, "HTTP/1.1 101 Switching Protocols")
        cursor = chat.poll("/live?channel=lobby&user=joe")["cursor"]
        waiting = socket.create_connection((chat.host, chat.port), timeout=PATIENCE)
        self.addCleanup(waiting.close)
        waiting.sendall(f"GET /live?channel=lobby&user=joe&wait=50&since={cursor} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

        status, position = chat.publish("/live?channel=lobby&user=ada", {"text": "hello"})
        self.assertEqual((status, position["offset"]), (201, 1))

        def frame():
            first, size = ws.file.read(2)
            if size == 126:
                size = int.from_bytes(ws.file.read(2), "big")
            self.assertEqual(first, 0x81, "one text frame")
            return json.loads(ws.file.read(size))

        self.assertIn("open", frame())
        answer = waiting.makefile("rb").read().split(b"\r\n\r\n", 1)[1]
        heard = {"sse": sse.message(), "websocket": frame(), "long poll": json.loads(answer)["messages"][0],
                 "short poll": chat.poll(f"/live?channel=lobby&user=amy&since={cursor}")["messages"][0]}
        for transport, message in heard.items():
            with self.subTest(transport):
                self.assertEqual((message["offset"], message["from"], message["data"]), (1, "ada", {"text": "hello"}))

    def test_keeps_as_much_history_as_it_was_told(self):
        chat = self.start("chat", "--port", "0", "--history", "3")
        for n in range(1, 6):
            chat.publish("/live?channel=lobby&user=ada", n)
        kept = chat.poll("/live?channel=lobby&since=earliest")["messages"]
        self.assertEqual([m["offset"] for m in kept], [3, 4, 5])

    def test_keeps_a_thousand_messages_unless_told(self):
        chat = self.start("chat", "--port", "0")
        batch = [{"id": n, "publish": {"channel": "lobby", "data": n}} for n in range(50)]
        for n in range(21):  # of two users: one sends at most 1,000 commands a second
            status, replies = chat.publish(f"/live?user={('ada', 'bob')[n % 2]}", batch)
            self.assertEqual((status, len(replies)), (200, 50))
        kept = chat.poll("/live?channel=lobby&since=earliest")["messages"]
        self.assertEqual([m["offset"] for m in kept], list(range(51, 1051)))

    def test_lets_nobody_but_ada_read_what_is_sent_to_ada(self):
        chat = self.start("chat", "--port", "0")
        self.assertEqual(chat.publish("/live?channel=@ada&user=bob", "psst")[0], 201)
        self.assertEqual(chat.get("/live?channel=@ada&user=bob&since=earliest").status, 403)
        self.assertEqual(chat.get("/live?channel=@ada&since=earliest").status, 403)
        self.assertEqual(chat.poll("/live?channel=@ada&user=ada&since=earliest")["messages"][0]["data"], "psst")

    def test_refuses_a_user_whose_name_is_none(self):
        chat = self.start("chat", "--port", "0")
        self.assertEqual(chat.get("/live?channel=lobby&user=a%0Ab").status, 400)

    def test_listens_where_it_is_told(self):
        chat = self.start("chat", "--port", "0", "--path", "/talk")
        self.assertEqual(json.loads(chat.get("/config.json").body)["path"], "/talk")
        self.assertEqual(chat.get("/talk?channel=lobby").status, 200)
        self.assertEqual(chat.get("/live?channel=lobby").status, 404)

    def test_listens_on_ipv6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this machine has no IPv6")
        chat = self.start("chat", "--host", "::1", "--port", "0")
        self.assertEqual(chat.get("/live?channel=lobby").status, 200)

    def test_says_how_it_is_used_when_it_does_not_understand(self):
        for wrong in [["--bogus", "1"], ["--port"], ["--port", "65536"], ["--port", "x"], ["--port", ""], ["--history", "0"],
                      ["--history", "-1"], ["--path", "live"], ["--path", '/"'], ["--path", "/"], ["--storage", "tape"], ["--storage", "sqlite:"], ["--storage", "sqlite"],
                      ["--tls-cert", "chain.pem"], ["--tls-key", "key.pem"], ["extra"]]:
            with self.subTest(wrong):
                done = subprocess.run([binaries / "chat", *wrong], capture_output=True, text=True, timeout=PATIENCE)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertTrue(done.stderr.startswith("usage: chat "))

    def test_says_why_it_cannot_listen(self):
        chat = self.start("chat", "--port", "0")
        done = subprocess.run([binaries / "chat", "--port", str(chat.port)], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(str(chat.port), done.stderr)

    def test_keeps_what_it_acknowledged_in_a_file_and_followers_read_on_after_a_restart(self):
        self.need_sqlite()
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--port", "0", "--history", "50", "--storage", f"sqlite:{folder}/chat.db"]
            first = Program("chat", *arguments)
            self.assertEqual(json.loads(first.get("/config.json").body)["storage"], "sqlite")
            for n in range(1, 4):
                epoch = first.publish("/live?channel=lobby&user=ada", n)[1]["epoch"]
            self.assertEqual(first.end(), 0)
            second = self.start("chat", *arguments)
            late = second.poll(f"/live?channel=lobby&since={epoch}.1")
            self.assertEqual(([m["data"] for m in late["messages"]], late["notices"]), ([2, 3], []))
            at = [second.publish("/live?channel=lobby&user=ada", n)[1] for n in range(4, 201)]
            self.assertEqual([a["offset"] for a in at], list(range(4, 201)))
            kept = [m["offset"] for m in second.poll("/live?channel=lobby&since=earliest")["messages"]]
            self.assertEqual(kept, list(range(kept[0], 201)))
            self.assertTrue(50 <= len(kept) < 70, f"--history holds for a file too: {len(kept)}")

    def test_says_why_it_cannot_use_a_file(self):
        self.need_sqlite()
        with tempfile.TemporaryDirectory() as folder:
            chat = self.start("chat", "--port", "0", "--storage", f"sqlite:{folder}/chat.db")
            pathlib.Path(folder, "notes.txt").write_text("no database " * 100)
            for name, words in [("chat.db", "in use"), ("notes.txt", "not a SQLite file"), ("none/chat.db", "No such file")]:
                with self.subTest(name):
                    done = subprocess.run([binaries / "chat", "--port", "0", "--storage", f"sqlite:{folder}/{name}"], capture_output=True, text=True,
                                          timeout=PATIENCE)
                    self.assertEqual((done.returncode, done.stdout), (1, ""))
                    self.assertIn(name, done.stderr)
                    self.assertIn(words, done.stderr)
            self.assertEqual(chat.publish("/live?channel=lobby", 1)[0], 201)

    def need_sqlite(self):
        if os.environ.get("CHAT_WITHOUT_SQLITE"):
            self.skipTest("built without SQLite")

    def test_speaks_tls_when_it_is_given_a_certificate(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = folder + "/cert.pem", folder + "/key.pem"
            try:
                subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                                "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                               check=True, capture_output=True)
            except FileNotFoundError:
                self.skipTest("no openssl to make a certificate with")
            arguments = ["--port", "0", "--tls-cert", cert, "--tls-key", key]
            if os.environ.get("CHAT_WITHOUT_TLS"):
                self.skipTest("built without OpenSSL")
            chat = self.start("chat", *arguments)
            trusting = ssl.create_default_context(cafile=cert)
            connection = http.client.HTTPSConnection(chat.host, chat.port, timeout=PATIENCE, context=trusting)
            connection.request("GET", "/config.json")
            self.assertEqual(json.loads(connection.getresponse().read())["path"], "/live")
            connection.request("GET", "/live?channel=lobby&since=earliest")
            self.assertEqual(json.loads(connection.getresponse().read())["messages"], [])
            connection.close()
            missing = subprocess.run([binaries / "chat", *arguments[:3], folder + "/none.pem", *arguments[4:]], capture_output=True, text=True)
            self.assertEqual((missing.returncode, missing.stdout), (1, ""))
            self.assertIn("none.pem", missing.stderr)

    def test_ends_cleanly_on_either_signal_with_clients_connected(self):
        for how in [signal.SIGINT, signal.SIGTERM]:
            with self.subTest(how):
                chat = Program("chat", "--port", "0")
                stream = chat.follow("/live?channel=lobby&user=eve")
                self.assertIn("open", stream.event()[1])
                code = chat.end(how)
                stream.file.read()  # to its end
                stream.close()
                self.assertEqual(code, 0)


class Messenger(Case):
    def test_serves_its_page_with_safe_headers(self):
        messenger = self.start("messenger", "--port", "0")
        for target, name in [("/", "messenger/index.html"), ("/style.css", "messenger/style.css"), ("/page.js", "messenger/page.js"),
                             ("/chats.js", "messenger/chats.js"), ("/seal.js", "messenger/seal.js"), ("/sw.js", "messenger/sw.js"), ("/hailwire.js", "web/hailwire.js")]:
            answer = messenger.get(target)
            self.assertEqual((answer.status, answer.body), (200, (here / name).read_bytes()))
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertNotIn("unsafe", answer.headers["Content-Security-Policy"])
        self.assertEqual(json.loads(messenger.get("/config.json").body), {"path": "/live", "storage": "memory", "content": True})
        self.assertEqual(messenger.get("/messenger.cpp").status, 404)
        self.assertEqual(messenger.request("POST", "/", "x").status, 405)

    def test_who_may_read_and_write_what(self):
        messenger = self.start("messenger", "--port", "0")
        group = "group:" + "0" * 32
        may = {"@ada": "rw", "@bob": "w", "people": "r", "keys:ada": "rw", "keys:bob": "r", "direct:ada:bob": "rw", "secret:ada:bob": "rw", "direct:ada:ada": "rw",
               group: "rw", "group:": "", "group:1": "", "direct:bob:ada": "", "direct:bob:eve": "", "secret:bob:eve": "", "direct:ada": "", "direct:ada:": "",
               "direct:ada:b b": "", "direct:ada:bob:eve": "", "direct::ada": "", "@b b": "", "@": "", "lobby": "", "keys:": "r"}
        for channel, rights in may.items():
            target = f"/live?channel={urllib.parse.quote(channel)}&user=ada"
            self.assertEqual(messenger.get(target).status, 200 if "r" in rights else 403, channel)
            self.assertEqual(messenger.publish(target, {"text": "hello"})[0], 201 if "w" in rights else 403, channel)
        for user in ["", "a:b", "a+b", "a" * 33, "%C3%BC"]:
            self.assertEqual(messenger.get(f"/live?channel=people&user={user}").status, 401, user)

    def test_tells_a_service_of_the_hosts_who_is_to_be_woken(self):
        told = queue.Queue()

        class Service(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                told.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        service = http.server.HTTPServer(("127.0.0.1", 0), Service)
        self.addCleanup(service.server_close)
        threading.Thread(target=service.serve_forever, daemon=True).start()
        self.addCleanup(service.shutdown)
        secret = "a secret that nobody knows"
        try:
            messenger = self.start("messenger", "--port", "0", "--webhook", f"http://127.0.0.1:{service.server_port}/wake", "--webhook-secret", secret)
        except AssertionError:
            self.skipTest("built without libcurl")
        self.assertIn("webhook", json.loads(messenger.get("/config.json").body))
        named = messenger.request("POST", "/live?user=bob&device=phone", json.dumps({"id": 1, "device": {"push": "webhook", "token": "bob's phone"}}), {"Content-Type": "application/json"})
        self.assertEqual(json.loads(named.body), {"reply": 1, "ok": {}})
        status, place = messenger.publish("/live?channel=@bob&user=ada", {"channel": "direct:ada:bob"})
        self.assertEqual(status, 201)
        headers, body = told.get(timeout=PATIENCE)
        self.assertEqual(json.loads(body), {"user": "bob", "device": "phone", "token": "bob's phone", "channel": "@bob", "epoch": place["epoch"], "offset": 1, "count": 1})
        headers = {name.lower(): value for name, value in headers.items()}
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        self.assertEqual(headers["webhook-signature"], "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode())

    def test_options_that_make_no_sense_are_refused_with_a_usage(self):
        for words in [["--port"], ["--port", "x"], ["--storage", "sqlite:"], ["--history", "0"], ["--hello", "1"], ["--vapid-key", "x"], ["--webhook", "http://x/"]]:
            done = subprocess.run([binaries / "messenger", *words], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stderr[:17]), (2, "usage: messenger "), words)


class Feed(Case):
    def test_sends_prices_to_whoever_follows(self):
        feed = self.start("feed", "0")
        stream = self.follow(feed, "/live?channel=prices&since=earliest")
        for offset in range(1, 4):
            message = stream.message()
            self.assertEqual((message["offset"], message["data"]["symbol"]), (offset, "ACME"))
            self.assertIsInstance(message["data"]["cents"], int)

    def test_resumes_with_the_cursor(self):
        feed = self.start("feed", "0")
        first = self.follow(feed, "/live?channel=prices&since=earliest")
        while (event := first.event())[1].get("offset") != 2:
            pass
        second = Stream(feed, ["GET /live?channel=prices HTTP/1.1", "Accept: text/event-stream", "Last-Event-ID: " + event[0]["id"]])
        self.addCleanup(second.close)
        self.assertEqual(second.message()["offset"], 3)

    def test_offers_nothing_else(self):
        feed = self.start("feed", "0")
        for target in ["/live?channel=prices", "/live?channel=prices&wait=1"]:
            self.assertEqual(feed.get(target).status, 406)
        self.assertEqual(feed.get("/live?channel=other", Accept="text/event-stream").status, 403)
        self.assertEqual(feed.publish("/live?channel=prices", {"cents": 1})[0], 403)

    def test_is_under_forty_lines_and_links_no_websocket_and_no_poll(self):
        source = (here / "feed.cpp").read_text()
        self.assertLess(source.count("\n"), 40)
        self.assertEqual(re.findall(r"#include <(hailwire/.*)>", source), ["hailwire/server.hpp", "hailwire/transport/sse.hpp"])
        nm = os.environ.get("NM", "nm")
        names = lambda program: subprocess.run([nm, "-C", binaries / program], capture_output=True, text=True, check=True).stdout
        self.assertEqual([line for line in names("feed").splitlines() if "websocket" in line.lower()], [])
        # A poll's functions, not what an unoptimised build makes of types that could hold one.
        function = lambda line: re.sub("<[^<>]*>", "", re.sub("<[^<>]*>", "", re.sub("<[^<>]*>", "", line))).split("(")[0]
        self.assertEqual([line for line in names("feed").splitlines() if re.search("(?<!e)poll", function(line))], [])
        self.assertIn("websocket", names("chat").lower(), "and nm would show it")
        self.assertRegex("\n".join(map(function, names("chat").splitlines())), "(?<!e)poll", "and this too")


class Ticker(Case):
    def test_shows_a_slow_reader_the_newest_of_a_thousand_symbols_beside_a_fast_one(self):
        ticker = self.start("ticker", "0")

        def open_socket():
            stream = Stream(ticker, ["GET /live HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
            self.addCleanup(stream.close)
            self.assertIn(" 101 ", stream.status)
            for n in range(1000):
                text = json.dumps({"id": n, "subscribe": {"channel": f"symbol-{n}"}}).encode()
                stream.socket.sendall(bytes([0x81, 0x80 + len(text), 0, 0, 0, 0]) + text)  # masked with nothing
            return stream

        def objects(stream):
            while True:
                size = stream.file.read(2)[1]
                size = int.from_bytes(stream.file.read(2), "big") if size == 126 else size
                yield json.loads(stream.file.read(size))

        newest, deliveries = {}, {}

        def take(name, o):
            self.assertNotIn("gap", o)
            if "reply" in o:
                self.assertIs(o["ok"]["conflated"], True)
            if "offset" in o:
                self.assertGreater(o["offset"], newest.setdefault(name, {}).get(o["channel"], 0))
                newest[name][o["channel"]] = o["offset"]
                deliveries[name] = deliveries.get(name, 0) + 1

        fast, slow = open_socket(), open_socket()
        of_fast = objects(fast)
        while deliveries.get("fast", 0) < 12_000:  # a second or three, in which the slow one reads nothing
            take("fast", next(of_fast))
        self.assertEqual(len(newest["fast"]), 1000)
        self.assertGreater(sum(newest["fast"].values()), 2 * deliveries["fast"], "several updates to a delivery")
        wanted = dict(newest["fast"])
        of_slow = objects(slow)
        while any(newest.get("slow", {}).get(channel, 0) < offset for channel, offset in wanted.items()):
            take("slow", next(of_slow))


class CustomStorage(Case):
    def test_keeps_the_last_hundred_messages_and_tells_of_the_rest(self):
        host = self.start("custom_storage", "0")
        epoch = host.publish("/live?channel=log", 1)[1]["epoch"]
        for n in range(2, 106):
            host.publish("/live?channel=log", n)
        kept = host.poll("/live?channel=log&since=earliest")
        self.assertEqual([m["data"] for m in kept["messages"]], list(range(6, 106)))
        late = host.poll(f"/live?channel=log&since={epoch}.2")
        self.assertEqual(late["notices"], [{"gap": {"channel": "log", "reason": "trimmed", "epoch": epoch, "next": 6}}])
        self.assertEqual(late["messages"][0]["offset"], 6)
        self.assertEqual(host.poll(f"/live?channel=log&since={epoch}.5")["notices"], [])

    def test_serves_a_channel_that_was_never_published_to(self):
        host = self.start("custom_storage", "0")
        stream = self.follow(host, "/live?channel=new")
        self.assertEqual(stream.open["channels"]["new"]["offset"], 0)
        host.publish("/live?channel=new", "first")
        self.assertEqual(stream.message()["data"], "first")


class CustomTransport(Case):
    def lines(self, host, target, *fields):
        stream = Stream(host, [f"GET {target} HTTP/1.1", "Accept: application/x-ndjson", *fields])
        self.addCleanup(stream.close)
        self.assertEqual((stream.status, stream.headers["content-type"]), ("HTTP/1.1 200 OK", "application/x-ndjson"))
        return stream, (json.loads(line) for line in stream.lines)

    def test_sends_what_others_hear_by_a_poll_and_resumes_with_a_cursor_that_the_client_builds(self):
        host = self.start("custom_transport", "0")
        _, objects = self.lines(host, "/live?channel=lobby")
        at = next(objects)["open"]["channels"]["lobby"]
        self.assertEqual((at["offset"], at["recovered"]), (0, True))
        for n in range(1, 4):
            self.assertEqual(host.publish("/live?channel=lobby&user=ada", n)[0], 201)
        heard = [next(objects) for _ in range(3)]
        self.assertEqual([(m["offset"], m["from"], m["data"]) for m in heard], [(n, "ada", n) for n in range(1, 4)])
        self.assertEqual(host.poll("/live?channel=lobby&since=earliest")["messages"], heard)
        for where, field in (("&since=" + at["epoch"] + ".2", []), ("", ["Last-Event-ID: " + at["epoch"] + ".2"])):
            again = self.lines(host, "/live?channel=lobby" + where, *field)[1]
            self.assertEqual(next(again)["open"]["channels"]["lobby"]["offset"], 2)
            self.assertEqual(next(again), heard[2])
        lost = self.lines(host, "/live?channel=lobby&since=other.7")[1]
        self.assertEqual([list(next(lost)) for _ in range(2)], [["open"], ["gap"]])

    def test_is_answered_like_every_transport(self):
        host = self.start("custom_transport", "0")
        head = host.request("HEAD", "/live?channel=lobby", headers={"Accept": "application/x-ndjson"})
        self.assertEqual((head.status, head.headers["Content-Type"]), (200, "application/x-ndjson"))
        self.assertEqual(host.request("OPTIONS", "/live").headers["Allow"], "GET, HEAD, POST, OPTIONS")
        self.assertEqual(host.get("/live", Accept="application/x-ndjson").status, 400)
        self.assertEqual(host.get("/live?channel=@ada&user=bob", Accept="application/x-ndjson").status, 403)

    def test_ends_with_a_last_chunk_and_is_under_eighty_lines(self):
        self.assertLess((here / "custom_transport.cpp").read_text().count("\n"), 80)
        host = self.start("custom_transport", "0")
        _, objects = self.lines(host, "/live?channel=lobby")
        next(objects)
        host.tell_to_end()
        self.assertEqual(list(objects), [])  # what breaks off is an EOFError


class History(Case):
    def run_history(self, *arguments):
        done = subprocess.run([binaries / "history", *arguments], capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout, done.stderr

    def test_prints_a_channel_of_a_chat_that_has_ended(self):
        with tempfile.TemporaryDirectory() as folder:
            file = folder + "/chat.db"
            chat = Program("chat", "--port", "0", "--storage", "sqlite:" + file)
            for n in range(1, 301):  # more than one page
                chat.publish("/live?channel=lobby&user=ada", {"n": n})
            chat.request("POST", "/live?channel=lobby", b"\0\xff", {"Content-Type": "image/png"})
            chat.request("POST", "/live?channel=lobby&user=bob", "plain", {"Content-Type": "text/plain"})
            code, out, error = self.run_history(file, "lobby")
            self.assertEqual((code, out), (1, ""))
            self.assertIn("in use", error)
            self.assertEqual(chat.end(), 0)
            code, out, error = self.run_history(file, "lobby")
            self.assertEqual((code, error), (0, ""))
            lines = [line.split("\t") for line in out.splitlines()]
            self.assertEqual([(offset, sender, data) for offset, _, sender, data in lines[:300]],
                             [(str(n), "ada", f'{{"n": {n}}}') for n in range(1, 301)])
            self.assertEqual([line[2:] for line in lines[300:]], [["-", "(2 bytes of image/png)"], ["bob", "plain"]])
            for line in lines:
                self.assertRegex(line[1], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(self.run_history(file, "empty"), (0, "", ""))

    def test_says_what_is_wrong_and_makes_no_file(self):
        with tempfile.TemporaryDirectory() as folder:
            code, out, error = self.run_history(folder + "/none.db", "lobby")
            self.assertEqual((code, out, error), (1, "", f"history: there is no {folder}/none.db\n"))
            self.assertEqual(os.listdir(folder), [])
            self.assertEqual(self.run_history(folder)[0], 2)


class Embed(Case):
    def test_answers_itself_what_hailwire_does_not_claim(self):
        host = self.start("embed", "0")
        self.assertEqual((host.get("/").status, host.get("/").body), (200, b"0 are following\n"))
        self.assertEqual(host.get("/livestock").status, 404)

    def test_hands_over_what_hailwire_claims(self):
        host = self.start("embed", "0")
        stream = self.follow(host, "/live?channel=bell")
        self.assertEqual(host.get("/").body, b"1 are following\n")
        self.assertEqual(host.request("POST", "/ring").status, 202)
        self.assertEqual(stream.message()["data"], "ding")
        self.assertEqual(host.poll("/live?channel=bell&since=earliest")["messages"][0]["offset"], 1)
        self.assertEqual(host.get("/live?channel=other").status, 403)

    def test_answers_also_on_a_connection_that_it_has_handed_over(self):
        host = self.start("embed", "0")
        kept = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE)
        self.addCleanup(kept.close)
        for method, target, status, part in [("GET", "/live?channel=bell&wait=0", 200, b"cursor"), ("GET", "/", 200, b"are following"),
                                             ("POST", "/ring", 202, b"ding"), ("GET", "/livestock", 404, b"no such page"),
                                             ("GET", "/live?channel=bell&since=earliest", 200, b'"data":"ding"')]:
            kept.request(method, target)
            answer = kept.getresponse()
            self.assertEqual(answer.status, status)
            self.assertIn(part, answer.read())

    def test_loses_no_byte_that_came_with_the_head(self):
        host = self.start("embed", "0")
        body = b'{"id":1,"ping":{}}'
        head = ["POST /live HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
        both = Stream(host, head, body)
        self.addCleanup(both.close)
        self.assertEqual(both.status, "HTTP/1.1 200 OK")
        self.assertEqual(json.loads(both.file.read()), {"reply": 1, "ok": {}})


class OwnLoop:
    """A host whose loop watches the server's one descriptor."""

    def test_serves_every_transport_and_its_own_timer_beside(self):
        host = self.start(self.name, "0")
        events = self.follow(host, "/live?channel=clock&channel=chat-a&since=earliest")
        waiting = http.client.HTTPConnection(host.host, host.port, timeout=PATIENCE)
        self.addCleanup(waiting.close)
        waiting.request("GET", "/live?channel=chat-a&wait=20&since=earliest")
        web = self.upgrade(host, "/live?channel=chat-a")
        self.assertEqual(events.message()["channel"], "clock")
        self.assertEqual(host.publish("/live?channel=chat-a", "hello")[0], 201)
        while (message := events.message())["channel"] != "chat-a":
            pass
        self.assertEqual(message["data"], "hello")
        seen = b""
        while b'"hello"' not in seen:
            seen += web.file.read1(1 << 16)
        self.assertEqual(host.poll("/live?channel=chat-a&since=earliest")["messages"][0]["data"], "hello")
        self.assertEqual(json.loads(waiting.getresponse().read())["messages"][0]["data"], "hello")
        while events.message()["channel"] != "clock":  # goes on
            pass

    def upgrade(self, host, target):
        stream = Stream(host, [f"GET {target} HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
        self.addCleanup(stream.close)
        self.assertEqual(stream.status, "HTTP/1.1 101 Switching Protocols")
        return stream

    def test_ends_by_itself_when_everybody_has_been_told(self):
        for clients in (0, 3):
            with self.subTest(clients=clients):
                host = Program(self.name, "0")
                streams = [host.follow("/live?channel=chat-a") for _ in range(clients)]
                for stream in streams:
                    self.assertIn("open", stream.event()[1])
                host.get("/")  # its loop runs, and hears of signals
                host.tell_to_end()
                for stream in streams:
                    stream.file.read()
                    stream.close()
                try:
                    self.assertEqual(host.process.wait(PATIENCE), 0)
                finally:
                    host.end()

    def test_is_under_sixty_lines(self):
        self.assertLess(len((here / (self.name + ".cpp")).read_text().splitlines()), 60)


class LoopUv(OwnLoop, Case):
    name = "loop_uv"


class LoopGlib(OwnLoop, Case):
    name = "loop_glib"


class Postgres(Case):
    """Two processes on one database."""

    @classmethod
    def setUpClass(cls):
        cls.database = subprocess.Popen([os.environ["WITH_POSTGRES"], "sh", "-c", "echo $PGHOST $POSTGRES_CONTROL; exec cat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        words = cls.database.stdout.readline().split()
        if len(words) != 2:
            cls.database.communicate()
            sys.exit(77)
        cls.connection, cls.control = f"host={words[0]} user=tester dbname=postgres", words[1]

    @classmethod
    def tearDownClass(cls):
        cls.database.communicate()

    def start_two(self):
        return [self.start("postgres", "0", self.connection) for _ in range(2)]

    def publish_until_taken(self, program, target, data):
        """As a publisher does that was told to try again; the key has it stored once."""
        while True:
            answer = program.request("POST", target + "&user=ada", json.dumps(data),
                                     {"Content-Type": "application/json", "Idempotency-Key": data})
            if answer.status == 201:
                return
            self.assertIn(answer.status, (408, 503), answer.body)

    def test_who_publishes_to_one_is_heard_by_the_followers_of_both(self):
        here, there = self.start_two()
        streams = [self.follow(p, "/live?channel=both&since=earliest") for p in (here, there)]
        for i, program in enumerate((here, there, here), 1):
            self.assertEqual(program.publish("/live?channel=both", f"number {i}")[0], 201)
            for stream in streams:
                message = stream.message()
                self.assertEqual((message["offset"], message["data"]), (i, f"number {i}"))
        # Whoever has read at one goes on at the other.
        cursor = here.poll("/live?channel=both&since=earliest")["cursor"]
        there.publish("/live?channel=both", "later")
        self.assertEqual([m["offset"] for m in there.poll("/live?channel=both&since=" + cursor)["messages"]], [4])

    def test_a_restart_of_the_database_and_of_a_server_loses_nothing(self):
        here, there = self.start_two()
        stream = self.follow(there, "/live?channel=kept&since=earliest")
        self.publish_until_taken(here, "/live?channel=kept", "before")
        self.assertEqual(stream.message()["data"], "before")
        subprocess.run([self.control, "restart"], check=True)
        self.publish_until_taken(here, "/live?channel=kept", "after")
        self.assertEqual(stream.message()["data"], "after")
        third = self.start("postgres", "0", self.connection)
        self.assertEqual([m["data"] for m in third.poll("/live?channel=kept&since=earliest")["messages"]], ["before", "after"])

    def test_three_servers_agree_through_a_lost_connection_a_restart_and_a_kill(self):
        servers = [*self.start_two(), Program("postgres", "0", self.connection)]
        self.addCleanup(lambda: servers[2].end(signal.SIGKILL))
        seen = [[] for _ in servers]
        done = threading.Event()

        def follow(i):
            """As a browser does: comes back with its last id, at the next server where its own is gone."""
            cursor, at = "earliest", i
            while not done.is_set() and len(seen[i]) < 40:
                stream = None
                try:
                    stream = servers[at].follow(f"/live?channel=three&since={cursor}")
                    while len(seen[i]) < 40 and (event := stream.event()):
                        fields, object = event
                        cursor = fields.get("id", cursor)
                        if "channel" in object:
                            seen[i].append((object["offset"], object["data"]))
                except (OSError, EOFError, ValueError):
                    at = (at + 1) % len(servers)
                if stream:
                    stream.close()

        threads = [threading.Thread(target=follow, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        try:
            for n in range(1, 41):
                if n == 10:  # every connection but this one
                    subprocess.run(["psql", "-d", self.connection, "-qAt", "-c", "SELECT count(pg_terminate_backend(pid, 20000)) FROM"
                                    " pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'postgres'"],
                                   check=True, capture_output=True)
                elif n == 20:
                    subprocess.run([self.control, "restart"], check=True)
                elif n == 30:
                    servers[2].process.kill()
                self.publish_until_taken(servers[n % (3 if n < 30 else 2)], "/live?channel=three", f"number-{n}")
            for thread in threads:
                thread.join(PATIENCE)
        finally:
            done.set()
        self.assertEqual(seen, [[(n, f"number-{n}") for n in range(1, 41)]] * 3)

    def test_says_why_it_cannot_begin(self):
        ended = subprocess.run([binaries / "postgres", "0", "host=/nowhere"], capture_output=True, text=True)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("/nowhere", ended.stderr)


class Beast(Case):
    """A Beast host with TLS on four threads."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cert, cls.key = cls.folder.name + "/cert.pem", cls.folder.name + "/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", cls.key, "-out", cls.cert],
                       check=True, capture_output=True)
        cls.trusting = ssl.create_default_context(cafile=cls.cert)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def start_host(self):
        return self.start("beast", "0", self.cert, self.key)

    def connect(self, host):
        connection = http.client.HTTPSConnection(host.host, host.port, timeout=PATIENCE, context=self.trusting)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection, method, target, body=None):
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def stream(self, host, head, body=b""):
        """The lines of a connection, its request sent in one piece."""
        raw = self.trusting.wrap_socket(socket.create_connection((host.host, host.port), timeout=PATIENCE), server_hostname="127.0.0.1")
        self.addCleanup(raw.close)
        raw.sendall("\r\n".join(head + ["Host: a", "", ""]).encode() + body)
        return raw.makefile("rb")

    def test_serves_its_own_pages_and_hands_over_the_rest_of_a_connection(self):
        host = self.start_host()
        kept = self.connect(host)
        self.assertEqual(self.ask(kept, "GET", "/"), (200, b"a page of Beast's\n"))
        self.assertEqual(self.ask(kept, "POST", "/ring"), (202, b"ding\n"))
        status, body = self.ask(kept, "GET", "/live?channel=bell&since=earliest")
        self.assertEqual((status, json.loads(body)["messages"][0]["data"]), (200, "ding"))
        self.assertEqual(self.ask(kept, "GET", "/"), (200, b"a page of Beast's\n"))  # by way of on_http
        self.assertEqual(self.ask(kept, "GET", "/none")[0], 404)

    def test_loses_no_byte_that_came_with_the_request(self):
        host = self.start_host()
        frame = b"\x81\x92\0\0\0\0" + b'{"id":1,"ping":{}}'
        file = self.stream(host, ["GET /live?channel=bell HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], frame)
        self.assertEqual(file.readline(), b"HTTP/1.1 101 Switching Protocols\r\n")
        seen = b""
        while b'"reply":1' not in seen:
            seen += file.read1(1 << 16)

    def test_many_clients_at_once_hear_everything_in_order(self):
        host = self.start_host()
        files = [self.stream(host, ["GET /live?channel=bell HTTP/1.1", "Accept: text/event-stream"]) for _ in range(20)]
        for file in files:
            while not file.readline().startswith(b"event: open"):
                pass
        ringer = self.connect(host)
        for _ in range(30):
            self.assertEqual(self.ask(ringer, "POST", "/ring")[0], 202)
        for file in files:
            offsets = []
            while len(offsets) < 30:
                if (line := file.readline()).startswith(b"data:") and b'"ding"' in line:
                    offsets.append(json.loads(line[5:])["offset"])
            self.assertEqual(offsets, list(range(1, 31)))


class Goodbye(Case):
    """Whoever listens is told that the server stops, and no example has to be killed."""

    def test_a_websocket_is_closed_as_going_away(self):
        for name in ("hello", "custom_storage", "embed"):
            with self.subTest(name):
                program = self.start(name, "0")
                stream = Stream(program, ["GET /live?user=ada HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
                self.addCleanup(stream.close)
                self.assertEqual(stream.status, "HTTP/1.1 101 Switching Protocols")
                program.tell_to_end()
                wanted = b"\x88\x10" + (1001).to_bytes(2, "big") + b"server stopped"  # RFC 6455, section 7.4.1
                got = b""
                while wanted not in got and (more := stream.file.read1(4096)):
                    got += more
                self.assertIn(wanted, got)
                stream.socket.sendall(b"\x88\x82\0\0\0\0" + (1001).to_bytes(2, "big"))
                stream.close()
                self.assertEqual(program.process.wait(PATIENCE), 0)

    def test_an_event_stream_ends_in_order(self):
        program = self.start("feed", "0")
        stream = self.follow(program, "/live?channel=prices")
        program.tell_to_end()
        while stream.event():
            pass
        stream.close()
        self.assertEqual(program.process.wait(PATIENCE), 0)


class Hello(Case):
    def test_is_a_program_of_twenty_lines(self):
        lines = [line for line in (here / "hello.cpp").read_text().splitlines() if not line.startswith("//")]
        self.assertLessEqual(len(lines), 20)

    def test_tells_the_news_and_lets_people_chat(self):
        hello = self.start("hello", "0")
        self.assertEqual(hello.get("/live?channel=news").status, 401)
        self.assertEqual(hello.poll("/live?channel=news&user=ada&since=earliest")["messages"][0]["data"], {"text": "the server is up"})
        stream = self.follow(hello, "/live?channel=chat-1&user=bob")
        self.assertEqual(hello.publish("/live?channel=chat-1&user=ada", "hi")[0], 201)
        message = stream.message()
        self.assertEqual((message["from"], message["data"]), ("ada", "hi"))
        self.assertEqual(hello.publish("/live?channel=news&user=ada", "fake")[0], 403)


class Follow(Case):
    def test_is_a_program_of_twelve_lines_that_comes_back_by_itself(self):
        chat = self.start("chat", "--port", "0")
        url = f"http://127.0.0.1:{chat.port}/live?user=bob"
        follow = subprocess.Popen([binaries / "follow", url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.wait, PATIENCE)
        self.addCleanup(follow.kill)
        self.assertEqual(chat.publish("/live?channel=lobby&user=ada", {"text": "hello"})[0], 201)
        self.assertEqual(follow.stdout.readline(), 'ada: {"text": "hello"}\n')
        again = ["--port", str(chat.port)]
        chat.process.kill()
        chat.process.wait()
        chat.process.stdout.close()
        chat.process = Program("chat", *again).process
        self.assertEqual(chat.publish("/live?channel=lobby&user=ada", "again")[0], 201)
        self.assertEqual(follow.stdout.readline(), 'ada: "again"\n')


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
