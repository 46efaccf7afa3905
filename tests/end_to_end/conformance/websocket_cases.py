# SPDX-License-Identifier: BSL-1.0
"""WebSocket over the wire (RFC 6455, RFC 7692): a case for every id of the public Autobahn test suite, written from the rules
that each stands for, and more for what it leaves out. The server under test echoes on every path."""
import random
import struct

from peer import BINARY, CLOSE, PING, PONG, TEXT, Http, WebSocket, close_payload, frame, message

cases = {}  # id -> function of the server


def case(name):
    def register(f):
        assert name not in cases, f"two cases are called {name}"
        cases[name] = f
        return f
    return register


def each(prefix, values):
    """One case for each value, numbered from 1: the function also takes its value."""
    def register(f):
        for i, value in enumerate(values, 1):
            case(f"{prefix}.{i}")(lambda server, value=value: f(server, value))
        return f
    return register


def exchange(server, sent, *expected, chop=None):
    """Sends bytes on a new connection, expects frames, and closes in order."""
    with WebSocket(server.port) as ws:
        ws.send(sent, chop)
        ws.expect(*expected)
        ws.close()


def refused(server, sent, *before, codes=(1002,), chop=None):
    """Sends bytes, expects frames and then that the server fails the connection."""
    with WebSocket(server.port) as ws:
        ws.send(sent, chop)
        ws.expect(*before)
        ws.expect_failure(*codes)


def bytewise(*frames):
    return dict(sent=b"".join(frames), chop=1)


# ---- 1: framing ------------------------------------------------------------------------------------------------------

sizes = [0, 125, 126, 127, 128, 65535, 65536]


@each("1.1", [(n, None) for n in sizes] + [(65536, 997)])
def text_sizes(server, value):
    size, chop = value
    exchange(server, frame(TEXT, b"*" * size), (TEXT, b"*" * size), chop=chop)


@each("1.2", [(n, None) for n in sizes] + [(65536, 997)])
def binary_sizes(server, value):
    size, chop = value
    exchange(server, frame(BINARY, b"\xfe" * size), (BINARY, b"\xfe" * size), chop=chop)


# ---- 2: pings and pongs ----------------------------------------------------------------------------------------------

@each("2", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
def pings(server, payload):
    exchange(server, frame(PING, payload), (PONG, payload))


@case("2.5")
def ping_too_long(server):
    refused(server, frame(PING, b"\xfe" * 126))


@case("2.6")
def ping_bytewise(server):
    exchange(server, frame(PING, b"\xfe" * 125), (PONG, b"\xfe" * 125), chop=1)


for number, payload in (("2.7", b""), ("2.8", b"unsolicited")):
    case(number)(lambda server, payload=payload: exchange(server, frame(PONG, payload)))


@case("2.9")
def pong_then_ping(server):
    exchange(server, frame(PONG, b"unsolicited") + frame(PING, b"asked"), (PONG, b"asked"))


for number, chop in (("2.10", None), ("2.11", 1)):
    @case(number)
    def ten_pings(server, chop=chop):
        payloads = [b"payload-%d" % i for i in range(10)]
        exchange(server, b"".join(frame(PING, p) for p in payloads), *[(PONG, p) for p in payloads], chop=chop)


# ---- 3 and 4: reserved bits and opcodes ------------------------------------------------------------------------------

hello = frame(TEXT, b"Hello")
echoed = (TEXT, b"Hello")
case("3.1")(lambda server: refused(server, frame(TEXT, b"Hello", rsv=1)))
case("3.2")(lambda server: refused(server, hello + frame(TEXT, b"Hello", rsv=2) + frame(PING), echoed))
case("3.3")(lambda server: refused(server, hello + frame(TEXT, b"Hello", rsv=3) + frame(PING), echoed, chop=11))
case("3.4")(lambda server: refused(server, hello + frame(TEXT, b"Hello", rsv=4) + frame(PING), echoed, chop=1))
case("3.5")(lambda server: refused(server, frame(BINARY, b"\x00\xff", rsv=5)))
case("3.6")(lambda server: refused(server, frame(PING, b"\x00\xff", rsv=6)))
case("3.7")(lambda server: refused(server, frame(CLOSE, rsv=7)))

for group, first in (("4.1", 3), ("4.2", 11)):
    case(f"{group}.1")(lambda server, op=first: refused(server, frame(op)))
    case(f"{group}.2")(lambda server, op=first + 1: refused(server, frame(op, b"reserved")))
    case(f"{group}.3")(lambda server, op=first + 2: refused(server, hello + frame(op) + frame(PING), echoed))
    case(f"{group}.4")(lambda server, op=first + 3: refused(server, hello + frame(op, b"reserved") + frame(PING), echoed))
    case(f"{group}.5")(lambda server, op=first + 4: refused(server, hello + frame(op, b"reserved") + frame(PING), echoed, chop=1))


# ---- 5: fragments ----------------------------------------------------------------------------------------------------

one, two = frame(TEXT, b"fragment1", fin=False), frame(0, b"fragment2")
joined = (TEXT, b"fragment1fragment2")
lone_end, lone_middle = frame(0, b"no beginning"), frame(0, b"no beginning", fin=False)
for number, opcode in (("5.1", PING), ("5.2", PONG)):
    case(number)(lambda server, op=opcode: refused(server, frame(op, b"fragment1", fin=False) + two))
for i, chop in enumerate((None, 15, 1)):
    case(f"5.{3 + i}")(lambda server, chop=chop: exchange(server, one + two, joined, chop=chop))
    case(f"5.{6 + i}")(lambda server, chop=chop: exchange(server, one + frame(PING, b"between") + two, (PONG, b"between"), joined, chop=chop))
    case(f"5.{9 + i}")(lambda server, chop=chop: refused(server, lone_end + hello, chop=chop))
    case(f"5.{12 + i}")(lambda server, chop=chop: refused(server, lone_middle + hello, chop=chop))
case("5.15")(lambda server: refused(server, one + two + lone_middle + hello, joined))
case("5.16")(lambda server: refused(server, (lone_middle + one + two) * 2))
case("5.17")(lambda server: refused(server, (lone_end + one + two) * 2))
case("5.18")(lambda server: refused(server, one + frame(TEXT, b"fragment2")))


for number, chop in (("5.19", None), ("5.20", 15)):
    @case(number)
    def pings_between_fragments(server, chop=chop):
        with WebSocket(server.port) as ws:
            ws.send(one + frame(0, b"2", fin=False) + frame(PING, b"first"), chop)
            ws.expect((PONG, b"first"))  # before the message is whole
            ws.send(frame(0, b"3", fin=False) + frame(0, b"4", fin=False) + frame(PING, b"second") + frame(0, b"5"), chop)
            ws.expect((PONG, b"second"), (TEXT, b"fragment12345"))
            ws.close()


# ---- 6: UTF-8 --------------------------------------------------------------------------------------------------------

greek = "κόσμε".encode()  # the usual test word; its accent makes one character of three bytes
nothing = [frame(TEXT, fin=False), frame(0, fin=False), frame(0)]
mixed = "Hello-µ@ßöäüàá-UTF-8!!".encode()
bad = greek + b"\xed\xa0\x80" + b"edited"  # a surrogate in the middle
case("6.1.1")(lambda server: exchange(server, frame(TEXT), (TEXT, b"")))
case("6.1.2")(lambda server: exchange(server, b"".join(nothing), (TEXT, b"")))
case("6.1.3")(lambda server: exchange(server, nothing[0] + frame(0, b"middle", fin=False) + nothing[2], (TEXT, b"middle")))
case("6.2.1")(lambda server: exchange(server, frame(TEXT, mixed), (TEXT, mixed)))
case("6.2.2")(lambda server: exchange(server, frame(TEXT, mixed[:12], fin=False) + frame(0, mixed[12:]), (TEXT, mixed)))
case("6.2.3")(lambda server: exchange(server, message(TEXT, mixed, 1), (TEXT, mixed)))
case("6.2.4")(lambda server: exchange(server, message(TEXT, greek, 1), (TEXT, greek)))
case("6.3.1")(lambda server: refused(server, frame(TEXT, bad), codes=(1007,)))
case("6.3.2")(lambda server: refused(server, message(TEXT, bad, 1), codes=(1007,)))

over = b"\xf4\x90\x80\x80"  # U+110000; wrong from its second byte on
whole = greek + over + b"edited"
whole_head = frame(TEXT, b"\0" * len(whole), key=b"\0\0\0\0")[:-len(whole)]
for number, first, second in (("6.4.1", len(greek), len(greek) + 4), ("6.4.2", len(greek) + 1, len(greek) + 2)):
    @case(number)
    def fails_at_the_frame(server, first=first, second=second):
        with WebSocket(server.port) as ws:
            ws.send(frame(TEXT, whole[:first], fin=False) + frame(PING, b"still there?"))
            ws.expect((PONG, b"still there?"))
            ws.send(frame(0, whole[first:second], fin=False))
            ws.expect_failure(1007)
for number, first, second in (("6.4.3", len(greek), len(greek) + 4), ("6.4.4", len(greek) + 1, len(greek) + 2)):
    @case(number)
    def fails_within_the_frame(server, first=first, second=second):
        with WebSocket(server.port) as ws:
            ws.send(whole_head + whole[:first])
            assert ws.silent(0.05), "what is good so far is refused"
            ws.send(whole[first:second])
            ws.expect_failure(1007)


def utf8(server, text):
    try:
        text.decode()
    except UnicodeDecodeError:
        refused(server, frame(TEXT, text), codes=(1007,))
    else:
        exchange(server, frame(TEXT, text), (TEXT, text))


def sequences(*texts):
    return [bytes.fromhex(t) for t in texts]


# After Markus Kuhn's UTF-8 stress test, as the suite's groups are. Python's own decoder says which of them are UTF-8.
cut = sequences("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
nonchars = [chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)]
each("6.5", [b"hello" + chr(c).encode() + b"world" for c in (0x24, 0xA2, 0x20AC, 0x24B62)] + [greek])(utf8)
each("6.6", [greek[:n] for n in range(1, 12)])(utf8)
each("6.7", [chr(c).encode() for c in (0, 0x80, 0x800, 0x10000)])(utf8)
each("6.8", sequences("f888808080", "fc8480808080"))(utf8)
each("6.9", [chr(c).encode() for c in (0x7F, 0x7FF, 0xFFFF, 0x10FFFF)])(utf8)
each("6.10", sequences("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"))(utf8)
each("6.11", sequences("ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"))(utf8)
each("6.12", sequences("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf") + [bytes(range(0x80, 0xC0))])(utf8)
each("6.13", [b"".join(b"%c " % c for c in range(a, b + 1)) for a, b in
              ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))])(utf8)
each("6.14", cut)(utf8)
each("6.15", [b"".join(cut)])(utf8)
each("6.16", sequences("fe", "ff", "fefeffff"))(utf8)
each("6.17", sequences("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"))(utf8)
each("6.18", sequences("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"))(utf8)
each("6.19", sequences("c080", "e08080", "f0808080", "f880808080", "fc8080808080"))(utf8)
each("6.20", sequences("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"))(utf8)
each("6.21", [a + b for a in sequences("eda080", "edadbf", "edae80", "edafbf") for b in sequences("edb080", "edbfbf")])(utf8)
each("6.22", [c.encode() for c in nonchars])(utf8)
each("6.23", [chr(c).encode() for c in range(0xFFF9, 0x10000)])(utf8)


# ---- 7: closing ------------------------------------------------------------------------------------------------------

@case("7.1.1")
def message_then_close(server):
    with WebSocket(server.port) as ws:
        ws.send(hello + frame(CLOSE, close_payload(1000)))
        ws.expect(echoed, (CLOSE, close_payload(1000)))
        assert ws.at_end()


for number, after in (("7.1.2", frame(CLOSE)), ("7.1.3", frame(PING)), ("7.1.4", hello)):
    @case(number)
    def nothing_after_a_close(server, after=after):
        with WebSocket(server.port) as ws:
            ws.send(frame(CLOSE, close_payload(1000)) + after)
            ws.expect((CLOSE, close_payload(1000)))
            assert ws.at_end()


@case("7.1.5")
def close_within_a_message(server):
    with WebSocket(server.port) as ws:
        ws.send(one + frame(CLOSE, close_payload(1000)) + two)
        ws.expect((CLOSE, close_payload(1000)))
        assert ws.at_end()


@case("7.1.6")
def large_message_then_close(server):
    large = b"BAsd7&jh23" * 26215
    with WebSocket(server.port) as ws:
        ws.send(frame(TEXT, large) + hello + frame(CLOSE, close_payload(1000)) + frame(PING))
        ws.expect((TEXT, large), echoed, (CLOSE, close_payload(1000)))
        assert ws.at_end()


def closes(server, payload):
    with WebSocket(server.port) as ws:
        ws.close(payload)


case("7.3.1")(lambda server: closes(server, b""))
case("7.3.2")(lambda server: refused(server, frame(CLOSE, b"\x03")))
case("7.3.3")(lambda server: closes(server, close_payload(1000)))
case("7.3.4")(lambda server: closes(server, close_payload(1000, b"Hello")))
case("7.3.5")(lambda server: closes(server, close_payload(1000, b"*" * 123)))
case("7.3.6")(lambda server: refused(server, frame(CLOSE, close_payload(1000, b"*" * 124))))
case("7.5.1")(lambda server: refused(server, frame(CLOSE, close_payload(1000, bad)), codes=(1007,)))


@each("7.7", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def good_close_code(server, code):
    closes(server, close_payload(code))


def bad_close_code(server, code):
    refused(server, frame(CLOSE, close_payload(code)))


each("7.9", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999])(bad_close_code)
each("7.13", [5000, 65535])(bad_close_code)


# ---- 9: large and many -----------------------------------------------------------------------------------------------

KIB, MIB = 1 << 10, 1 << 20


def large_echo(server, opcode, size, fragment=0, chop=None):
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    exchange(server, message(opcode, payload, fragment), (opcode, payload), chop=chop)


for one_or_two, opcode in ((1, TEXT), (2, BINARY)):
    each(f"9.{one_or_two}", [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB])(
        lambda server, size, op=opcode: large_echo(server, op, size))
    each(f"9.{one_or_two + 2}", [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB])(
        lambda server, fragment, op=opcode: large_echo(server, op, 4 * MIB, fragment))
    each(f"9.{one_or_two + 4}", [64, 128, 256, 512, 1024, 2048])(
        lambda server, chop, op=opcode: large_echo(server, op, MIB, chop=chop))

    @each(f"9.{one_or_two + 6}", [0, 16, 64, 256, 1024, 4096])
    def round_trips(server, size, op=opcode):
        sent = frame(op, b"*" * size)
        with WebSocket(server.port) as ws:
            for _ in range(1000):
                ws.send(sent)
                ws.expect((op, b"*" * size))
            ws.close()


case("10.1.1")(lambda server: large_echo(server, TEXT, 65536, fragment=1300))


# ---- 12 and 13: compression ------------------------------------------------------------------------------------------

def material():
    """Stand-ins for the suite's files: JSON, a picture, prose, HTML, and what hardly compresses; (opcode, a megabyte)."""
    r = random.Random(7692)
    words = ["".join(r.choice("aeioubdfgklmnprstvw") for _ in range(r.randint(2, 9))) for _ in range(800)]

    def text(make):
        out = []
        while sum(map(len, out)) < 1 << 19:
            out.extend(make() for _ in range(1000))
        return "".join(out).encode()
    json = text(lambda: f'{{"id":{r.randint(1, 10**6)},"name":"{r.choice(words)}","tags":["{r.choice(words)}"],"score":{r.random():.4f}}},')
    prose = text(lambda: r.choice(words) + r.choice([" ", " ", " ", ", ", ". ", " äöü "]))
    html = text(lambda: f'<li class="{r.choice(words)}"><a href="/{r.choice(words)}">{r.choice(words)}</a></li>\n')
    picture = bytes((x * y >> 8 ^ r.randint(0, 7)) & 255 for y in range(512) for x in range(1024))
    return {1: (TEXT, json), 2: (BINARY, picture), 3: (BINARY, prose), 4: (TEXT, html), 5: (BINARY, r.randbytes(1 << 19))}


materials = {}

# (size, fragment) of the suite's eighteen cases a group; it sends 1,000 messages in each, here are as many as tell the same:
# a window of 32 KiB is filled and left in all but the smallest.
compressed_sizes = [(16 << i, 0) for i in (0, 2, 4, 6, 8, 9, 10, 11, 12, 13)]
compressed_sizes += [(n * KIB, 256) for n in (8, 16, 32, 64, 128)] + [(128 * KIB, f) for f in (1024, 4096, 32768)]


def compressed_echo(server, offer, what, size, fragment, check=None):
    if not materials:
        materials.update(material())
    opcode, source = materials[what]
    with WebSocket(server.port, extensions=offer) as ws:
        assert ws.extension, f"{offer} was answered without compression"
        if check:
            check(ws.extension.params)
        for i in range(max(4, min(60, 256 * KIB // size))):
            at = i * size % (len(source) - size)
            piece = source[at:at + size]
            if opcode == TEXT:
                piece = piece.decode(errors="ignore").encode()
            ws.send_message(opcode, piece, fragment)
            ws.expect((opcode, piece))
        # A few bytes that stand alone do not shrink, and then go as they are.
        assert ws.compressed or (size == 16 and "server_no_context_takeover" in ws.extension.params), "nothing came back compressed"
        ws.close()


for what in range(1, 6):
    each(f"12.{what}", compressed_sizes)(
        lambda server, v, what=what: compressed_echo(server, "permessage-deflate; client_no_context_takeover; client_max_window_bits", what, *v))


def demands(**wanted):
    """A check of the answer's parameters: what was demanded stands there, and of the rest at most what a client must take."""
    def check(params):
        for name, value in wanted.items():
            assert params.get(name) == value, f"{name} is {params.get(name)!r}, expected {value!r}"
    return check


hints = "; client_no_context_takeover; client_max_window_bits"
offers = [
    ("permessage-deflate" + hints, demands()),
    ("permessage-deflate; server_no_context_takeover" + hints, demands(server_no_context_takeover="")),
    ("permessage-deflate; server_max_window_bits=9" + hints, demands(server_max_window_bits="9")),
    ("permessage-deflate; server_max_window_bits=15" + hints, demands(server_max_window_bits="15")),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9" + hints,
     demands(server_no_context_takeover="", server_max_window_bits="9")),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=15" + hints,
     demands(server_no_context_takeover="", server_max_window_bits="15")),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9, permessage-deflate; server_no_context_takeover, "
     "permessage-deflate", demands(server_no_context_takeover="", server_max_window_bits="9")),
]
for i, (offer, check) in enumerate(offers, 1):
    each(f"13.{i}", compressed_sizes)(lambda server, v, offer=offer, check=check: compressed_echo(server, offer, 1, *v, check=check))


# ---- what the public suite leaves out --------------------------------------------------------------------------------

@case("own: an unmasked frame is refused")
def unmasked(server):
    refused(server, frame(TEXT, b"Hello", masked=False))


for size, length in ((5, 2), (5, 8), (300, 8)):
    @case(f"own: a length of {size} in {length} bytes is refused")
    def long_length(server, size=size, length=length):
        refused(server, frame(BINARY, b"*" * size, length_bytes=length))


@case("own: a length of 2^63 is refused at its head")
def giant_length(server):
    refused(server, struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + b"keys", codes=(1002,))


@case("own: a message over the limit is refused at its head")
def over_the_limit(server):
    refused(server, struct.pack("!BBQ", 0x82, 0xFF, (32 << 20) + 1) + b"keys", codes=(1009,))


@case("own: 32 MiB are echoed")
def at_the_limit(server):
    large_echo(server, BINARY, 32 << 20, fragment=1 << 20)


@case("own: a flood of empty fragments is refused")
def empty_fragments(server):
    refused(server, frame(TEXT, fin=False) + frame(0, fin=False) * 3000, codes=(1008,))


@case("own: a flood of pings is answered up to its last and holds no memory")
def ping_flood(server):
    before = server.memory()
    with WebSocket(server.port) as ws:
        count = 40000
        ws.send(b"".join(frame(PING, b"%125d" % i) for i in range(count)))
        last = -1
        while last < count - 1:  # some may be left out (RFC 6455, section 5.5.3), but in their order
            opcode, payload = ws.read_frame()
            assert opcode == PONG and int(payload) > last, f"{opcode} {payload!r} after {last}"
            last = int(payload)
        ws.close()
    assert server.memory() - before < 4096, "the server grew with the pings"


@case("own: a peer that reads nothing stops being read")
def deaf_peer(server):
    before = server.memory()
    with WebSocket(server.port) as ws:
        ws.socket.settimeout(1)
        sent = 0
        block = frame(BINARY, b"*" * 60000) * 16
        try:
            while sent < 256 << 20:
                sent += ws.socket.send(block)
        except TimeoutError:
            pass
        assert sent < 64 << 20, "everything was taken from a peer that takes nothing"
        assert server.memory() - before < 16 * 1024, "the server keeps what it cannot send"
    exchange(server, hello, echoed)  # and the others are served


@case("own: a handshake and its messages byte by byte")
def trickle(server):
    with Http(server.port) as s:
        request = (f"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
                   f"Sec-WebSocket-Key: {WebSocket.KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()
        s.send(request + hello + frame(PING, b"p"), chop=1)
        assert s.take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert s.take(7) == b"\x81\x05Hello" and s.take(3) == b"\x8a\x01p"


@case("own: frames that come with the handshake are served")
def early_frames(server):
    with Http(server.port) as s:
        s.send(f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {WebSocket.KEY}\r\n"
               f"Sec-WebSocket-Version: 13\r\n\r\n".encode() + hello)
        s.take_until(b"\r\n\r\n")
        assert s.take(7) == b"\x81\x05Hello"


def handshake(server, status, changes, method="GET", version="1.1"):
    """A handshake with some fields changed (None: absent; a list: several) is answered with a status, and not switched."""
    fields = {"Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": WebSocket.KEY, "Sec-WebSocket-Version": "13"}
    fields.update(changes)
    lines = [f"{method} / HTTP/{version}"]
    for name, value in fields.items():
        lines += [f"{name}: {v}" for v in (value if isinstance(value, list) else [value]) if v is not None]
    with Http(server.port) as s:
        s.send("\r\n".join(lines + ["", ""]).encode() + b"*" * int(changes.get("Content-Length", 0)))
        got, fields, _ = s.read_answer()
        assert got == status, f"answered {got}"
        return fields


wrong_handshakes = {
    "no key": (400, {"Sec-WebSocket-Key": None}),
    "two keys": (400, {"Sec-WebSocket-Key": [WebSocket.KEY, WebSocket.KEY]}),
    "a key of 15 bytes": (400, {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAA"}),
    "a key that is not base64": (400, {"Sec-WebSocket-Key": "!" * 24}),
    "no version": (400, {"Sec-WebSocket-Version": None}),
    "no Connection": (400, {"Connection": None}),
    "Connection without Upgrade": (400, {"Connection": "keep-alive"}),
    "a body": (400, {"Content-Length": "5"}),
    "two Host fields": (400, {"Host": ["a", "b"]}),
    "a malformed extension": (400, {"Sec-WebSocket-Extensions": "permessage-deflate; =8"}),
    "a subprotocol twice": (400, {"Sec-WebSocket-Protocol": "a, a"}),
    "a foreign page": (403, {"Origin": "https://elsewhere.example"}),
}
for name, (status, changes) in wrong_handshakes.items():
    case(f"own: a handshake with {name} is {status}")(lambda server, s=status, c=changes: handshake(server, s, c) and None)


@case("own: another version of WebSocket is 426 and told which one is spoken")
def other_version(server):
    fields = handshake(server, 426, {"Sec-WebSocket-Version": "8"})
    assert fields["sec-websocket-version"] == "13" and fields["upgrade"] == "websocket"


@case("own: a handshake by POST is 405")
def handshake_by_post(server):
    assert "GET" in handshake(server, 405, {}, method="POST")["allow"]


@case("own: an upgrade in HTTP/1.0 and one to another protocol are ignored")
def ignored_upgrades(server):
    handshake(server, 200, {}, version="1.0")
    handshake(server, 200, {"Upgrade": "h2c"})


@case("own: a bomb closes with 1009 and costs no more than the limit")
def bomb(server):
    before = server.memory()
    with WebSocket(server.port, extensions="permessage-deflate") as ws:
        payload = ws.extension.deflate(b"\0" * (256 << 20), level=9)
        ws.send(frame(BINARY, payload, rsv=4))
        ws.expect_failure(1009)
    grown = server.memory() - before
    assert grown < 96 * 1024, f"the server grew by {grown} KiB"  # the limit, and twice that as its buffer grows


@case("own: compressed data that is none, or breaks off, closes with 1007")
def corrupt(server):
    for payload in (b"\xff" * 20, b"\xaa\x55"):
        with WebSocket(server.port, extensions="permessage-deflate") as ws:
            ws.send(frame(BINARY, payload, rsv=4))
            ws.expect_failure(1007)


@case("own: compressed text fails at its first bad byte")
def compressed_bad_text(server):
    with WebSocket(server.port, extensions="permessage-deflate") as ws:
        ws.send(frame(TEXT, ws.extension.deflate(bad), fin=False, rsv=4))
        ws.expect_failure(1007)


@case("own: RSV1 on a continuation or a control frame is refused")
def misplaced_rsv1(server):
    for sent in (one + frame(0, b"x", rsv=4), frame(PING, rsv=4)):
        with WebSocket(server.port, extensions="permessage-deflate") as ws:
            ws.send(sent)
            ws.expect_failure(1002)


@case("own: uncompressed messages and control frames mix with compressed ones")
def mixed_compression(server):
    with WebSocket(server.port, extensions="permessage-deflate") as ws:
        for i in range(5):
            text = b"the same text again and again %d" % i
            body = ws.extension.deflate(text)
            ws.send(frame(TEXT, body[:9], fin=False, rsv=4) + frame(PING, b"p") + frame(0, body[9:]) + hello)
            ws.expect((PONG, b"p"), (TEXT, text), echoed)
        ws.close()


bad_offers = ["permessage-deflate; server_max_window_bits=7", "permessage-deflate; server_max_window_bits=16", "permessage-deflate; unknown",
              "permessage-deflate; server_no_context_takeover; server_no_context_takeover", "permessage-deflate; server_max_window_bits",
              "permessage-deflate; server_no_context_takeover=1", "permessage-deflate; client_max_window_bits=08", "x-webkit-deflate-frame",
              "permessage-deflate; server_max_window_bits=8"]
for offer in bad_offers:
    @case(f"own: the offer {offer!r} goes on without compression")
    def declined(server, offer=offer):
        with WebSocket(server.port, extensions=offer) as ws:
            assert ws.answer is None, f"answered {ws.answer}"
            ws.send(hello)
            ws.expect(echoed)
            ws.send(frame(TEXT, b"Hello", rsv=4))
            ws.expect_failure(1002)


@case("own: the second of two offers is taken when the first cannot be")
def second_offer(server):
    with WebSocket(server.port, extensions="permessage-deflate; unknown, permessage-deflate; server_max_window_bits=10") as ws:
        assert ws.extension.server_bits == 10
        ws.send_message(TEXT, b"a" * 5000)
        ws.expect((TEXT, b"a" * 5000))
        ws.close()


for bits in range(9, 16):
    @case(f"own: the server keeps to a window of 2^{bits} and takes the client's")
    def window(server, bits=bits):
        offer = f"permessage-deflate; server_max_window_bits={bits}; client_max_window_bits={bits}"
        compressed_echo(server, offer, 3, 65536, 0, demands(server_max_window_bits=str(bits)))
