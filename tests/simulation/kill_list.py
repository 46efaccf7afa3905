#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Plants one fault at a time into the library and shows that the simulation notices it.

A simulation that has never failed proves little. Each entry names a fault, the header, the text to replace and what to put
there; the header is patched beside the source tree, the simulation is compiled against it and must fail within its seeds.
An entry whose text is not there exactly once is an error: the list has to follow the code.

  kill_list.py --compiler g++ [--launcher ccache] --source DIR --build DIR [--seeds 1000] [--jobs N] [--only WORD]
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

FAN_OUT, CHANNEL_LOG, HUB, PERMISSIONS = "detail/hub/fan_out.hpp", "detail/hub/channel_log.hpp", "detail/hub/hub_impl.hpp", "detail/hub/expiry.hpp"
SSE = "transport/sse.hpp"
POLLS, STREAMS, CONNECTION = "detail/connection/polls.hpp", "detail/connection/streams.hpp", "detail/connection/connection.hpp"

FAULTS = [
    ("skip one message", FAN_OUT,
     "    how_->append(c->bytes, e);\n",
     "    if (e.content.offset % 23 == 0) return;\n    how_->append(c->bytes, e);\n"),
    ("repeat one message", FAN_OUT,
     "    how_->append(c->bytes, e);\n",
     "    how_->append(c->bytes, e);\n    if (e.content.offset % 23 == 0) how_->append(c->bytes, e);\n"),
    ("swap two messages", CHANNEL_LOG,
     "  for (const auto& m : messages) {\n    json.clear();",
     "  for (std::size_t i = 0; i < messages.size(); ++i) {\n    const auto& m = messages[i + 1 < messages.size() && i % 8 == 6 ? i + 1 : i % 8 == 7 ? i - 1 : i];\n    json.clear();"),
    ("drop the gap notice", CHANNEL_LOG,
     "      lost(*s, {false, next});\n", ""),
    ("drop the notice of a new epoch", FAN_OUT,
     "    lost(s, {g.epoch_changed, at(s).offset + 1});\n", ""),
    ("a gap up to the head hides what is retained", HUB,
     "        out.lost = {false, oldest};\n",
     "        out.lost = {false, oldest = head + 1};\n"),
    ("wake before the append", HUB,
     "    append_result r = storage_->append_now(",
     "  if (auto* log = find_log(what.channel, what.at.hash); log && log->open()) {\n"
     "    message early{log->head() + 1, d.at, d.from, d.type, d.data};\n    log->apply(log->epoch(), early);\n  }\n    append_result r = storage_->append_now("),
    ("flush before the publisher's answer", HUB,
     "      if (log) guarded([&] { much = log->apply(p.epoch, what.content); });\n",
     "      if (log) much = log->apply(p.epoch, what.content), log->flush();\n"),
    ("count as sent what a blocked reader did not take", FAN_OUT,
     "  flushing = std::exchange(work_->building, nullptr);\n",
     "  flushing = std::exchange(work_->building, nullptr);\n  work_->flushed = flushing->last();\n"),
    ("forget the rest of the half-sent frame", FAN_OUT,
     "      p.who->to().keep(*p.who, std::string_view(p.in->bytes).substr(p.done, rest));\n", ""),
    ("send the half-sent frame again", FAN_OUT,
     "    join_behind(s, {&s, std::move(in), offset, static_cast<std::uint32_t>(done)});",
     "    if (in && done) done = in->frame_begin(done - 1);\n    join_behind(s, {&s, std::move(in), offset, static_cast<std::uint32_t>(done)});"),
    ("drop a tail chunk before its slow readers have had it", FAN_OUT,
     "      if (p.in == oldest) release(p);\n",
     "      if (p.in == oldest) release(p), p.offset = oldest->last();\n"),
    ("mark live too early", CHANNEL_LOG,
     "    if (p.offset == work_->flushed) {\n",
     "    if (p.offset + 1 >= work_->flushed && p.offset <= work_->flushed) {\n"),
    ("lose what arrives while the start is being read", HUB,
     "  sub.begin(out.at.offset);\n  sub.in().prime(sub, r.messages);\n",
     "  sub.begin(r.messages.empty() ? std::max(out.at.offset, log.head()) : out.at.offset);\n  sub.in().prime(sub, r.messages);\n"),
    ("do not wake who waited for the storage", CHANNEL_LOG,
     "    if (s != goes_on) wake(*s);\n",
     "    if (s != goes_on && since % 5) wake(*s);\n"),
    ("do not wake who read ahead of the flush", FAN_OUT,
     "    if (std::exchange(work_->ahead, false)) wake_behind();\n", ""),
    ("take a message of an epoch that is over", CHANNEL_LOG,
     "      if (e.epoch == this->epoch()) {\n        apply(",
     "      if (e.epoch != \"\") {\n        e.epoch = this->epoch();\n        apply("),
    ("forget the keys that the hub keeps", HUB,
     "{ return k.name == name; })) {\n",
     "{ return k.name == name && k.at.offset % 3; })) {\n"),
    ("the cursor of a poll is behind its messages", POLLS,
     "    reached.push_back(lost ? offset : std::max(offset, s.offset()));\n",
     "    reached.push_back(lost ? offset : s.offset());\n"),
    ("a poll forgets what did not fit into the answer", POLLS,
     "      s.advance(end - at);\n",
     "      s.advance(chunk->bytes.size() - at);\n"),
    ("a permission ends later than it says", PERMISSIONS,
     "  if (rest <= 0) return s->end(",
     "  if (rest <= -1000) return s->end("),
    ("a renewal does not put off the end", PERMISSIONS,
     "  grant_ = std::move(g);\n", "  if (g.follow().contains(\"\")) return {};\n  grant_ = std::move(g);\n"),
    ("a poll tells what was read after its permission", POLLS,
     "    while (!full && !over) {\n", "    while (!full) {\n"),
    ("a channel that is taken away goes on", PERMISSIONS,
     "ensure_rare().revoked.emplace_back(channel);\n  unfollow(channel);\n",
     "ensure_rare().revoked.emplace_back(channel);\n"),
    ("who was not asked for life owes it", STREAMS,
     "if (owed && asked_for_life() && reading_ && now >= life_due(now)) {",
     "if (owed && reading_ && now >= last_read_.at(now) + 2 * beat) return end(errc::timeout, 4408, \"silent\");\n"
     "  if (owed && asked_for_life() && reading_ && now >= life_due(now)) {"),
    ("only room to write is progress", CONNECTION,
     "seen != work_->seen) {\n    busy().seen = seen;\n    last_write_ = moment(now);\n",
     "seen != work_->seen) {\n    busy().seen = seen;\n"),
    ("the id of a batch names old places", STREAMS,
     "stream_->tag(b.tags, position_text(reached));",
     "stream_->tag(b.tags, position_text());"),
    ("a gap that was not told is passed by the id of open", STREAMS,
     "told_cursor(&*e));", "told_cursor());"),
    ("a block's id stands before its data", SSE,
     "block.append(\"event: \").append(name).append(\"\\ndata: \").append(json);\n    if (!cursor.empty()) block.append(\"\\nid: \").append(cursor);\n",
     "block.append(\"event: \").append(name);\n    if (!cursor.empty()) block.append(\"\\nid: \").append(cursor);\n    block.append(\"\\ndata: \").append(json);\n"),
    ("the last message of a batch keeps its end before its id", STREAMS,
     "b.add(&s, false, bytes.first(bytes.size() - b.replaced));", "b.add(&s, false, bytes);"),
]


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--compiler", default="g++")
    args.add_argument("--launcher", default="")
    args.add_argument("--source", type=pathlib.Path, required=True)
    args.add_argument("--build", type=pathlib.Path, required=True)
    args.add_argument("--seeds", type=int, default=1000)
    args.add_argument("--jobs", type=int, default=os.cpu_count())
    args.add_argument("--only", default="", help="only faults with this in their name")
    args.add_argument("--most", type=int, default=0, help="only so many, spread over the list; 0: all")
    args = args.parse_args()

    def try_fault(fault):
        name, header, old, new = fault
        started = time.monotonic()
        text = (args.source / "include/hailwire" / header).read_text()
        if text.count(old) != 1:
            return name, False, f"its text stands {text.count(old)} times in {header}"
        place = args.build / re.sub(r"\W+", "_", name)
        patched = place / "hailwire" / header
        patched.parent.mkdir(parents=True, exist_ok=True)
        patched.write_text(text.replace(old, new))
        # Its directory comes first, so that this one header is found there and all others where they are.
        command = [args.compiler, "-std=c++20", "-O1", "-DASIO_STANDALONE", f"-I{place}", f"-I{args.source}/include",
                   str(args.source / "tests/simulation/simulation.cpp"), "-c", "-o", str(place / "simulation.o")]
        if args.launcher:
            command.insert(0, args.launcher)
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if built.returncode:
            return name, False, "it does not compile:\n" + built.stdout
        program = place / "simulation"
        subprocess.run([args.compiler, str(place / "simulation.o"), "-o", str(program), "-pthread"], check=True)
        compiled = time.monotonic()
        try:
            ran = subprocess.run([str(program), "--seeds", str(args.seeds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, errors="replace", timeout=180)
        except subprocess.TimeoutExpired:
            return name, True, "caught: it never ends"
        took = f" ({compiled - started:.0f} s to build, {time.monotonic() - compiled:.1f} s to catch)"
        if ran.returncode == 0:
            return name, False, f"not noticed in {args.seeds} seeds" + took
        lines = ran.stdout.splitlines() or ["no output"]
        said = lines[0] if ran.returncode == 1 else f"ended by signal {-ran.returncode}"
        return name, True, "caught: " + said[:160] + took

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
