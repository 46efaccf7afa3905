# SPDX-License-Identifier: BSL-1.0
"""HTTP/1.1 over the wire (RFC 9110, RFC 9112): h1spec's cases by their names, the tricks of request smuggling, and what a
client may rely on. The server under test answers every request with its own body."""
from peer import Http
from websocket_cases import case

GOOD = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"


def answers(server, sent, *expected, chop=None, closes=False):
    """Sends bytes and expects answers (status, body), then the end of the stream or an open connection."""
    with Http(server.port) as s:
        s.send(sent, chop)
        for status, body in expected:
            got, _, text = s.read_answer(sent.split(b" ", 1)[0].decode("latin-1"))
            assert got == status, f"answered {got}, expected {status}"
            assert body is None or text == body, f"the body is {text[:80]!r}"
        if closes:
            assert s.at_end(), f"something comes behind: {bytes(s.buffer)!r}"
        else:
            s.send(GOOD)
            assert s.read_answer()[0] == 200


def refused(server, sent, status=400):
    """One answer with a problem in it, `Connection: close`, and nothing behind: not even a request that follows is read."""
    with Http(server.port) as s:
        s.send(sent + GOOD)
        got, fields, body = s.read_answer()
        assert got == status, f"answered {got}, expected {status}"
        assert fields.get("connection") == "close" and fields["content-type"] == "application/problem+json"
        assert body.startswith(b"{") and s.at_end(), f"something comes behind: {bytes(s.buffer)!r}"


# ---- h1spec ----------------------------------------------------------------------------------------------------------

fragments = {
    "method": "G", "URL 1": "GET ", "URL 2": "GET /hello", "URL 3": "GET /hello ", "HTTP version": "GET /hello HTTP",
    "request line": "GET /hello HTTP/1.1", "request line newline 1": "GET /hello HTTP/1.1\r", "request line newline 2": "GET /hello HTTP/1.1\r\n",
    "field name": "GET /hello HTTP/1.1\r\nHos", "field value 1": "GET /hello HTTP/1.1\r\nHost:", "field value 2": "GET /hello HTTP/1.1\r\nHost: ",
    "field value 3": "GET /hello HTTP/1.1\r\nHost: localhost", "field value 4": "GET /hello HTTP/1.1\r\nHost: localhost\r",
    "request": "GET /hello HTTP/1.1\r\nHost: localhost\r\n", "request termination": "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r",
}
complete = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
for name, part in fragments.items():
    @case(f"h1spec: Fragmented {name}")
    def waits(server, part=part):
        assert complete.startswith(part)
        with Http(server.port) as s:
            s.send(part.encode())
            assert s.silent(0.1), "answered before the request was whole"
            s.send(complete[len(part):].encode())
            assert s.read_answer()[0] == 200


def field(line, first="GET / HTTP/1.1\r\nHost: example.com\r\n"):
    return (first + line + "\r\n\r\n").encode("latin-1")


case("h1spec: Request without HTTP version")(lambda server: refused(server, b"GET / \r\n\r\n"))
case("h1spec: Request with Expect header")(lambda server: answers(server, field("Expect: 100-continue"), (200, b"")))
case("h1spec: Valid GET request")(lambda server: answers(server, field("Accept: */*"), (200, b"")))
case("h1spec: Valid GET request with edge cases")(lambda server: answers(server, b"GET / HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n", (200, b"")))
case("h1spec: Invalid header characters")(lambda server: refused(server, field("X-Invalid[]: test")))
case("h1spec: Missing Host header")(lambda server: refused(server, b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"))
case("h1spec: Multiple Host headers")(lambda server: refused(server, field("Host: example.org")))
case("h1spec: Overflowing negative Content-Length header")(lambda server: refused(server, field("Content-Length: -123456789123456789123456789")))
case("h1spec: Negative Content-Length header")(lambda server: refused(server, field("Content-Length: -1234")))
case("h1spec: Non-numeric Content-Length header")(lambda server: refused(server, field("Content-Length: abc")))
case("h1spec: Empty header value")(lambda server: answers(server, field("X-Empty-Header: "), (200, b"")))
case("h1spec: Header containing invalid control character")(lambda server: refused(server, field("X-Bad-Control-Char: test\x07")))
case("h1spec: Invalid HTTP version")(lambda server: refused(server, b"GET / HTTP/9.9\r\nHost: example.com\r\n\r\n", 505))
case("h1spec: Invalid prefix of request")(lambda server: refused(server, b"Extra lineGET / HTTP/1.1\r\nHost: example.com\r\n\r\n"))
case("h1spec: Invalid line ending")(lambda server: refused(server, b"GET / HTTP/1.1\r\nHost: example.com\r\n\rSome-Header: Test\r\n\r\n"))
case("h1spec: Valid POST request with body")(
    lambda server: answers(server, b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello", (200, b"hello")))
case("h1spec: Chunked Transfer-Encoding")(
    lambda server: answers(server, b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n6\r\n World\r\n0\r\n\r\n",
                           (200, b"Hello World")))


@case("h1spec: Conflicting Transfer-Encoding and Content-Length in varying case")
def conflicting(server):
    for te, cl in (("Transfer-Encoding", "Content-Length"), ("tRANSFER-eNCODING", "cONTENT-lENGTH")):
        for first, second in ((f"{te}: chunked", f"{cl}: 5"), (f"{cl}: 5", f"{te}: chunked")):
            refused(server, field(f"{first}\r\n{second}"))


# ---- tricks: each of these has made two servers disagree on where a request ends ----------------------------------------

post = "POST / HTTP/1.1\r\nHost: a\r\n"
tricks = {
    "two Content-Length fields": "Content-Length: 5\r\nContent-Length: 6",
    "two equal Content-Length fields": "Content-Length: 5\r\nContent-Length: 5",
    "a list of lengths": "Content-Length: 5, 5",
    "a plus sign": "Content-Length: +5",
    "a length in hexadecimal": "Content-Length: 0x5",
    "a length with an underscore": "Content-Length: 1_0",
    "a length with a space in it": "Content-Length: 1 0",
    "an empty length": "Content-Length:",
    "leading zeros": "Content-Length: 05",
    "a length of 65 bits": "Content-Length: 18446744073709551616",
    "a length that wraps to 5": "Content-Length: 18446744073709551621",
    "a length with a fraction": "Content-Length: 5.0",
    "a length in other digits": "Content-Length: \u00b2",
    "a space before the colon": "Content-Length : 5",
    "a tab before the colon": "Transfer-Encoding\t: chunked",
    "a field without a name": ": chunked",
    "a line without a colon": "Transfer-Encoding chunked",
    "a folded line": "Transfer-Encoding:\r\n chunked",
    "a folded line with a tab": "X: y\r\n\tTransfer-Encoding: chunked",
    "white space before the first name": " Transfer-Encoding: chunked",
    "a bare LF between fields": "X: y\nTransfer-Encoding: chunked",
    "a bare CR in a value": "X: y\rTransfer-Encoding: chunked",
    "a CR at the end of a value": "Transfer-Encoding: chunked\r",
    "a NUL in a value": "X: a\0b",
    "a NUL in a name": "X\0: a",
    "a vertical tab around chunked": "Transfer-Encoding: \x0bchunked",
    "a form feed around chunked": "Transfer-Encoding: chunked\x0c",
    "DEL in a value": "X: a\x7fb",
    "a name in quotes": '"Transfer-Encoding": chunked',
    "a name with a bracket": "Transfer-Encoding(: chunked",
    "chunked twice": "Transfer-Encoding: chunked, chunked",
    "chunked in two fields": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked before identity": "Transfer-Encoding: chunked, identity",
    "chunked and then something": "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "chunked with a parameter": "Transfer-Encoding: chunked;x=y",
    "chunked in quotes": 'Transfer-Encoding: "chunked"',
    "something like chunked": "Transfer-Encoding: xchunked",
    "identity alone": "Transfer-Encoding: identity",
    "an empty coding": "Transfer-Encoding:",
    "a comma alone": "Transfer-Encoding: ,",
    "a Host with a path": "Host: a/b",
}
for name, line in tricks.items():
    case(f"own: {name} is refused")(lambda server, line=line: refused(server, field(line, post)))

case("own: a coding that is not known, before chunked, is 501")(
    lambda server: refused(server, field("Transfer-Encoding: gzip, chunked", post), 501))
case("own: chunked in HTTP/1.0 is refused")(lambda server: refused(server, field("Transfer-Encoding: chunked", "POST / HTTP/1.0\r\nHost: a\r\n")))

bad_chunks = {
    "a size with a sign": "+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": "-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": "0x5\r\nhello\r\n0\r\n\r\n",
    "a size of 17 digits": "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size that overflows": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "an empty size": "\r\nhello\r\n0\r\n\r\n",
    "a space before the size": " 5\r\nhello\r\n0\r\n\r\n",
    "a space behind the size": "5 \r\nhello\r\n0\r\n\r\n",
    "a bare LF behind the size": "5\nhello\r\n0\r\n\r\n",
    "a bare CR behind the size": "5\rhello\r\n0\r\n\r\n",
    "a bare LF behind the data": "5\r\nhello\n0\r\n\r\n",
    "data longer than its size": "5\r\nhello!\r\n0\r\n\r\n",
    "data shorter than its size": "5\r\nhell\r\n0\r\n\r\n",
    "a bare LF in an extension": "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a quoted CR LF in an extension": '5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    "an extension without a name": "5;;\r\nhello\r\n0\r\n\r\n",
    "a bare LF at the end of the trailers": "5\r\nhello\r\n0\r\n\n",
    "a trailer with a space before its colon": "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "a trailer without a colon": "5\r\nhello\r\n0\r\nX\r\n\r\n",
    "a folded trailer": "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "a NUL in a trailer": "5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
}
for name, body in bad_chunks.items():
    case(f"own: a chunked body with {name} is refused")(
        lambda server, body=body: refused(server, field("Transfer-Encoding: chunked", post) + body.encode()))

bad_lines = {
    "two spaces": "GET  / HTTP/1.1", "a tab": "GET\t/ HTTP/1.1", "a space at its end": "GET / HTTP/1.1 ", "no target": "GET HTTP/1.1",
    "a space in the target": "GET /a b HTTP/1.1", "a small http": "GET / http/1.1", "a version of two digits": "GET / HTTP/1.10",
    "a version without a dot": "GET / HTTP/11", "a NUL": "GET /\0 HTTP/1.1", "a fragment": "GET /a#b HTTP/1.1", "raw UTF-8": "GET /ä HTTP/1.1",
    "a method that is no token": "G[T / HTTP/1.1", "a relative target": "GET a HTTP/1.1", "an asterisk for GET": "GET * HTTP/1.1",
    "an absolute target without host": "GET http:///x HTTP/1.1", "a user in the target": "GET http://u@a/x HTTP/1.1",
    "a scheme that is not HTTP": "GET ftp://a/x HTTP/1.1", "a bare LF before it": "\nGET / HTTP/1.1",
}
for name, line in bad_lines.items():
    case(f"own: a request line with {name} is refused")(lambda server, line=line: refused(server, f"{line}\r\nHost: a\r\n\r\n".encode()))

case("own: HTTP/2's preface is refused")(lambda server: refused(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505))
case("own: HTTP/0.9 is refused")(lambda server: refused(server, b"GET /\r\n"))
case("own: CONNECT is 501")(lambda server: refused(server, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501))
case("own: TLS on a plain port is refused at its first byte")(lambda server: refused(server, b"\x16\x03\x01\x02\x00"))
for name in ("", "a b", "a:b", "a:99999", "[::1", "[::g]", "u@a", "%zz"):
    case(f"own: the Host {name!r} is refused")(lambda server, name=name: refused(server, f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()))

# ---- limits ----------------------------------------------------------------------------------------------------------

case("own: a request line over 8 KiB is 431")(lambda server: refused(server, b"GET /" + b"a" * 8200, 431))
case("own: a header line over 8 KiB is 431")(lambda server: refused(server, field("X: " + "a" * 8200), 431))
case("own: a head over 16 KiB is 431")(lambda server: refused(server, field("\r\n".join(f"X{i}: {'a' * 1000}" for i in range(17))), 431))
case("own: 101 header lines are 431")(lambda server: refused(server, field("\r\n".join(f"X{i}: y" for i in range(101))), 431))
case("own: a body over the limit is 413 before it comes")(lambda server: refused(server, field("Content-Length: 99999999999", post), 413))
case("own: a chunk over the limit is 413 before it comes")(
    lambda server: refused(server, field("Transfer-Encoding: chunked", post) + b"FFFFFFFFFF\r\n", 413))
case("own: an expectation that is not known is 417")(lambda server: refused(server, field("Expect: tea\r\nContent-Length: 3", post), 417))


@case("own: 32 MiB come back, whole or in chunks")
def large_bodies(server):
    body = bytes(range(256)) * (1 << 17)
    answers(server, field(f"Content-Length: {len(body)}", post) + body, (200, body))
    chunks = b"".join(b"100000\r\n" + body[i:i + (1 << 20)] + b"\r\n" for i in range(0, len(body), 1 << 20))
    answers(server, field("Transfer-Encoding: chunked", post) + chunks + b"0\r\n\r\n", (200, body))


# ---- what a client may rely on ---------------------------------------------------------------------------------------

for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "X-OWN"):
    @case(f"own: {method} is answered")
    def any_method(server, method=method):
        sent = f"{method} /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".encode()
        with Http(server.port) as s:
            for _ in range(2):
                s.send(sent)
                status, fields, body = s.read_answer(method)
                assert status == 200 and fields["content-length"] == "3"
                assert body == (b"" if method == "HEAD" else b"abc")
                assert "date" in fields


@case("own: OPTIONS * is answered")
def asterisk(server):
    answers(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", (200, b"hi"))


@case("own: an absolute target is answered")
def absolute(server):
    answers(server, b"GET http://a:80/x?y HTTP/1.1\r\nHost: b\r\n\r\n", (200, b""))


@case("own: pipelined requests are answered in their order")
def pipelined(server):
    sent = b"".join(field(f"Content-Length: {len(str(i))}", post) + str(i).encode() for i in range(100))
    answers(server, sent, *[(200, str(i).encode()) for i in range(100)])
    answers(server, sent, *[(200, str(i).encode()) for i in range(100)], chop=7)


@case("own: a whole conversation byte by byte")
def bytewise(server):
    sent = field("Transfer-Encoding: chunked", post) + b'5;a="b"\r\nhello\r\n0\r\nX: y\r\n\r\n' + field("Content-Length: 2", post) + b"hi"
    answers(server, sent, (200, b"hello"), (200, b"hi"), chop=1)


@case("own: empty lines before a request are skipped, but not many")
def blank_lines(server):
    answers(server, b"\r\n\r\n" + GOOD, (200, b""))
    refused(server, b"\r\n" * 10)


@case("own: 100 Continue comes once the head is there, and not when the body already is")
def expect_continue(server):
    head = field("Expect: 100-continue\r\nContent-Length: 5", post)
    with Http(server.port) as s:
        s.send(head)
        assert s.read_answer()[0] == 100
        s.send(b"hello")
        assert s.read_answer()[::2] == (200, b"hello")
    answers(server, head + b"hello", (200, b"hello"))
    answers(server, head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello", (200, b"hello"), closes=True)


@case("own: the connection is kept or closed as the request says")
def keeping(server):
    for version, line, kept in (("1.1", "X: y", True), ("1.1", "Connection: close", False), ("1.1", "Connection: x, CLOSE", False),
                                ("1.0", "X: y", False), ("1.0", "Connection: keep-alive", True), ("1.2", "X: y", True)):
        with Http(server.port) as s:
            s.send(f"GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n\r\n".encode())
            status, fields, _ = s.read_answer()
            assert status == 200
            if kept:
                assert fields.get("connection") == ("keep-alive" if version == "1.0" else None)
                s.send(GOOD)
                assert s.read_answer()[0] == 200
            else:
                assert fields["connection"] == "close" and s.at_end()


@case("own: a client that closes its half first gets its answer")
def half_closed(server):
    with Http(server.port) as s:
        s.send(field("Content-Length: 5", post) + b"hello")
        s.socket.shutdown(1)
        assert s.read_answer()[::2] == (200, b"hello") and s.at_end()


@case("own: header fields may have bytes from 0x80 on, quotes and tabs")
def opaque_values(server):
    answers(server, field("X: a\tb \"c\" \xe4\xff"), (200, b""))
