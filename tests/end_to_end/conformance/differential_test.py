# SPDX-License-Identifier: BSL-1.0
"""Our parsers against others on generated and mutated input: `differential_test.py VERDICTS [seed [count]]`. WebSocket: wsproto,
websockets, npm's ws. HTTP: h11, Node. Where two verdicts differ, a row of the table in tests/README.md must explain it,
else the test fails. Where both take a request or a message, they must take the same bytes of it: that has no exceptions."""
import collections
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import h11  # noqa: E402
import websockets.connection  # noqa: E402
import websockets.extensions.permessage_deflate  # noqa: E402
import wsproto.extensions  # noqa: E402
import wsproto.frame_protocol  # noqa: E402
from peer import BINARY, CLOSE, PING, PONG, TEXT, frame, mask  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

def explained():
    """(peer, words) of the table in tests/README.md: the words are ours or, where we have no complaint, the peer's."""
    with open(os.path.join(HERE, "..", "..", "README.md")) as page:
        rows = page.read().split("## Where other parsers differ")[1].split("\n## ")[0]
    found = {(peer.strip(), word) for peers, words in re.findall(r"^\| ([a-z0-9, ]+) \| (`.*?`) \|", rows, re.M)
             for peer in peers.split(",") for word in re.findall("`(.*?)`", words)}
    assert len(found) > 30, "the table in tests/README.md cannot be read"
    return found


EXPLAINED = explained()


# ---- WebSocket -------------------------------------------------------------------------------------------------------

def websocket_case(r, compressed):
    """A client's stream: mostly right, with one thing or another wrong in most."""
    texts = ["", "a", "Hello", "κόσμε", "x" * 125, "y" * 126, "€" * 300, "\0\x7f", "😀"]
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    out = []
    for _ in range(r.randint(1, 4)):
        kind = r.choice(["text", "text", "binary", "ping", "pong", "close", "odd"])
        payload = r.choice(texts).encode() if kind != "binary" else r.randbytes(r.choice([0, 1, 125, 126, 500]))
        if r.random() < 0.15:
            at = r.randint(0, len(payload))
            payload = payload[:at] + r.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]) + payload[at:]
        opcode = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG, "close": CLOSE, "odd": r.randint(0, 15)}[kind]
        if kind == "close":
            code = r.choice([1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1100,
                             2999, 3000, 3999, 4000, 4999, 5000, 0, 999, 65535])
            payload = r.choice([b"", b"\x03", struct.pack("!H", code), struct.pack("!H", code) + payload[:123]])
        if kind in ("ping", "pong"):
            payload = payload[:125] if r.random() < 0.9 else payload
        rsv = 0
        if compressed and opcode in (TEXT, BINARY) and r.random() < 0.8:
            payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            rsv = 4
        if r.random() < 0.04:
            rsv = r.randint(0, 7)
        parts = [payload]
        if opcode in (TEXT, BINARY) and r.random() < 0.4:
            cuts = sorted(r.randint(0, len(payload)) for _ in range(r.randint(1, 3)))
            parts = [payload[a:b] for a, b in zip([0] + cuts, cuts + [len(payload)])]
        for i, part in enumerate(parts):
            fin = (i == len(parts) - 1) != (r.random() < 0.04)
            op = opcode if i == 0 or r.random() < 0.04 else 0
            longer = None
            if r.random() < 0.04:
                longer = 2 if len(part) < 126 and r.random() < 0.5 else 8
            out.append(frame(op, part, fin, rsv if i == 0 or r.random() < 0.04 else 0, r.randbytes(4), r.random() > 0.02, longer))
            if r.random() < 0.1:
                out.append(frame(PING, b"between", key=r.randbytes(4)))
    sent = bytearray(b"".join(out))
    if r.random() < 0.3:
        for _ in range(r.randint(1, 2)):
            at = r.randrange(len(sent) or 1)
            choice = r.random()
            if choice < 0.5 and sent:
                sent[at] ^= 1 << r.randint(0, 7)
            elif choice < 0.75:
                del sent[at:at + r.randint(1, 3)]
            else:
                sent[at:at] = r.randbytes(r.randint(1, 3))
    if r.random() < 0.1:
        del sent[r.randint(0, len(sent)):]
    return bytes(sent)


def odd_stream(sent):
    """What in a deflate stream throws the peers' inflaters for the messages behind it, and not ours: the empty string, mostly."""
    inflater, compressed, data = zlib.decompressobj(-15), False, b""
    while len(sent) >= 6 and sent[1] & 0x7F != 127:
        extended = sent[1] & 0x7F == 126
        size = struct.unpack("!H", sent[2:4])[0] if extended else sent[1] & 0x7F
        key, payload = sent[2 + 2 * extended:6 + 2 * extended], sent[6 + 2 * extended:6 + 2 * extended + size]
        if not sent[0] & 8:
            compressed = sent[0] & 0x40 if sent[0] & 15 else compressed
            data += mask(payload, key)
        if not sent[0] & 8 and sent[0] & 0x80:
            if compressed and not data:
                return "a compressed message of no bytes, not even the one of RFC 7692, section 7.2.3.6, leaves its inflater within a block"
            try:
                inflater.decompress(data + b"\x00\x00\xff\xff" if compressed else b"")
            except zlib.error:
                return ""
            if inflater.eof:
                return "a final block ends its inflater for good; RFC 7692, section 7.2.3.4 has messages with one"
            data = b""
        sent = sent[6 + 2 * extended + size:]
    return ""


NAMES = {0: None, 1: "text", 2: "binary", 9: "ping", 10: "pong"}


class Messages:
    """Frames of a library that hands out frames, joined to messages."""

    def __init__(self):
        self.events, self.name, self.parts = [], None, b""

    def add(self, opcode, payload, fin):
        if opcode >= 8:
            self.events.append([NAMES[opcode], payload.hex()])
            return
        self.name = NAMES[opcode] or self.name
        self.parts += payload
        if fin:
            if self.name == "text":
                self.parts.decode()
            self.events.append([self.name, self.parts.hex()])
            self.parts = b""


class MendedDeflate(wsproto.extensions.PerMessageDeflate):
    """wsproto 1.2 takes a control frame between the fragments of a compressed message for that message's end."""

    def frame_inbound_header(self, proto, opcode, rsv, length):
        self.before = self._inbound_compressed
        return super().frame_inbound_header(proto, opcode, rsv, length)

    def frame_inbound_complete(self, proto, fin):
        if self._inbound_is_compressible:
            return super().frame_inbound_complete(proto, fin)
        self._inbound_compressed = self.before


def by_wsproto(sent, compressed):
    from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed
    extensions = []
    if compressed:
        extension = MendedDeflate()
        extension.accept("permessage-deflate")
        extensions.append(extension)
    protocol = FrameProtocol(client=False, extensions=extensions)
    protocol.receive_bytes(sent)
    out, messages = {"end": "open", "why": ""}, []
    parts = []
    try:
        for f in protocol.received_frames():
            payload = f.payload
            if f.opcode is Opcode.CLOSE:
                code, reason = payload
                out["end"] = f"close {int(code)} {(reason or '').encode().hex()}"
                break
            if isinstance(payload, str):
                payload = payload.encode()
            if f.opcode in (Opcode.PING, Opcode.PONG):
                messages.append([NAMES[int(f.opcode)], bytes(payload).hex()])
                continue
            parts.append(bytes(payload))
            if f.frame_finished and f.message_finished:
                messages.append([NAMES[int(f.opcode)], b"".join(parts).hex()])
                parts = []
    except ParseFailed as e:
        out.update(end="failed", why="not UTF-8" if "codec" in str(e) else str(e))
    except Exception as e:  # the library's own stumbling is a verdict too
        out.update(end="failed", why=f"{type(e).__name__}")
    return {"events": messages, **out}


def by_websockets(sent, compressed):
    extensions = []
    if compressed:
        extensions.append(websockets.extensions.permessage_deflate.PerMessageDeflate(False, False, 15, 15))
    connection = websockets.connection.Connection(websockets.connection.Side.SERVER, state=websockets.connection.State.OPEN, max_size=1 << 20)
    connection.extensions = extensions
    connection.logger.disabled = True
    connection.receive_data(sent)
    messages, out = Messages(), {"end": "open", "why": ""}
    try:
        for f in connection.events_received():
            if f.opcode == CLOSE:
                out["end"] = f"close {connection.close_rcvd.code} {connection.close_rcvd.reason.encode().hex()}"
                break
            messages.add(int(f.opcode), bytes(f.data), f.fin)
        else:
            if connection.parser_exc:
                out.update(end="failed", why=f"{type(connection.parser_exc).__name__}: {connection.parser_exc}")
    except UnicodeDecodeError:
        out.update(end="failed", why="not UTF-8")  # it leaves that to its caller
    return {"events": messages.events, **out}


# ---- HTTP ------------------------------------------------------------------------------------------------------------

def http_case(r):
    body = r.choice([b"", b"hello", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
    lines = [r.choice([b"GET", b"POST", b"PUT", b"OPTIONS", b"HEAD"]) + b" " +
             r.choice([b"/", b"/live?channel=a&since=e.5", b"/%41", b"http://a/x", b"*", b"/a|b{c}", b"//"]) + b" HTTP/1." + r.choice([b"1", b"1", b"1", b"0"]),
             b"Host: " + r.choice([b"a", b"a:80", b"[::1]:8080", b"example.com"])]
    framing = r.choice(["none", "length", "chunked", "both"] if r.random() < 0.2 else ["none", "length", "chunked"])
    for name, value in ((b"Accept", b"*/*"), (b"X-Empty", b""), (b"Connection", b"keep-alive"), (b"Cookie", b"a=b; c=\"d\""), (b"X", b"\xe4\xff")):
        if r.random() < 0.3:
            lines.append(name + b": " + value)
    if framing in ("length", "both"):
        lines.append(b"Content-Length: %d" % len(body))
    if framing in ("chunked", "both"):
        lines.append(b"Transfer-Encoding: chunked")
        cut = r.randint(0, len(body))
        chunks = [body[:cut], body[cut:]]
        extension = r.choice([b"", b"", b"", b";a", b';a="b"', b"; a = b"])
        trailer = r.choice([b"", b"", b"X-Trailer: y\r\n"])
        sent = b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks if c) + b"0\r\n" + trailer + b"\r\n"
    else:
        sent = body if framing == "length" else b""
    hostile = [b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 05", b"Content-Length: 0x5", b"Content-Length:",
               b"Content-Length: 99999999999999999999", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked",
               b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked", b"Host: b", b"Host: a/b", b"Host:", b" folded",
               b"\tfolded", b": no name", b"no colon", b"X: \x00", b"X: \x7f", b"X: a\rb", b"X: a\nb", b"X[]: y", b"Expect: 100-continue", b"Expect: x"]
    for _ in range(r.choice([0, 0, 0, 1, 1, 2])):
        lines.insert(r.randint(1, len(lines)), r.choice(hostile))
    whole = bytearray(b"\r\n".join(lines) + b"\r\n\r\n" + sent)
    for _ in range(r.choice([0, 0, 1, 1, 2])):
        at = r.randrange(len(whole))
        choice = r.random()
        if choice < 0.35:
            whole[at:at] = r.choice([b" ", b"\t", b"\r", b"\n", b"\0", b":", b"\x0b", b"\xff", b"0", b"/", b"\r\n", b"#", b"\"", b",", b";"])
        elif choice < 0.6:
            del whole[at]
        elif choice < 0.8:
            whole[at] = r.randrange(256)
        else:
            breaks = [i for i in range(len(whole) - 1) if whole[i:i + 2] == b"\r\n"]
            at = r.choice(breaks) if breaks else 0
            whole[at:at + 2] = r.choice([b"\n", b"\r", b"\n\r", b"\r\r\n"])
    return bytes(whole)


def by_h11(sent):
    connection = h11.Connection(h11.SERVER)
    out = {"end": "open", "why": ""}
    body = b""
    try:
        connection.receive_data(sent)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                out.update(method=event.method.hex(), target=event.target.hex(), minor=int(event.http_version != b"1.0"),
                           headers=[[name.hex(), value.hex()] for name, value in event.headers.raw_items()])
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                out.update(end="whole", body=body.hex(), left=len(connection.trailing_data[0]))
                break
            else:
                break
    except h11.RemoteProtocolError as e:
        out.update(end="failed", why=str(e).split(":")[0])
    return out


# ---- comparing -------------------------------------------------------------------------------------------------------

def verdicts(program, cases, kind):
    stdin = b"".join(kind + struct.pack("!I", len(c)) + c for c in cases)
    done = subprocess.run(program, input=stdin, stdout=subprocess.PIPE, timeout=120)
    if done.returncode == 77:
        return None
    assert done.returncode == 0, f"{program} ended with {done.returncode}"
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(cases), f"{len(lines)} verdicts for {len(cases)} cases"
    return [json.loads(line) for line in lines]


def same_request(a, b):
    fields = [[bytes.fromhex(n).lower(), bytes.fromhex(v)] for n, v in a["headers"]] == [[bytes.fromhex(n).lower(), bytes.fromhex(v)] for n, v in b["headers"]]
    return fields and all(a[k] == b[k] for k in ("method", "target", "minor", "body")) and a.get("left", 0) == b.get("left", a.get("left", 0))


def websocket_difference(a, b):
    """None when two verdicts agree. Else what explains it must fit."""
    shorter, longer = sorted((a["events"], b["events"]), key=len)
    if longer[:len(shorter)] != shorter:
        return "different messages"
    if a["end"] == b["end"] and len(shorter) == len(longer):
        return None
    return a["why"] or b["why"] or f"{a['end']} / {b['end']}"


def http_difference(a, b):
    if a["end"] == "whole" and b["end"] == "whole":
        return None if same_request(a, b) else "different requests"
    if a["end"] == b["end"]:
        return None
    return (a["why"] or b["why"] or f"{a['end']} / {b['end']}").replace("`", "'")  # the table's words stand between such marks


def compare(peer, cases, mine, ask, ask_us, difference, tally, failures):
    """Holds one peer's verdicts against ours. We fail at the first bad byte, a peer may wait for the rest of the line or the
    frame, or for less than we do: whoever waits gets a rest, and must then fail too."""
    theirs = ask(cases)
    if theirs is None:
        return
    rests = [b"\n\r\n\r\n"] if difference is http_difference else [bytes(1 << 16), bytes(2 << 20)]

    def fails_later(asked, some):
        found = set()
        for rest in rests:
            if some := [i for i in some if i not in found]:
                found |= {i for i, v in zip(some, asked([cases[i] + rest for i in some])) if v["end"] == "failed"}
        return found
    pairs = list(enumerate(zip(mine, theirs)))
    late = fails_later(ask, [i for i, (a, b) in pairs if a["end"] == "failed" and b["end"] == "open"])
    late |= fails_later(ask_us, [i for i, (a, b) in pairs if a["end"] == "open" and b["end"] == "failed"])
    for i, (a, b) in pairs:
        why = difference(a, b)
        if why is None:
            continue
        if i in late and why not in ("different messages", "different requests"):
            tally[peer, "one waits for the rest of a line or frame, and then fails too"] += 1
        elif difference is websocket_difference and (odd := odd_stream(cases[i])):
            tally[peer, odd] += 1
        elif (peer, why) in EXPLAINED:
            tally[peer, why] += 1
        else:
            failures.append((peer, why, cases[i], a, b))


def main():
    program = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 2616
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 8000
    r = random.Random(seed)
    node = shutil.which("node")
    node = [node, os.path.join(HERE, "differential_peer.mjs")] if node else None
    tally, failures, ends = collections.Counter(), [], collections.Counter()

    for kind, compressed in ((b"w", False), (b"d", True)):
        cases = [websocket_case(r, compressed) for _ in range(count)]
        mine = verdicts([program], cases, kind)
        ends.update(m["end"].split()[0] for m in mine)
        for peer, ask in (("wsproto", lambda some: [by_wsproto(c, compressed) for c in some]),
                          ("websockets", lambda some: [by_websockets(c, compressed) for c in some]),
                          ("ws", lambda some: node and verdicts(node, some, kind))):
            compare(peer, cases, mine, ask, lambda some: verdicts([program], some, kind), websocket_difference, tally, failures)

    cases = [http_case(r) for _ in range(count)]
    mine = verdicts([program], cases, b"h")
    ends.update("http " + m["end"] for m in mine)
    for peer, ask in (("h11", lambda some: [by_h11(c) for c in some]), ("node", lambda some: node and verdicts(node, some, b"h"))):
        compare(peer, cases, mine, ask, lambda some: verdicts([program], some, b"h"), http_difference, tally, failures)

    print(f"seed {seed}, {3 * count} cases: {dict(ends)}{'' if node else '; no Node here'}")
    for (peer, why), n in sorted(tally.items()):
        print(f"  {n:6} {peer}: {why}")
    by_reason = collections.defaultdict(list)
    for f in failures:
        by_reason[f[0], f[1]].append(f)
    for (peer, why), some in sorted(by_reason.items()):
        print(f"UNEXPLAINED {len(some)} {peer}: {why}")
        for _, _, sent, a, b in sorted(some, key=lambda f: len(f[2]))[:1]:
            print(f"    {sent!r}\n    ours   {a}\n    theirs {b}")
    return 1 if failures else 0


sys.exit(main())
