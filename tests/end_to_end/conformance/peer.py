# SPDX-License-Identifier: BSL-1.0
"""The other end of a server under test, over a plain socket: nothing here knows a protocol better than the bytes it is told
to send, so that rules can be broken at will. Only Python's standard library."""
import base64
import hashlib
import os
import select
import signal
import socket
import struct
import subprocess
import zlib

TIMEOUT = 20  # seconds: a hang is a failure, a slow machine is none
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Server:
    """A server program that says `listening on http://127.0.0.1:PORT/` first."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), f"the server began with {line!r}"
        self.port = int(line.rstrip().rstrip("/").rsplit(":", 1)[1])

    def memory(self):
        """The largest that the server has been, in KiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def stop(self):
        """Ends it as a user would; a crash or a sanitizer's report shows in its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


class Stream:
    """A TCP connection with a reading side that can wait for exactly what is due."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data, chop=None):
        """Sends bytes, in pieces of `chop` when given. Reads what comes meanwhile, so that neither end waits for the other."""
        view = memoryview(data)
        self.socket.setblocking(False)
        try:
            while view:
                readable, writable, _ = select.select([self.socket], [self.socket], [], TIMEOUT)
                assert readable or writable, "the server neither reads nor writes"
                if readable:
                    try:
                        got = self.socket.recv(1 << 18)
                    except ConnectionError:
                        return
                    if not got:
                        return  # it has closed; what it said before is in the buffer
                    self.buffer += got
                if writable:
                    try:
                        view = view[self.socket.send(view[:chop] if chop else view):]
                    except ConnectionError:
                        return
        finally:
            self.socket.settimeout(TIMEOUT)

    def more(self):
        """Receives something; False at the end of the stream."""
        try:
            got = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self.buffer += got
        return bool(got)

    def take(self, n):
        while len(self.buffer) < n:
            if not self.more():
                raise EOFError(f"the server closed with {bytes(self.buffer)!r} of {n} bytes said")
        out = bytes(self.buffer[:n])
        del self.buffer[:n]
        return out

    def take_until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise EOFError(f"the server closed after {bytes(self.buffer)!r}")
        return self.take(self.buffer.index(mark) + len(mark))

    def silent(self, seconds):
        """Whether nothing comes for so long, not even the end."""
        return not self.buffer and not select.select([self.socket], [], [], seconds)[0]

    def at_end(self):
        """Whether the server closes without another byte."""
        return not self.buffer and not self.more()


def mask(payload, key):
    size = len(payload)
    ring = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(ring, "big")).to_bytes(size, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, key=None, masked=True, length_bytes=None):
    """One frame of a client. `length_bytes` (0, 2 or 8) overrides the shortest form of the length."""
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 1 << 16 else 8
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0x80 if masked else 0
    head = {0: lambda: bytes([first, flag | size]), 2: lambda: struct.pack("!BBH", first, flag | 126, size),
            8: lambda: struct.pack("!BBQ", first, flag | 127, size)}[length_bytes]()
    if not masked:
        return head + payload
    key = os.urandom(4) if key is None else key
    return head + key + mask(payload, key)


def message(opcode, payload, fragment, rsv=0):
    """A message in fragments of `fragment` bytes; RSV bits stand on the first (RFC 7692, section 6.1)."""
    if not fragment or len(payload) <= fragment:
        return frame(opcode, payload, rsv=rsv)
    parts = [payload[i:i + fragment] for i in range(0, len(payload), fragment)]
    last = len(parts) - 1
    if fragment % 4:
        return b"".join(frame(opcode if i == 0 else 0, p, i == last, rsv if i == 0 else 0) for i, p in enumerate(parts))
    key = os.urandom(4)  # masked as one, because the pieces are tens of thousands
    whole = mask(payload, key)
    out = []
    for i, p in enumerate(parts):
        head = frame(opcode if i == 0 else 0, b"\0" * len(p), i == last, rsv if i == 0 else 0, key)[:-len(p)]
        out += head, whole[i * fragment:(i + 1) * fragment]
    return b"".join(out)


def close_payload(code, reason=b""):
    return struct.pack("!H", code) + reason


class Extension:
    """A client's end of permessage-deflate with the parameters of the server's answer."""

    def __init__(self, answer):
        name, *params = [p.strip() for p in answer.split(";")]
        assert name == "permessage-deflate", answer
        pairs = [p.partition("=")[::2] for p in params]
        self.params = dict(pairs)
        assert len(self.params) == len(pairs), f"a parameter is doubled: {answer}"
        known = {"server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits"}
        assert set(self.params) <= known, f"unknown parameters: {answer}"
        self.server_bits = int(self.params.get("server_max_window_bits", 15))
        self.client_bits = int(self.params.get("client_max_window_bits", 15))
        self.deflater = self.inflater = None

    def deflate(self, payload, level=6):
        if self.deflater is None or "client_no_context_takeover" in self.params:
            self.deflater = zlib.compressobj(level, zlib.DEFLATED, -max(9, self.client_bits))
        out = self.deflater.compress(payload) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        return out[:-4]

    def inflate(self, payload):
        # A new one where the server promised to keep nothing, with just the window that it promised: both promises are tested.
        if self.inflater is None or "server_no_context_takeover" in self.params:
            self.inflater = zlib.decompressobj(-self.server_bits)
        return self.inflater.decompress(payload + b"\x00\x00\xff\xff")


class WebSocket(Stream):
    KEY = "dGhlIHNhbXBsZSBub25jZQ=="

    def __init__(self, port, path="/", extensions=None, headers=""):
        super().__init__(port)
        offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        self.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Key: {self.KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}{headers}\r\n".encode())
        head = self.take_until(b"\r\n\r\n").decode()
        lines = head.split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols", lines[0]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        digest = hashlib.sha1((self.KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert fields["sec-websocket-accept"] == base64.b64encode(digest).decode()
        assert fields["upgrade"].lower() == "websocket" and "upgrade" in fields["connection"].lower()
        self.answer = fields.get("sec-websocket-extensions")
        self.extension = Extension(self.answer) if self.answer else None
        self.compressed = 0  # frames that came with RSV1

    def send_message(self, opcode, payload, fragment=0):
        if not self.extension:
            return self.send(message(opcode, payload, fragment))
        self.send(message(opcode, self.extension.deflate(payload), fragment, rsv=4))

    def read_frame(self):
        first, second = self.take(2)
        assert not second & 0x80, "a server's frame is masked"
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self.take(2))[0]
            assert size >= 126, "a length that is not the shortest"
        elif size == 127:
            size = struct.unpack("!Q", self.take(8))[0]
            assert size >= 1 << 16, "a length that is not the shortest"
        opcode, rsv = first & 15, first >> 4 & 7
        assert first & 0x80, "hailwire sends whole messages"
        assert opcode in (TEXT, BINARY, CLOSE, PING, PONG) and (opcode < 8 or size <= 125)
        payload = self.take(size)
        assert rsv == 0 or (rsv == 4 and self.extension and opcode < 8), f"RSV is {rsv}"
        if rsv:
            self.compressed += 1
            payload = self.extension.inflate(payload)
        return opcode, payload

    def expect(self, *frames):
        for wanted in frames:
            got = self.read_frame()
            assert got == wanted, f"expected {shorten(wanted)}, got {shorten(got)}"

    def expect_failure(self, *codes):
        """The server fails the connection: a close frame with one of the codes, then its end of the stream."""
        opcode, payload = self.read_frame()
        assert opcode == CLOSE, f"expected a close, got {shorten((opcode, payload))}"
        code = struct.unpack("!H", payload[:2])[0] if payload else 1005
        payload[2:].decode()
        assert code in codes, f"closed with {code} {payload[2:]!r}, expected {codes}"
        assert self.at_end(), f"something came after the close: {bytes(self.buffer)!r}"

    def close(self, payload=close_payload(1000), answer=None):
        """The closing handshake from this end; the server answers in kind and ends the stream."""
        self.send(frame(CLOSE, payload))
        self.expect((CLOSE, payload[:2] if answer is None else answer))
        assert self.at_end(), f"something came after the close: {bytes(self.buffer)!r}"


def shorten(f):
    return (f[0], f[1] if len(f[1]) < 80 else f[1][:60] + b"... %d bytes" % len(f[1]))


class Http(Stream):
    def read_answer(self, method="GET"):
        """(status, fields, body) of the next answer; interim ones are answers of their own."""
        lines = self.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = (lines[0] + " ").split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        fields = {}
        for line in lines[1:-2]:
            name, colon, value = line.partition(":")
            assert colon and name == name.strip() and name.lower() not in fields, f"a bad header line: {line!r}"
            fields[name.lower()] = value.strip()
        status = int(status)
        bare = method == "HEAD" or status < 200 or status in (204, 304)
        body = b"" if bare else self.take(int(fields["content-length"]))
        return status, fields, body
