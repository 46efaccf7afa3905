#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Plants one fault at a time into the library and shows that a unit test notices it; simulation/kill_list.py does so for the
simulation. Here are faults that only show at a boundary: a limit off by one, a ring that begins elsewhere, a sum that is not
taken back.

Each entry names a fault, the header, the test file that must fail, the text to replace and what to put there; planted_faults.py
does the rest.

  kill_list.py --compiler g++ [--launcher ccache] [--define CATCH] [--tls --library=-lssl --library=-lcrypto] --main catch_main.o --source DIR --build DIR [--sqlite] [--only WORD] [--most N]
"""
import pathlib
import re
import sys

import planted_faults

MEMORY, CONNECTION, STREAMS = "storage/memory.hpp", "detail/connection/connection.hpp", "detail/connection/streams.ipp"
FILE, LOG, LOCK, START_TEST = "detail/storage/sqlite_file.hpp", "detail/storage/sqlite_log.hpp", "detail/storage/sqlite_lock.hpp", "storage/sqlite_start_test.cpp"
COMMANDS, LIFE, OBJECTS = (f"detail/client/{name}.hpp" for name in ("commands", "machine_life", "machine_objects"))
COMMANDS_TEST, MACHINE_TEST = "detail/client/commands_test.cpp", "detail/client/machine_test.cpp"
MEMORY_TEST, KEYS_TEST, LIMITS_TEST = "storage/memory_model_test.cpp", "storage/memory_test.cpp", "detail/connection/limits_test.cpp"
WAKING, WAKING_TEST = "detail/hub/waking.ipp", "detail/hub/waking_test.cpp"
DELIVERY, DELIVERY_TEST = "detail/push/delivery.hpp", "detail/push/delivery_test.cpp"
DRAINING, DRAINING_TEST = "detail/connection/draining.ipp", "detail/connection/draining_test.cpp"
ADMISSION, ADMISSION_TEST = "detail/connection/admission.hpp", "detail/connection/admission_test.cpp"
CHANNEL_LOG, CHANNEL_ERASE, ERASE_TEST = "detail/hub/channel_log.hpp", "detail/hub/channel_erase.ipp", "detail/hub/erase_test.cpp"

FAULTS = [
    ("a notice counts as the first message of its chunk", "detail/hub/chunk.hpp", "detail/hub/chunk_test.cpp",
     "{ return live ? first_message() : marks.front().offset; }", "{ return marks.front().offset; }"),
    ("who was behind is not told what it missed", "detail/hub/fan_out.hpp", "detail/hub/fan_out_test.cpp",
     "    if (live) miss_behind(flushing.get());\n", ""),
    ("an ephemeral message comes back to its sender", "detail/hub/fan_out.hpp", "detail/hub/fan_out_test.cpp",
     "  if (live) set_senders_apart();\n", ""),
    ("something live-only overtakes its message", "detail/hub/channel_log.hpp", "detail/hub/fan_out_test.cpp",
     "(known && e.after <= head_)", "known"),
    ("a leave is not told", "detail/hub/presence.hpp", "detail/hub/presence_test.cpp",
     "  notice(name, \"leave\", json += '}');\n", ""),
    ("a state overtakes a leave", "detail/hub/presence.hpp", "detail/hub/presence_test.cpp",
     "  if (ch.number <= r.number) return;  // a state had it already\n", ""),
    ("a hole in a hub's changes is not seen", "detail/hub/presence.hpp", "detail/hub/presence_test.cpp",
     "if (r.synced && ch.before <= r.number) return apply(", "if (r.synced) return apply("),
    ("the members of a silent hub stay", "detail/hub/presence.hpp", "detail/hub/presence_test.cpp",
     "now - heard > hub_silence_ms", "now - heard > 100 * hub_silence_ms"),
    ("a hub that is cut off serves on", "detail/hub/all_nodes.hpp", "detail/hub/all_nodes_test.cpp", "  cut_ = true;\n  hub_->behind_ = true;\n", ""),
    ("a command is carried out twice", "detail/hub/all_nodes.hpp", "detail/hub/all_nodes_test.cpp",
     " || !done_.insert(number).second) return;", ") return;\n  done_.insert(number);"),
    ("a hole in the commands is not seen", "detail/hub/all_nodes.hpp", "detail/hub/all_nodes_test.cpp",
     "epoch == epoch_ && m.offset <= at_ + 1", "epoch == epoch_"),
    ("nobody notices that commands are gone", "detail/hub/all_nodes.hpp", "detail/hub/all_nodes_test.cpp", "      missed_some();\n", ""),
    ("what was passed over is not read", "detail/hub/all_nodes.hpp", "detail/hub/all_nodes_test.cpp", "      log->look_again();\n", ""),
    ("a read is told before it is received", "detail/hub/receipts.hpp", "detail/hub/receipts_test.cpp",
     "  m.levels.received = at.offset;\n", "  if (!read) m.levels.received = at.offset;\n"),
    ("a private read is told to others", "detail/hub/receipts.hpp", "detail/hub/receipts_test.cpp",
     "if (read && !hidden) m", "if (read) m"),
    ("a mark that waits is lost at the end", "detail/hub/receipts.hpp", "detail/hub/receipts_test.cpp",
     "    if (std::exchange(d.waits, false))\n", "    if (d.waits && d.next < 0)\n"),
    ("a poll answers each notice at once", "detail/connection/requests.ipp", "detail/connection/polls_test.cpp",
     "    patient_ = true;\n", "    patient_ = false;\n"),
    ("a flood from one address takes all the room for newcomers", ADMISSION, ADMISSION_TEST, "beyond ? kept_ : 0)", "0.0)"),
    ("an address has no share of its own", ADMISSION, ADMISSION_TEST,
     "from && addresses_[*from % addresses_.size()].take(owner_rate_, now) != 0;", "from.has_value();"),
    ("a bucket is emptied though something was to be left", "detail/base/token_bucket.hpp", ADMISSION_TEST,
     "r.room_ - std::min(r.cost(left), r.room_ - cost)", "r.room_"),
    ("the silent peer of a stream of the host's is not probed", "adopt_stream.hpp", "adopt_stream_test.cpp", "      keep_alive(g.settings.heartbeat);\n", ""),
    ("a publish is repeated at the end of its key's life", COMMANDS, COMMANDS_TEST, "now - c.first >= life_", "now - c.first > life_"),
    ("a key's life has nothing left for the way", COMMANDS, COMMANDS_TEST,
     "life_ = all - std::min<std::int64_t>(10'000, all / 10);", "life_ = all;"),
    ("a publish overtakes its predecessor", COMMANDS, COMMANDS_TEST, "unanswered(it->channel) >= window_", "unanswered(it->channel) > window_"),
    ("what is suspect goes with others", COMMANDS, COMMANDS_TEST, "if (careful && !sent_.empty()) return nullptr;", "(void)careful;"),
    ("a command is given up at its first misfortune", COMMANDS, COMMANDS_TEST,
     "if (!blamed.empty() && lost.size() == 1 && lost[0].suspect) {", "if (!blamed.empty() && lost.size() == 1) {"),
    ("one command more than may wait", COMMANDS, COMMANDS_TEST, "size() >= max_count_ ||", "size() > max_count_ ||"),
    ("the cursor moves before the application has the message", OBJECTS, MACHINE_TEST,
     "  if (on.message) on.message(m);\n", "  if (m.offset) at->offset = m.offset;\n  if (on.message) on.message(m);\n"),
    ("a message that comes twice is delivered twice", OBJECTS, MACHINE_TEST,
     "m.offset <= at->offset) return;", "m.offset + 1 <= at->offset) return;"),
    ("a least time has no randomness on top", LIFE, MACHINE_TEST, "std::max(least, retry_) + jitter", "std::max({least, retry_, jitter})"),
    ("a dead server is waited for", LIFE, MACHINE_TEST, "if (at - heard_ >= 2 * beat_) return lose(\"silent\");", "if (at - heard_ >= 200 * beat_) return lose(\"silent\");"),
    ("nobody climbs back", LIFE, MACHINE_TEST, "  level_ = 0;\n  renew_link();\n", "  renew_link();\n"),
    ("a device that is woken has received all of it", WAKING, WAKING_TEST, "own->levels.received >= r.offset;", "own->levels.received > r.offset;"),
    ("a device is woken that has received nothing less than all but one", WAKING, WAKING_TEST,
     "own->levels.received >= r.offset;", "own->levels.received + 1 >= r.offset;"),
    ("what one device has read another is woken for", WAKING, WAKING_TEST, "highest(member.marks, r.epoch).read >= r.offset", "false"),
    ("a device is woken twice at a time", WAKING, WAKING_TEST, "under_way_.count({t.user, t.device}) ||", ""),
    ("a device is woken for ever once", WAKING, WAKING_TEST,
     "  under_way_.erase({t.user, t.device});\n  ++(r.outcome", "  ++(r.outcome"),
    ("a live device is woken", WAKING, WAKING_TEST, "live_->has(t.user, t.device) || under_way_", "under_way_"),
    ("who has written something is woken for it", WAKING, WAKING_TEST, "if (!m.user.empty() && m.user == r->from) continue;", ""),
    ("a dead session wakes for a device that never said where it is", WAKING, WAKING_TEST, "const bool nothing = r.count == 0 && !own;", "const bool nothing = false;"),
    ("a token that has taken another's place is forgotten with it", WAKING, WAKING_TEST, "forget_token(t.user, t.device, t.token,", "forget_token(t.user, t.device, {},"),
    ("one channel more than may wait", WAKING, WAKING_TEST, "waits_.size() >= hub_->options_.max_pending", "waits_.size() > hub_->options_.max_pending"),
    ("a session without a sign of life has ended in order", "detail/connection/connection.ipp", WAKING_TEST, "why.close_code == 1006 || why.close_code == 4408", "why.close_code == 1006"),
    ("one notice more than may wait", DELIVERY, DELIVERY_TEST,
     "memory_order_relaxed) < limits_.max_waiting", "memory_order_relaxed) <= limits_.max_waiting"),
    ("one attempt more than may be made", DELIVERY, DELIVERY_TEST, "job.attempts >= limits_.max_attempts", "job.attempts > limits_.max_attempts"),
    ("what a service asks for is the whole wait", DELIVERY, DELIVERY_TEST, "std::int64_t{1'000'000}) * 1000 +", "std::int64_t{1'000'000}) * 1000 + 0 *"),
    ("a service that is away is given all that waits", DELIVERY, DELIVERY_TEST, "calm_.attempts() == 0 ? limits_.max_in_flight : 1", "limits_.max_in_flight"),
    ("what fails together waits once for each", DELIVERY, DELIVERY_TEST,
     "now >= held_until_ ? now + pause(calm_, retry_after) : now + retry_after * 1000", "now + pause(calm_, retry_after)"),
    ("attempts count while a service is away", DELIVERY, DELIVERY_TEST, "(v.next != wait && job.attempts", "(job.attempts"),
    ("a drain cuts off a command under way", DRAINING, DRAINING_TEST,
     "if (!at_once && (command_under_way_ || holds_input())) return farewell::owed;", "(void)at_once;"),
    ("all clients of a drain are closed at one moment", DRAINING, DRAINING_TEST, "!at_deadline && told_ >= due;", "!at_deadline && told_ > 1'000'000;"),
    ("who is sent away comes back while the server is still there", DRAINING, DRAINING_TEST,
     "std::max<std::int64_t>(closed_by_ - server_.now(), 0) + change_over", "std::int64_t{0}"),
    ("the ring is resized as if it began at place 0", MEMORY, MEMORY_TEST,
     "    ::new (static_cast<void*>(moved + i)) entry(std::move(slot(i)));\n",
     "    ::new (static_cast<void*>(moved + i)) entry(std::move(capacity == 1 ? only : ring[i]));\n"),
    ("a resized ring goes on where the old one began", MEMORY, MEMORY_TEST,
     "  capacity = room;\n  first = 0;\n", "  capacity = room;\n  first %= room;\n"),
    ("the bytes of the last message that is dropped are not subtracted", MEMORY, MEMORY_TEST,
     "  bytes -= slot(0).data.bytes().size();\n", "  if (size > 1) bytes -= slot(0).data.bytes().size();\n"),
    ("the limit on bytes is one less", MEMORY, MEMORY_TEST, "bytes > most_bytes", "bytes >= most_bytes"),
    ("the limit on bytes is one more", MEMORY, MEMORY_TEST, "bytes > most_bytes", "bytes > most_bytes + 1"),
    ("a message at its age is dropped", MEMORY, MEMORY_TEST, "slot(0).at < time)", "slot(0).at <= time)"),
    ("a read's bytes are one less", MEMORY, MEMORY_TEST, "bytes > limit.bytes && fit", "bytes >= limit.bytes && fit"),
    ("a key is forgotten at its lifetime", MEMORY, KEYS_TEST, "now - s.oldest_key->at > lifetime", "now - s.oldest_key->at >= lifetime"),
    ("one key more than allowed", MEMORY, KEYS_TEST, "l->keys >= options_.keys", "l->keys > options_.keys"),
    ("a message that is ahead keeps those behind it", MEMORY, KEYS_TEST,
     "if (size > 1 && std::min(slot(1).at, slot(size - 1).at) < time)", "if (size > 1 && slot(size - 1).at < time - 1'000'000'000)"),
    ("a clock that is set ends keys", MEMORY, KEYS_TEST, "d.key.empty() ? 0 : options_.steady();", "d.key.empty() ? 0 : options_.clock();"),
    ("a lost -wal is not noticed", FILE, START_TEST, "bool wal_lost = !clean && (!seen.wal || ", "bool wal_lost = !clean && (false && "),
    ("a -wal of another use counts as one", FILE, START_TEST, "(!seen.wal || another(meta.bytes(6), seen.wal_file))", "!seen.wal"),
    ("a copy is taken for the file", FILE, START_TEST, "bool copied = another(meta.bytes(5), seen.file);", "bool copied = false;"),
    ("a file that was written over is taken for itself", FILE, START_TEST, "bool written = clean && ", "bool written = false && "),
    ("what another program wrote is not noticed", FILE, START_TEST, " != other_writers_) epoch", " == -1) epoch"),
    ("a file is shared with another process", LOCK, START_TEST, "if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(", "if (::fstat("),
    ("another program takes the -wal along", FILE, START_TEST, "    inode_lock_.guard(place.path);\n", ""),
    ("a start that fails takes the -wal along", FILE, "storage/sqlite_fault_test.cpp", "      writer.keep_wal(wal);\n", "      writer.keep_wal(false);\n"),
    ("a start that fails leaves a file", FILE, START_TEST, "    if (!there) f.leftovers_ = sqlite_leftovers(place);\n", ""),
    ("a start waits for those who read", FILE, START_TEST, "    writer.checkpoint();\n",
     "    if (writer.integer(\"PRAGMA wal_checkpoint(FULL)\") != 0) throw sqlite_failure{SQLITE_BUSY};\n"),
    ("a read steps over a hole", LOG, START_TEST, "      if (offset != next && !r.messages.empty()) break;\n", ""),
    ("a read from within a hole is not told of it", LOG, START_TEST, "if (offset != next) r.oldest = next = offset;", "if (offset != next) next = offset;"),
    ("a read stops in a hole", LOG, START_TEST, "row_of(number, r.head), most);", "row_of(number, next + most - 1), most);"),
    ("a limit does not reach silent channels", LOG, START_TEST, "      if (over(load(sweep_", "      if (false && over(load(sweep_"),
    ("a message in a file that is ahead keeps those behind it", LOG, START_TEST, "if (cut == first && l.earliest < young && ", "if (false && "),
    ("keys are forgotten 256 at a time", LOG, START_TEST, "most = 2 * come + 256 + over;", "most = 256 + 0 * over;"),
    ("dead keys take room where the limit was lowered", LOG, START_TEST, "most = 2 * come + 256 + over;", "most = 2 * come + 256 + 0 * over;"),
    ("the time between two uses ends keys", LOG, START_TEST, "c.integer(\"SELECT max(at) FROM keys\")", "1'000'000'000"),
    ("each byte of a head renews its time", CONNECTION, LIMITS_TEST,
     "      if (!asked() || asked()->in_.empty()) since_ = last_read_;\n", "      since_ = last_read_;\n"),
    ("a head has its time from where the connection was idle", CONNECTION, LIMITS_TEST,
     "      if (!asked() || asked()->in_.empty()) since_ = last_read_;\n", ""),
    ("each byte of a body renews its time", CONNECTION, LIMITS_TEST,
     "      if (phase_ == phase::body) process();\n",
     "      if (phase_ == phase::body) since_ = last_read_, process(), schedule();\n"),
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
    ("an erased payload is served from the tail", CHANNEL_ERASE, ERASE_TEST, "    if (!tail[i]->holds(offset)) {\n", "    if (tail[i]) {\n"),
    ("an erased payload is served to who stands in its chunk", CHANNEL_ERASE, ERASE_TEST,
     "    if (p.in && p.in->holds(offset)) release(p);\n  auto& tail", "    if (p.in && false) release(p);\n  auto& tail"),
    ("an erased payload is served from the turn's chunk", CHANNEL_ERASE, ERASE_TEST, "!work_->building->holds(offset)) return false;", "offset > 0) return false;"),
    ("what goes before an erased message in its turn is lost", CHANNEL_ERASE, ERASE_TEST, "    at(s).offset = offset;\n  }\n  if (!work_) return;\n", "  }\n  if (!work_) return;\n"),
    ("a read that began before an erasure shows what it took away", CHANNEL_ERASE, ERASE_TEST,
     "  if (pins > 0) ensure_extra().erased.push_back(offset);\n", ""),
    ("an erasure while away is not heard of", "detail/hub/erase.ipp", ERASE_TEST, "    m.erases = op.at.offset;\n", ""),
    ("somebody takes back what is another's", "detail/connection/commands.ipp", ERASE_TEST,
     "    if (m.from != by.user()) return failure(errc::forbidden, \"the message is somebody else's\");\n", ""),
    ("a client without notices waits for ever behind an erased message", CHANNEL_LOG, ERASE_TEST,
     "p.let_go(std::max(p.offset, p.in->last()));", "p.let_go(p.offset);"),
    ("a mark falls", MEMORY, "storage/contract_test.cpp", "  detail::raise(own->second.levels, levels);\n", "  own->second.levels = levels;\n"),
    ("an address is counted before there is memory to remember it", "detail/connection/trusted_proxies.hpp", "out_of_memory/out_of_memory_test.cpp",
     "  while (whose_.size() <= number) whose_.push_back(nullptr);  // first: what is counted is always remembered\n  whose_[number] = table_->add(address_table::of(*e->address), most);\n",
     "  auto* of = table_->add(address_table::of(*e->address), most);\n  while (whose_.size() <= number) whose_.push_back(nullptr);\n  whose_[number] = of;\n"),
]

# Those of TLS, where it is built.
TLS, LAYER, RECORDS, CIPHER, TICKETS = "tls.hpp", *(f"detail/tls/{n}.hpp" for n in ("layer", "records", "cipher", "tickets"))
LAYER_TEST, RECORDS_TEST, TICKETS_TEST = (f"detail/tls/{n}_test.cpp" for n in ("layer", "records", "tickets"))
TLS_MEMORY_TEST = "out_of_memory/tls/tls_test.cpp"
TLS_FAULTS = [
    ("a revoked certificate is taken", TLS, TICKETS_TEST, "::X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1", "true"),
    ("a list of the revoked is not read", TLS, TICKETS_TEST, "!o.client_crl.empty() && !tls_revoke", "false && !tls_revoke"),
    ("a session has no end", TICKETS, TICKETS_TEST, "return now < static_cast<std::int64_t>(until) &&", "return"),
    ("resuming moves the end of a session", TICKETS, TICKETS_TEST, "::SSL_session_reused(ssl) &&", "false &&"),
    ("the end of a certificate in the middle of a chain ends no session", TICKETS, TICKETS_TEST,
     "i < sk_X509_num(chain); ++i)", "i < 1; ++i)"),
    ("TLS 1.2 resumes under another name", TICKETS, TICKETS_TEST, "mark.substr(8) == name", "true"),
    ("a ticket's key stays", TICKETS, TICKETS_TEST, "if (now_.made && t - *now_.made < period_) return true;", "if (now_.made) return true;"),
    ("the key before opens nothing", TICKETS, TICKETS_TEST, "for (const key* k : {&now_, &before_})", "for (const key* k : {&now_})"),
    ("unread bytes are left for a reset", LAYER, LAYER_TEST, "i < 8 && read_descriptor", "i < 0 && read_descriptor"),
    ("an alert that waits for room is followed by a reset", LAYER, LAYER_TEST, "    let_alert_pass(d);\n    return {io_result::status::failed",
     "    return {io_result::status::failed"),
    ("whoever is told of an end does not say farewell", LAYER, LAYER_TEST, "if (over_ != over::failed && mode_", "if (over_ == over::no && mode_"),
    ("what a failed call left leaves on the next connection", "detail/tls/shared.hpp", TLS_MEMORY_TEST, "    input = {};\n    out.clear();\n", "    input = {};\n"),
    ("a key that fails to derive begins again with its first number", RECORDS, TLS_MEMORY_TEST,
     "    if (!suite_->next(out, fresh) || !seal(", "    if (!suite_->next(out, fresh)) return out.sequence = 0, true;\n    if (!seal("),
    ("a shared context keeps the last key", CIPHER, TLS_MEMORY_TEST,
     "sealing_for_ = 0, ::EVP_CIPHER_CTX_reset(sealing_.get())", "sealing_for_ = 0"),
    ("two keys have one name", CIPHER, LAYER_TEST, "k.generation = ++generations_;", "k.generation = 1;"),
    ("an empty alert is a decode_error", RECORDS, LAYER_TEST, "        if (size == 0) return fail(unexpected_message, reply);  // section 5.4\n", ""),
    ("an alert may stand within a message", RECORDS, LAYER_TEST, "begun_ && type != handshake_type", "begun_ && type == application_data"),
    ("an agreed fragment length holds for what is sent alone", RECORDS, RECORDS_TEST, "if (size > most_) return fail", "if (false) return fail"),
    ("records without data count for ever", RECORDS, RECORDS_TEST, "std::min<std::uint32_t>(idle_, passed)", "std::min<std::uint32_t>(0, passed)"),
    ("KeyUpdates with data between them are not counted", RECORDS, RECORDS_TEST, "if (++updates_ > most_updates)", "if (false)"),
    ("a KeyUpdate before a farewell is not answered", RECORDS, RECORDS_TEST, "state_ != state::failed && !mute_", "state_ == state::open && !mute_"),
    ("a key seals one record more than it is good for", RECORDS, RECORDS_TEST, "out.sequence >= std::uint64_t{1} << 24", "out.sequence > std::uint64_t{1} << 24"),
]


def main():
    args = planted_faults.arguments()
    args.add_argument("--define", action="append", default=[], help="for the tests, such as HAILWIRE_CATCH2_3")
    args.add_argument("--library", action="append", default=[], help="to link with")
    args.add_argument("--sqlite", action="store_true", help="SQLite is there: try the faults of its storage too")
    args.add_argument("--tls", action="store_true", help="also those of TLS; needs OpenSSL's libraries")
    args.add_argument("--main", type=pathlib.Path, required=True, help="the object of catch_main.cpp")
    args = args.parse_args()
    faults = []
    for name, header, test, old, new in FAULTS + (TLS_FAULTS if args.tls else []):
        link = [str(args.main), *args.library]
        if "/sqlite_" in test:
            if not args.sqlite:
                continue
            link.append("-lsqlite3")
        faults.append(planted_faults.Fault(name, header, old, new, test, ("-O0", *(f"-D{d}" for d in args.define)), link, ("--abort",)))

    def said(code, text):
        failed = re.search(r"^-+\n(.+)\n", text, re.M)
        return failed[1] if failed else f"ended with {code}"

    return planted_faults.run(faults, args, 120, said)


if __name__ == "__main__":
    sys.exit(main())
