#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Plants one fault at a time into the library and shows that a unit test notices it; simulation/kill_list.py does so for the
simulation. Here are faults that only show at a boundary: a limit off by one, a ring that begins elsewhere, a sum that is not
taken back.

Each entry names a fault, the header, the text to replace and what to put there, and the test file that must fail. The header is
patched beside the source tree. An entry whose text is not there exactly once is an error: the list has to follow the code.

  kill_list.py --compiler g++ [--launcher ccache] [--define CATCH] --main catch_main.o --source DIR --build DIR [--only WORD] [--most N]
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

MEMORY, CONNECTION, STREAMS = "storage/memory.hpp", "detail/connection/connection.hpp", "detail/connection/streams.hpp"
MEMORY_TEST, KEYS_TEST, LIMITS_TEST = "storage/memory_model_test.cpp", "storage/memory_test.cpp", "detail/connection/limits_test.cpp"

FAULTS = [
    ("the ring is resized as if it began at place 0", MEMORY, MEMORY_TEST,
     "        ::new (static_cast<void*>(moved + i)) entry(std::move(slot(i)));\n",
     "        ::new (static_cast<void*>(moved + i)) entry(std::move(capacity == 1 ? only : ring[i]));\n"),
    ("a resized ring goes on where the old one began", MEMORY, MEMORY_TEST,
     "      capacity = room;\n      first = 0;\n", "      capacity = room;\n      first %= room;\n"),
    ("the bytes of the last message that is dropped are not subtracted", MEMORY, MEMORY_TEST,
     "      bytes -= slot(0).data.bytes().size();\n", "      if (size > 1) bytes -= slot(0).data.bytes().size();\n"),
    ("the limit on bytes is one less", MEMORY, MEMORY_TEST, "bytes > most_bytes", "bytes >= most_bytes"),
    ("the limit on bytes is one more", MEMORY, MEMORY_TEST, "bytes > most_bytes", "bytes > most_bytes + 1"),
    ("a message at its age is dropped", MEMORY, MEMORY_TEST, "slot(0).at < time)", "slot(0).at <= time)"),
    ("a read's bytes are one less", MEMORY, MEMORY_TEST, "bytes > limit.bytes && fit", "bytes >= limit.bytes && fit"),
    ("a key is forgotten at its lifetime", MEMORY, KEYS_TEST, "now - s.oldest_key->at > lifetime", "now - s.oldest_key->at >= lifetime"),
    ("one key more than allowed", MEMORY, KEYS_TEST, "l->keys >= options_.keys", "l->keys > options_.keys"),
    ("each byte of a head renews its time", CONNECTION, LIMITS_TEST,
     "      if (!asked() || asked()->in_.empty()) since_ = last_read_;\n", "      since_ = last_read_;\n"),
    ("a head has its time from where the connection was idle", CONNECTION, LIMITS_TEST,
     "      if (!asked() || asked()->in_.empty()) since_ = last_read_;\n", ""),
    ("each byte of a body renews its time", CONNECTION, LIMITS_TEST,
     "      if (phase_ == phase::body) process();\n      break;\n",
     "      if (phase_ == phase::body) since_ = last_read_, process(), schedule();\n      break;\n"),
    ("silence is counted while reading is paused", CONNECTION, LIMITS_TEST,
     "  if (reads && !reading_) last_read_ = moment(server().now());", "  if (reads && !reading_ && phase_ != phase::stream) last_read_ = moment(server().now());"),
    ("a notice passes max_unsent by one object", STREAMS, LIMITS_TEST,
     "unsent() + object.size() > server().settings.max_unsent", "unsent() > server().settings.max_unsent"),
    ("a notice passes max_unsent by one byte", STREAMS, LIMITS_TEST,
     "unsent() + object.size() > server().settings.max_unsent", "unsent() + object.size() > server().settings.max_unsent + 1"),
    ("a notice may not fill max_unsent", STREAMS, LIMITS_TEST,
     "unsent() + object.size() > server().settings.max_unsent", "unsent() + object.size() >= server().settings.max_unsent"),
    ("a poll's notices pass max_unsent by one comma", STREAMS, LIMITS_TEST,
     "asked()->notices_.size() + comma + object.size() >", "asked()->notices_.size() + object.size() >"),
    ("a raw client is told that it is overloaded", STREAMS, LIMITS_TEST,
     "    if (!adjustable()) return errc::not_implemented;\n", "    if (!adjustable()) return errc::overloaded;\n"),
    ("an address is counted before there is memory to remember it", "detail/connection/trusted_proxies.hpp", "out_of_memory/out_of_memory_test.cpp",
     "    std::unique_ptr<owner> who(new owner{{}, number, k});  // first: what is counted is always remembered\n"
     "    if (!table_->add(k, most)) return false;\n",
     "    if (!table_->add(k, most)) return false;\n    std::unique_ptr<owner> who(new owner{{}, number, k});\n"),
]


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--compiler", default="g++")
    args.add_argument("--launcher", default="")
    args.add_argument("--define", action="append", default=[], help="for the tests, such as HAILWIRE_CATCH2_3")
    args.add_argument("--library", action="append", default=[], help="to link with")
    args.add_argument("--main", type=pathlib.Path, required=True, help="the object of catch_main.cpp")
    args.add_argument("--source", type=pathlib.Path, required=True)
    args.add_argument("--build", type=pathlib.Path, required=True)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    args.add_argument("--only", default="", help="only faults with this in their name")
    args.add_argument("--most", type=int, default=0, help="only so many, spread over the list; 0: all")
    args = args.parse_args()

    def try_fault(fault):
        name, header, test, old, new = fault
        started = time.monotonic()
        text = (args.source / "include/hailwire" / header).read_text()
        if text.count(old) != 1:
            return name, False, f"its text stands {text.count(old)} times in {header}"
        place = args.build / re.sub(r"\W+", "_", name)
        patched = place / "hailwire" / header
        patched.parent.mkdir(parents=True, exist_ok=True)
        patched.write_text(text.replace(old, new))
        # Its directory comes first, so that this one header is found there and all others where they are.
        command = [args.compiler, "-std=c++20", "-O0", "-DASIO_STANDALONE", *[f"-D{d}" for d in args.define], f"-I{place}",
                   f"-I{args.source}/include", f"-I{args.source}/tests", str(args.source / "tests" / test), "-c", "-o", str(place / "test.o")]
        if args.launcher:
            command.insert(0, args.launcher)
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if built.returncode:
            return name, False, "it does not compile:\n" + built.stdout
        program = place / "test"
        subprocess.run([args.compiler, str(place / "test.o"), str(args.main), "-o", str(program), "-pthread", *args.library], check=True)
        compiled = time.monotonic()
        try:
            ran = subprocess.run([str(program), "--abort"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=120)
        except subprocess.TimeoutExpired:
            return name, True, "caught: it never ends"
        took = f" ({compiled - started:.0f} s to build, {time.monotonic() - compiled:.1f} s to catch)"
        if ran.returncode == 0:
            return name, False, f"not noticed by {test}" + took
        failed = re.search(r"^-+\n(.+)\n", ran.stdout, re.M)
        return name, True, f"caught: {failed[1] if failed else f'ended with {ran.returncode}'}" + took

    faults = [f for f in FAULTS if args.only in f[0]]
    if args.most:
        most = min(args.most, len(faults))
        faults = [faults[i * len(faults) // most] for i in range(most)]
    caught = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for name, fine, what in pool.map(try_fault, faults):
            caught += fine
            print(f"{'ok  ' if fine else 'FAIL'} {name}: {what}", flush=True)
    print(f"{caught} of {len(faults)} planted faults were caught")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
