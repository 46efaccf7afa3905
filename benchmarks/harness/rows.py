# SPDX-License-Identifier: BSL-1.0
"""The table: what is done in each row, who does it, and what hailwire has to reach.

A target is (against, ratio): `peer` is the best peer of that row, any other word the entry of that name. Figures are work
per server CPU-second where nothing else is said; in rows of bytes and of costs less is better, and a target is then an upper
bound on the ratio, or on the figure itself (`figure`)."""

from dataclasses import dataclass, field

OWN, EMBEDDED, PORTABLE = "hailwire (own)", "hailwire (embedded)", "hailwire (portable)"
UV, BOOST = "hailwire (uv)", "hailwire (boost)"  # in a libuv host; embedded in Boost.Asio


@dataclass
class Row:
    key: str
    title: str
    work: str                                     # the contender's method
    size: list = field(default_factory=list)      # further arguments for `load`
    targets: dict = field(default_factory=dict)   # entry -> [(against, ratio)]
    only: tuple = ()                              # contenders by name; empty: all that can do it
    extra: dict = field(default_factory=dict)     # entry -> (contender, work, arguments): more in the same run
    settle: float = 0.2
    options: tuple = ()                           # for the server
    tls: bool = False                             # the server gets a certificate
    cores: tuple = (0,)
    kind: str = "throughput"                      # throughput, latency, memory, compile


TLS = dict(tls=True, only=(OWN, EMBEDDED, PORTABLE, "Bun"))  # TLS 1.3, the same cipher suite for all


def load(connections, size, window=1):
    return ["--connections", connections, "--size", size, "--window", window]


def both(own, embedded=()):
    return {OWN: list(own), **({EMBEDDED: list(embedded)} if embedded else {})}


ECHO = both([("peer", 1.2)], [("peer", 0.95)])
FAN_OUT = both([("peer", 1.0), ("floor", 0.9)])
BATCHED = both([("peer", 1.15), ("floor, batched", 0.9)])

ROWS = [
    Row("echo_20", "echo, 1,000 connections, 20 B", "echo", load(1000, 20), ECHO),
    Row("echo_1k", "echo, 1,000 connections, 1 KiB", "echo", load(1000, 1024), ECHO),
    Row("echo_one", "echo, one connection, 20 B", "echo", load(1, 20), both([("peer", 1.1)], [("peer", 0.85)])),
    Row("fan_out_1", "fan-out 1,000 × 128 B, 1 in flight", "fan_out", load(1000, 128), FAN_OUT),
    Row("fan_out_10k", "fan-out 10,000 × 128 B, 1 in flight", "fan_out", load(10000, 128), FAN_OUT, settle=0.5),
    Row("fan_out_16", "fan-out 1,000 × 128 B, 16 in flight", "fan_out", load(1000, 128, 16), BATCHED),
    Row("fan_out_16_1k", "fan-out 1,000 × 1 KiB, 16 in flight", "fan_out", load(1000, 1024, 16), both([("peer", 1.15)])),
    Row("fan_out_16_16k", "fan-out 1,000 × 16 KiB, 16 in flight", "fan_out", load(1000, 16384, 16), both([("peer", 2.0)])),
    Row("envelope_16", "the same work with the envelope: 1,000 × 128 B, 16 in flight", "fan_out_enveloped", load(1000, 128, 16),
        extra={"raw (own)": (OWN, "fan_out", load(1000, 128, 16))}),
    Row("stalled", "the same with one reader that stands still", "fan_out", [*load(1000, 128, 16), "--stalled", 1],
        both([("without (own)", 0.95)]), only=(OWN, EMBEDDED, PORTABLE), extra={"without (own)": (OWN, "fan_out", load(1000, 128, 16))}),
    Row("hosts_echo", "the same server in other hosts: echo, 1,000 × 20 B", "echo", load(1000, 20),
        {UV: [(OWN, 0.95)], BOOST: [(EMBEDDED, 0.95)]}, only=(OWN, EMBEDDED, UV, BOOST)),
    Row("hosts_fan_out", "the same server in other hosts: fan-out 1,000 × 128 B, 16 in flight", "fan_out", load(1000, 128, 16),
        {UV: [(OWN, 0.95)], BOOST: [(EMBEDDED, 0.95)]}, only=(OWN, EMBEDDED, UV, BOOST)),
    Row("direct", "direct messages, 10,000 connections, 64 B", "direct", load(10000, 64, 1000),
        both([("peer", 1.0), ("floor", 0.85), ("echo (own)", 0.9)]), extra={"echo (own)": (OWN, "echo", load(1000, 20))}, settle=0.5),
    Row("sse_10k", "SSE fan-out 10,000 × 128 B", "sse", load(10000, 128), both([("peer", 1.4)]), settle=0.5),
    Row("poll_10k", "long poll, 10,000 waiting, 128 B", "long_poll", load(10000, 128), both([("peer", 1.35)]), settle=1.0),
    Row("short_poll", "short poll, nothing new, 100 connections", "short_poll", load(100, 20), both([("Bun", 1.5)])),
    Row("connect", "WebSocket handshakes, 50 at a time", "connect", load(50, 20), both([("Bun", 1.0)])),
    Row("echo_two_threads", "echo, 1,000 × 20 B, two threads on two cores", "echo", load(1000, 20),
        both([("one thread (own)", 0.9)]), only=(OWN,), options=("--threads", 2), cores=(0, 1),
        extra={"one thread (own)": (OWN, "echo", load(1000, 20))}),
    Row("echo_20_tls", "echo over TLS, 1,000 connections, 20 B", "echo_tls", load(1000, 20), both([("peer", 1.0)]), settle=0.5, **TLS),
    Row("echo_1k_tls", "echo over TLS, 1,000 connections, 1 KiB", "echo_tls", load(1000, 1024), both([("peer", 1.0)]), settle=0.5, **TLS),
    Row("fan_out_1_tls", "fan-out over TLS 1,000 × 128 B, 1 in flight", "fan_out_tls", load(1000, 128), both([("peer", 1.0)]), settle=0.5, **TLS),
    Row("fan_out_16_tls", "fan-out over TLS 1,000 × 128 B, 16 in flight", "fan_out_tls", load(1000, 128, 16), both([("peer", 1.0)]), settle=0.5, **TLS),
    Row("latency_echo", "echo, 1,000 connections, 20 B, 10,000 a second", "echo", [*load(1000, 20), "--rate", 10000], kind="latency"),
    Row("latency_fan_out", "fan-out 1,000 × 128 B, 20 publishes a second", "fan_out", [*load(1000, 128), "--rate", 20], kind="latency"),
    Row("bytes_websocket", "anonymous WebSocket on one shared channel", "idle", kind="memory", targets=both([("figure", 160)])),
    Row("bytes_websocket_tls", "the same over TLS 1.3", "idle_tls", kind="memory", targets=both([("figure", 560)]), **TLS),
    Row("bytes_websocket_tls_openssl", "the same, with the records kept by OpenSSL", "idle_tls", kind="memory", options=("--tls-records", "openssl"), tls=True,
        only=(OWN, EMBEDDED, PORTABLE)),
    Row("bytes_sse", "anonymous SSE on one shared channel", "idle_sse", kind="memory", targets=both([("figure", 160)])),
    Row("bytes_user", "a distinct user, own inbox and one shared channel", "idle_user", kind="memory", targets=both([("figure", 448)])),
    Row("bytes_channel", "a further channel of its own, never published to", "idle_channel", kind="memory", targets=both([("further", 150)])),
    Row("bytes_channel_message", "a further channel of its own with one message of 64 B", "idle_channel_with_message", kind="memory",
        targets=both([("further", 384)])),
    Row("bytes_stalled", "a reader that stands still while 1 KiB messages go by, kernel included", "fan_out",
        [*load(1000, 1024, 16), "--stalled", 50], kind="memory", targets=both([("figure", 256 * 1024)]), only=(OWN, EMBEDDED, PORTABLE, "Bun", "floor, batched")),
    Row("compile", "compiling the smallest WebSocket server, g++ -O2", "compile", kind="compile"),
]
