#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Writes gnutls_records.hpp: TLS 1.3 records that GnuTLS has sealed, so that ours are held against an implementation that shares
no code with OpenSSL.

    gnutls_records.py > gnutls_records.hpp && clang-format-19 -i gnutls_records.hpp

A GnuTLS client and server (libgnutls.so.30, Debian package libgnutls30) talk in memory, once for each cipher suite. The secrets
are those of GnuTLS's key log; type, content and padding are what GnuTLS was told to send, and `sealed` is what it sent.
"""

import ctypes
import pathlib
import socket
import subprocess
import tempfile

gnutls = ctypes.CDLL("libgnutls.so.30")
SERVER, CLIENT, NONBLOCK, NO_TICKETS = 1, 2, 1 << 3, 1 << 10
AGAIN = -28
SUITES = {0x1301: "AES-128-GCM", 0x1302: "AES-256-GCM", 0x1303: "CHACHA20-POLY1305"}
keylog_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(ctypes.c_ubyte)), ("size", ctypes.c_uint)]


def check(code):
    if code < 0:
        gnutls.gnutls_strerror.restype = ctypes.c_char_p
        raise SystemExit(f"GnuTLS: {gnutls.gnutls_strerror(code).decode()}")
    return code


class Side:
    def __init__(self, role, credentials, suite, secrets):
        self.session = ctypes.c_void_p()
        check(gnutls.gnutls_init(ctypes.byref(self.session), role | NONBLOCK | NO_TICKETS))
        priority = f"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+{SUITES[suite]}:-GROUP-ALL:+GROUP-X25519"
        check(gnutls.gnutls_priority_set_direct(self.session, priority.encode(), None))
        check(gnutls.gnutls_credentials_set(self.session, 1, credentials))
        self.near, self.far = socket.socketpair()
        for s in (self.near, self.far):
            s.setblocking(False)
        gnutls.gnutls_transport_set_int2(self.session, self.far.fileno(), self.far.fileno())
        if role == CLIENT:
            self.note = keylog_type(lambda _, label, secret, __: self.keep(label, secret))
            self.secrets = secrets
            gnutls.gnutls_session_set_keylog_function(self.session, self.note)

    def keep(self, label, secret):
        d = Datum.from_address(secret) if isinstance(secret, int) else secret
        self.secrets[label.decode()] = bytes(d.data[: d.size])
        return 0

    def take(self):
        try:
            return self.near.recv(1 << 20)
        except BlockingIOError:
            return b""

    def shake(self):
        code = gnutls.gnutls_handshake(self.session)
        if code != AGAIN:
            check(code)
        return code == 0

    def send(self, content, padding):
        check(gnutls.gnutls_record_send2(self.session, content, ctypes.c_size_t(len(content)), ctypes.c_size_t(padding), 0))
        return self.take()

    def update(self):
        check(gnutls.gnutls_session_key_update(self.session, 0))
        return self.take()


def credentials(folder=None):
    made = ctypes.c_void_p()
    check(gnutls.gnutls_certificate_allocate_credentials(ctypes.byref(made)))
    if folder:
        check(gnutls.gnutls_certificate_set_x509_key_file(made, str(folder / "c.pem").encode(), str(folder / "k.pem").encode(), 1))
    return made


def records(data):
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        yield data[:size]
        data = data[size:]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=vectors", "-keyout", folder / "k.pem", "-out", folder / "c.pem"], check=True, capture_output=True)
        gnutls.gnutls_check_version.restype = ctypes.c_char_p
        version = gnutls.gnutls_check_version(None).decode()
        print(f"""// SPDX-License-Identifier: BSL-1.0
// Written by gnutls_records.py with GnuTLS {version}; not to be edited.
#pragma once

#include <cstdint>

namespace gnutls {{

struct record {{
  bool client;  ///< whose it is
  std::uint8_t type;
  const char* content;
  int padding;
  const char* sealed;
}};
/// A connection; each side's records in order.
struct connection {{
  std::uint16_t suite;
  const char *client_secret, *server_secret;
  record records[30];
}};

inline constexpr connection connections[] = {{""")
        for suite in SUITES:
            secrets = {}
            server = Side(SERVER, credentials(folder), suite, None)
            client = Side(CLIENT, credentials(), suite, secrets)
            done = [False, False]
            while not all(done):
                for i, (a, b) in enumerate(((client, server), (server, client))):
                    done[i] = done[i] or a.shake()
                    b.near.send(a.take())
            client.take(), server.take()
            print("{0x%04x," % suite)
            for label in ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
                print(f'"{secrets[label].hex()}",')
            print("{")
            for _ in range(3):
                for side, words in ((client, "true"), (server, "false")):
                    for content, padding in ((b"hello", 0), (b"x", 1), (bytes(range(256)), 100), (b"padded " * 3, 700)):
                        (record,) = records(side.send(content, padding))
                        print(f'{{{words}, 23, "{content.hex()}", {padding}, "{record.hex()}"}},')
                    (record,) = records(side.update())
                    print(f'{{{words}, 22, "1800000100", 0, "{record.hex()}"}},')
            print("}},")
        print("};\n\n}  // namespace gnutls")


main()
