#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Conversations of a TLS 1.3 client that keeps no rule, written with tlslite-ng (PyPI), whose records, ciphers aside, are its
own Python: KeyUpdates, record sizes, padding, alerts, and handshake messages in parts, each with `tls_server`, once for each way
of keeping records and each cipher suite. Where the two ways differ on purpose the case says so; include/hailwire/detail/tls/README.md
has the reasons.

    HAILWIRE_TLS_SERVER=build/release/tests/tls_server tlslite_test.py
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import unittest

from authority import Authority
from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, AlertLevel, ContentType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
from tlslite.messages import Message

SERVER = os.environ.get("HAILWIRE_TLS_SERVER", pathlib.Path(__file__).resolve().parents[3] / "build/release/tests/tls_server")
PATIENCE = 20
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNEXPECTED, BAD_MAC, OVERFLOW = AlertDescription.unexpected_message, AlertDescription.bad_record_mac, AlertDescription.record_overflow
DECODE, ILLEGAL = AlertDescription.decode_error, AlertDescription.illegal_parameter
UPDATE, ASKING = bytes((24, 0, 0, 1, 0)), bytes((24, 0, 0, 1, 1))
SUITES = ("aes128gcm", "aes256gcm", "chacha20-poly1305")


class Client:
    def __init__(self, port, suite):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 4)
        settings.cipherNames = [suite]
        self.tls = TLSConnection(self.socket)
        self.tls.handshakeClientCert(settings=settings, serverName="localhost")
        self.tls.ignoreAbruptClose = False

    def record(self, type, content, padding=0):
        layer = self.tls._recordLayer
        layer.padding_cb = (lambda *_: bytearray(padding)) if padding else None
        for _ in layer.sendRecord(Message(type, bytearray(content))):
            pass
        layer.padding_cb = None
        return self

    def data(self, content=GET, padding=0):
        return self.record(ContentType.application_data, content, padding)

    def new_key(self, message=UPDATE):
        """A KeyUpdate, and the key that it announces."""
        self.record(ContentType.handshake, message)
        return self.next_key()

    def next_key(self):
        s = self.tls.session
        s.cl_app_secret, s.sr_app_secret = self.tls._recordLayer.calcTLS1_3KeyUpdate_reciever(s.cipherSuite, s.cl_app_secret, s.sr_app_secret)
        return self

    def alert(self, description, level=AlertLevel.warning):
        return self.record(ContentType.alert, bytes((level, description)))

    def bare(self, content):
        self.socket.sendall(content)
        return self

    def page(self):
        """A whole answer."""
        got = bytearray()
        while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + 16000:
            more = self.tls.read(max=1)
            if not more:
                return f"an end after {len(got)} bytes"
            got += more
            got += bytes(self.tls._readBuffer)
            self.tls._readBuffer = bytearray()
        return "served"

    def outcome(self):
        """What becomes of one more request."""
        try:
            return self.data().page()
        except TLSRemoteAlert as e:
            return e.description
        except (TLSAbruptCloseError, ConnectionError, BrokenPipeError) as e:
            try:  # the alert may have come before what could not be sent
                return self.page()
            except TLSRemoteAlert as e:
                return e.description
            except Exception:
                return f"cut: {e}"

    def close(self):
        self.socket.close()


def times(n, step):
    def play(c):
        for _ in range(n):
            step(c)
    return play


def at_once(n, step):
    """The same in one write: what is counted is forgiven with time, so that it must not pass meanwhile."""
    def play(c):
        c.tls.sock.buffer_writes = True
        times(n, step)(c)
        c.tls.sock.flush()
        c.tls.sock.buffer_writes = False
    return play


# Name, what the client does, what then becomes of a request, and, where it differs, with the records of OpenSSL.
SERVED = "served"
CASES = [
    ("nothing", lambda c: c, SERVED),
    ("a KeyUpdate", lambda c: c.new_key(), SERVED),
    ("a KeyUpdate that asks for one", lambda c: c.new_key(ASKING), SERVED),
    ("three KeyUpdates that ask, one by one", times(3, lambda c: c.new_key(ASKING)), SERVED),
    ("32 KeyUpdates in a row", times(32, lambda c: c.new_key()), SERVED),
    ("33 KeyUpdates in a row", at_once(33, lambda c: c.new_key()), UNEXPECTED, SERVED),
    ("40 KeyUpdates, a request after each", times(40, lambda c: c.new_key(ASKING).data().page()), SERVED),
    ("a KeyUpdate within a request", lambda c: c.data(GET[:10]).new_key(ASKING).data(GET[10:]).page(), SERVED),
    ("a KeyUpdate and no new key", lambda c: c.record(22, UPDATE), BAD_MAC),
    ("a new key and no KeyUpdate", lambda c: c.next_key(), BAD_MAC),
    ("a KeyUpdate of each byte of its own", lambda c: [c.record(22, UPDATE[i:i + 1]) for i in range(5)] and c.next_key(), SERVED),
    ("a KeyUpdate in two parts", lambda c: c.record(22, UPDATE[:3]).record(22, UPDATE[3:]).next_key(), SERVED),
    ("two KeyUpdates in one record", lambda c: c.record(22, UPDATE + UPDATE), UNEXPECTED),
    ("a KeyUpdate with one byte more", lambda c: c.record(22, UPDATE + b"\0"), UNEXPECTED),
    ("a KeyUpdate without its value", lambda c: c.record(22, bytes((24, 0, 0, 0))), DECODE),
    ("a KeyUpdate with a long value", lambda c: c.record(22, bytes((24, 0, 0, 2, 0, 0))), DECODE, ILLEGAL),
    *((f"a KeyUpdate to {v}", lambda c, v=v: c.record(22, bytes((24, 0, 0, 1, v))), ILLEGAL) for v in (2, 3, 128, 255)),
    ("data between two parts", lambda c: c.record(22, UPDATE[:3]).data(b"x"), UNEXPECTED),
    ("nothing as data between two parts", lambda c: c.record(22, UPDATE[:3]).data(b""), UNEXPECTED),
    ("a warning between two parts", lambda c: c.record(22, UPDATE[:3]).alert(AlertDescription.user_canceled), UNEXPECTED),
    ("no handshake message at all", lambda c: c.record(22, b""), UNEXPECTED),
    *((f"a handshake message of type {t}", lambda c, t=t: c.record(22, bytes((t, 0, 0, 1, 0))), UNEXPECTED) for t in (0, 1, 2, 4, 8, 20, 254)),
    ("an empty record", lambda c: c.data(b""), SERVED),
    ("32 empty records", times(32, lambda c: c.data(b"")), SERVED),
    ("33 empty records", at_once(33, lambda c: c.data(b"")), UNEXPECTED),
    ("a request of records of one byte", lambda c: [c.data(GET[i:i + 1]) for i in range(len(GET))] and c.page(), SERVED),
    ("padding of one", lambda c: c.data(GET, 1).page(), SERVED),
    ("as much padding as fits", lambda c: c.data(GET, 16384 - len(GET)).page(), SERVED),
    ("nothing but padding", lambda c: c.record(0, bytes(20)), UNEXPECTED),
    ("an empty record, padded", lambda c: c.data(b"", 1000), SERVED),
    ("an alert, padded", lambda c: c.record(21, bytes((1, 90)), 200), SERVED),
    ("a KeyUpdate, padded", lambda c: c.record(22, UPDATE, 200).next_key(), SERVED),
    ("a warning", lambda c: c.alert(AlertDescription.user_canceled), SERVED),
    ("an empty alert", lambda c: c.record(21, b""), UNEXPECTED),
    ("an alert of one byte", lambda c: c.record(21, b"\1"), DECODE, UNEXPECTED),
    ("two alerts in one record", lambda c: c.record(21, bytes((1, 90, 1, 90))), DECODE, UNEXPECTED),
    *((f"content of type {t}", lambda c, t=t: c.record(t, b"x"), UNEXPECTED) for t in (20, 24, 25, 255)),
    ("a record in the clear", lambda c: c.bare(b"\x16\3\3\0\5" + UPDATE), UNEXPECTED),
    ("data in the clear", lambda c: c.bare(b"\x17\3\3\0\5hello"), BAD_MAC),
    ("a change of cipher", lambda c: c.bare(b"\x14\3\3\0\1\1"), UNEXPECTED),
    ("a record that is too long", lambda c: c.bare(b"\x17\3\3\x41\1" + bytes(16641)), OVERFLOW),
    ("a forged record", lambda c: c.bare(b"\x17\3\3\0\x20" + bytes(32)), BAD_MAC),
    ("an empty forged record", lambda c: c.bare(b"\x17\3\3\0\x10" + bytes(16)), BAD_MAC),
]
SIZES = (1, 2, 15, 16, 17, 255, 256, 1023, 4096, 16383, 16384)


def start(records):
    process = subprocess.Popen([SERVER, "--port", "0", "--cert", chain, "--key", key, "--records", records], stdout=subprocess.PIPE, text=True)
    return process, int(re.fullmatch(r"listening on https://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())[1])


def setUpModule():
    global folder, chain, key, servers
    folder = tempfile.TemporaryDirectory()
    chain, key = Authority(folder.name).issue("localhost")
    servers = {records: start(records) for records in ("own", "openssl")}


def tearDownModule():
    for process, _ in servers.values():
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        process.stdout.close()
    folder.cleanup()


class Conversations(unittest.TestCase):
    def each(self):
        for records, (_, port) in servers.items():
            for suite in SUITES:
                yield records, suite, port

    def test_cases(self):
        for records, suite, port in self.each():
            for name, play, expected, *other in CASES:
                with self.subTest(name, records=records, suite=suite):
                    c = Client(port, suite)
                    try:
                        try:
                            play(c)
                        except (ConnectionError, BrokenPipeError):
                            pass
                        self.assertEqual(c.outcome(), other[0] if other and records == "openssl" else expected)
                    finally:
                        c.close()

    def test_sizes(self):
        """A message of any size, in records of any size, comes back as it was."""
        for records, suite, port in self.each():
            for size in SIZES:
                with self.subTest(size=size, records=records, suite=suite):
                    c = Client(port, suite)
                    c.data(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size).data(b"b" * size)
                    self.assertEqual(c.page(), SERVED)
                    self.assertEqual(c.outcome(), SERVED)
                    c.close()

    def test_farewell(self):
        """A close_notify is answered by one, also behind a KeyUpdate in the same write; nothing is served after it."""
        for records, suite, port in self.each():
            for asking in (False, True):
                with self.subTest(records=records, suite=suite, asking=asking):
                    c = Client(port, suite)
                    if asking:
                        c.new_key(ASKING)
                    c.alert(AlertDescription.close_notify)
                    self.assertEqual(c.tls.read(), b"")
                    c.close()


if __name__ == "__main__":
    unittest.main()
