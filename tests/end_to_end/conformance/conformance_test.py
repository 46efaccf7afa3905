# SPDX-License-Identifier: BSL-1.0
"""Runs every case against a conformance server: `conformance_test.py SERVER [prefix of ids…]`. Fails when a case fails, when
a case of cases.txt has no test, and when the server crashes or leaks (under a sanitizer)."""
import os
import re
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import http_cases  # noqa: F401, E402: registers its cases
from peer import Server  # noqa: E402
from websocket_cases import cases  # noqa: E402


def manifest():
    ids = set()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.txt")) as lines:
        for line in map(str.strip, lines):
            span = re.fullmatch(r"([\d.]+\.)(\d+)-(\d+)", line)
            if span:
                ids |= {span[1] + str(i) for i in range(int(span[2]), int(span[3]) + 1)}
            elif line and not line.startswith("#"):
                ids.add(line)
    return ids


def main():
    program, *prefixes = sys.argv[1:]
    wanted = manifest()
    strangers = {name for name in cases if not name.startswith("own: ")} - wanted
    failures = [f"{name}: no test" for name in sorted(wanted - cases.keys())]
    failures += [f"{name}: not in cases.txt" for name in sorted(strangers)]
    chosen = [name for name in cases if not prefixes or any(name.startswith(p) for p in prefixes)]
    server = Server(program, "--port", "0")
    began, slowest = time.monotonic(), []
    for name in chosen:
        start = time.monotonic()
        try:
            cases[name](server)
        except Exception as e:
            failures.append(f"{name}: {e or type(e).__name__}")
            if prefixes:
                traceback.print_exc()
            if server.process.poll() is not None:
                failures.append(f"the server is gone, exit code {server.process.poll()}")
                break
        slowest.append((time.monotonic() - start, name))
    if server.process.poll() is None and (code := server.stop()) != 0:
        failures.append(f"the server ended with exit code {code}")
    print(f"{len(chosen)} cases, {len(wanted)} of public suites, {time.monotonic() - began:.1f} s; slowest:",
          ", ".join(f"{name} {seconds:.1f} s" for seconds, name in sorted(slowest)[:-4:-1]))
    for f in failures:
        print("FAILED", f)
    return 1 if failures else 0


sys.exit(main())
