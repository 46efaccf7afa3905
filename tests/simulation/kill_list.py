#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Plants one fault at a time into the library and shows that the simulation notices it.

A simulation that has never failed proves little. Each entry names a fault, the header, the text to replace and what to put
there; the simulation must fail within its seeds. ../planted_faults.py does the rest.

  kill_list.py --compiler g++ [--launcher ccache] --source DIR --build DIR [--seeds 1000] [--jobs N] [--only WORD]
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import planted_faults  # noqa: E402

FAN_OUT, CHANNEL_LOG, PERMISSIONS = "detail/hub/fan_out.hpp", "detail/hub/channel_log.hpp", "detail/hub/expiry.ipp"
PUBLISHER, SUBSCRIPTIONS = "detail/hub/publisher.ipp", "detail/hub/subscriptions.ipp"
SSE = "transport/sse.hpp"
CLIENT_COMMANDS, CLIENT_OBJECTS, CLIENT_PLACES = (f"detail/client/{name}.hpp" for name in ("commands", "machine_objects", "places"))
POLLS, STREAMS, CONNECTION = "detail/connection/polls.ipp", "detail/connection/streams.ipp", "detail/connection/connection.hpp"

FAULTS = [
    ("skip one message", FAN_OUT,
     "    how_->append(c->bytes, e);\n",
     "    if (e.content.offset % 23 == 0) return;\n    how_->append(c->bytes, e);\n"),
    ("repeat one message", FAN_OUT,
     "    how_->append(c->bytes, e);\n",
     "    how_->append(c->bytes, e);\n    if (e.content.offset % 23 == 0) how_->append(c->bytes, e);\n"),
    ("swap two messages", CHANNEL_LOG,
     "  for (const auto& m : log().as_erased(messages, changed)) {\n    json.clear();",
     "  const auto shown = log().as_erased(messages, changed);\n  for (std::size_t i = 0; i < shown.size(); ++i) {\n    const auto& m = shown[i + 1 < shown.size() && i % 8 == 6 ? i + 1 : i % 8 == 7 ? i - 1 : i];\n    json.clear();"),
    ("drop the gap notice", CHANNEL_LOG,
     "      if (!log().conflated()) lost(*s, {false, next});\n", ""),
    ("drop the notice of a new epoch", FAN_OUT,
     "    lost(s, {g.epoch_changed, at(s).offset + 1});\n", ""),
    ("a gap up to the head hides what is retained", SUBSCRIPTIONS,
     "        out.lost = {false, oldest};\n",
     "        out.lost = {false, oldest = head + 1};\n"),
    ("wake before the append", PUBLISHER,
     "    append_result r = hub_->storage_->append_now(",
     "  if (auto* log = hub_->channels.find(what.channel, what.at.hash); log && log->open()) {\n"
     "    message early{log->head() + 1, d.at, d.from, d.type, d.data};\n    log->apply(log->epoch(), early);\n  }\n    append_result r = hub_->storage_->append_now("),
    ("flush before the publisher's answer", PUBLISHER,
     "      if (log) hub_->guarded([&] { much = log->apply(p.epoch, what.content); });\n",
     "      if (log) much = log->apply(p.epoch, what.content), log->flush();\n"),
    ("count as sent what a blocked reader did not take", FAN_OUT,
     "  flushing = std::exchange(work_->building, nullptr);\n",
     "  flushing = std::exchange(work_->building, nullptr);\n  work_->flushed = flushing->last();\n"),
    ("forget the rest of the half-sent frame", FAN_OUT,
     "      p.who->to().keep(*p.who, std::string_view(p.in->bytes).substr(p.done, rest));\n", ""),
    ("send the half-sent frame again", FAN_OUT,
     "  join_behind(s, {&s, std::move(in), offset, static_cast<std::uint32_t>(done), in_sync});",
     "  if (in && done) done = in->frame_begin(done - 1);\n  join_behind(s, {&s, std::move(in), offset, static_cast<std::uint32_t>(done), in_sync});"),
    ("drop a tail chunk before its slow readers have had it", FAN_OUT,
     "      if (p.in == oldest) release(p);\n",
     "      if (p.in == oldest) release(p), p.offset = oldest->last();\n"),
    ("mark live too early", CHANNEL_LOG,
     "    if (p.offset == work_->flushed) {\n",
     "    if (p.offset + 1 >= work_->flushed && p.offset <= work_->flushed) {\n"),
    ("lose what arrives while the start is being read", SUBSCRIPTIONS,
     "  sub.begin(out.at.offset);\n  sub.in().prime(sub, r.messages);\n",
     "  sub.begin(r.messages.empty() ? std::max(out.at.offset, log.head()) : out.at.offset);\n  sub.in().prime(sub, r.messages);\n"),
    ("do not wake who waited for the storage", CHANNEL_LOG,
     "    if (s != goes_on) wake(*s);\n",
     "    if (s != goes_on && since % 5) wake(*s);\n"),
    ("do not wake who read ahead of the flush", FAN_OUT,
     "    if (std::exchange(work_->ahead, false)) wake_behind();\n", ""),
    ("take a message of an epoch that is over", CHANNEL_LOG,
     "    if (e.epoch == this->epoch()) {\n      apply(",
     "    if (e.epoch != \"\") {\n      e.epoch = this->epoch();\n      apply("),
    ("forget the keys that the hub keeps", "detail/hub/idempotency_keys.hpp",
     "{ return k.name == name; });\n",
     "{ return k.name == name && k.at.offset % 3; });\n"),
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
     "  const shared_grant before = std::exchange(grant_, std::move(g));\n",
     "  if (g.follow().contains(\"\")) return {};\n  const shared_grant before = std::exchange(grant_, std::move(g));\n"),
    ("a poll tells what was read after its permission", POLLS,
     "    while (!full && !over) {\n", "    while (!full) {\n"),
    ("a channel that is taken away goes on", PERMISSIONS,
     "ensure_rare().revoked.emplace_back(channel);\n  unfollow(channel);\n",
     "ensure_rare().revoked.emplace_back(channel);\n"),
    ("who was not asked for life owes it", STREAMS,
     "if (owed && asked_for_life() && on_.reading_ && now >= life_due(now)) {",
     "if (owed && on_.reading_ && now >= on_.last_read_.at(now) + 2 * beat) return on_.end(errc::timeout, 4408, \"silent\");\n"
     "  if (owed && asked_for_life() && on_.reading_ && now >= life_due(now)) {"),
    ("only room to write is progress", CONNECTION,
     "seen != work_->seen) {\n    busy().seen = seen;\n    last_write_ = moment(now);\n",
     "seen != work_->seen) {\n    busy().seen = seen;\n"),
    ("a new epoch begins with nothing that is kept", CHANNEL_LOG,
     "l.restart(oldest - 1, head, {true, oldest});", "l.restart(head, head, {true, head + 1});"),
    ("a cursor of another epoch goes on at the head", SUBSCRIPTIONS,
     "        out.lost = {true, oldest};\n", "        out.lost = {true, oldest = head + 1};\n"),
    ("what another program wrote is not read", CHANNEL_LOG,
     "  } else if (m.offset > head_ + 1) {\n", "  } else if (m.offset > head_ + 1'000'000) {\n"),
    ("the id of a batch names old places", STREAMS,
     "stream_->tag(b.tags, position_text(reached));",
     "stream_->tag(b.tags, position_text());"),
    ("a gap that was not told is passed by the id of open", STREAMS,
     "told_cursor(&*e));", "told_cursor());"),
    ("a block's id stands before its data", SSE,
     "block.append(\"event: \").append(name).append(\"\\ndata: \").append(json);\n  if (!cursor.empty()) block.append(\"\\nid: \").append(cursor);\n",
     "block.append(\"event: \").append(name);\n  if (!cursor.empty()) block.append(\"\\nid: \").append(cursor);\n  block.append(\"\\ndata: \").append(json);\n"),
    ("the last message of a batch keeps its end before its id", STREAMS,
     "b.add(&s, false, bytes.first(bytes.size() - b.replaced));", "b.add(&s, false, bytes);"),
    ("an erased payload is served from the tail", "detail/hub/channel_erase.ipp",
     "    if (!tail[i]->holds(offset)) {\n", "    if (tail[i]) {\n"),
    ("an erasure is not heard of by who was away", "storage/memory.hpp", "      m.erases = r.erases;\n", ""),
    ("a drain leaves publishes unanswered", "detail/connection/draining.ipp",
     "owed == 0 && server_.messages.pending_count() == 0;", "owed == 0;"),
    ("the library's client moves before its program has the message", CLIENT_OBJECTS,
     "  if (on.message) on.message(m);\n", "  if (m.offset) at->offset = m.offset;\n  if (on.message) on.message(m);\n"),
    ("the library's client passes a gap that it was not told", CLIENT_PLACES,
     "if (recovered && valid_epoch(p.epoch))", "if (valid_epoch(p.epoch))"),
    ("the library's client takes the answer to an earlier following", "detail/client/machine_commands.hpp",
     "if (!at || at->serial != serial) return;", "if (!at) return;"),
    ("the library's client repeats a publish with another key", CLIENT_COMMANDS,
     "      c.suspect = c.suspect || !blamed.empty();\n",
     "      c.suspect = c.suspect || !blamed.empty();\n"
     "      if (auto k = c.body.find(\"\\\"key\\\":\\\"\"); k != c.body.npos) c.body[k + 7] = c.body[k + 7] == 'a' ? 'b' : 'a';\n"),
    ("the library's client has two publishes of a channel under way", CLIENT_COMMANDS,
     "unanswered(it->channel) >= window_", "unanswered(it->channel) > window_"),
    ("the library's client forgets what it was asked when its connection ends", CLIENT_COMMANDS,
     "      if (repeat) {\n", "      if (repeat && c.id % 7) {\n"),
]

RECEIPTS, PRESENCE, COMMANDS = "detail/hub/receipts.ipp", "detail/hub/presence.ipp", "detail/connection/commands.ipp"

# What crowd.cpp has to notice: people with devices, on one hub or four.
CROWD_FAULTS = [
    ("a watermark that falls: one that waits is replaced by a lower one", RECEIPTS,
     "  if (std::exchange(d.waits, true)) raise(m.levels, d.pending.levels);\n", "  d.waits = true;\n"),
    ("a watermark that falls as it is told: what another hub said later is told again", RECEIPTS,
     "  raise(known, l);\n  if (known == u->told) return;\n", "  known = l;\n"),
    ("a refused mark takes one along that was answered", RECEIPTS,
     "if (std::exchange(d.waits, false)) write(key, d, std::move(d.pending), {});",
     "if (std::exchange(d.waits, false)) raise(m.levels, d.pending.levels);"),
    ("one's own receipt overtakes what was told to all", RECEIPTS,
     "  log->flush();  // what was told to all before stands before this\n", ""),
    ("read before received", RECEIPTS,
     "  m.levels.received = at.offset;\n", "  if (!read) m.levels.received = at.offset;\n"),
    ("an ack of the old epoch after a new one", RECEIPTS,
     "log->open() && log->epoch() == m.epoch && at.offset", "log->open() && at.offset"),
    ("received, across trimming, is no gap", SUBSCRIPTIONS,
     "        out.lost = {false, oldest};\n",
     "        out.at.offset = oldest - 1;\n        break;\n"),
    ("a device comes back at another one's watermark", RECEIPTS,
     "if (m.device == device) at = {m.epoch, m.levels.received};", "at = {m.epoch, m.levels.received};"),
    ("a 17th device", COMMANDS,
     'if (ec == errc::conflict) return done({errc::conflict, "too many devices"});',
     'if (ec == errc::conflict) return done(std::string("{}"));'),
    ("a private read is told to others", RECEIPTS,
     "  if (read && !hidden) m.levels.public_read = at.offset;\n", "  if (read) m.levels.public_read = at.offset;\n"),
    ("receipts are told where no rule says so", RECEIPTS,
     "  const bool others = !channel.starts_with('@') && hub_->rules_.of(channel).receipts;\n",
     "  const bool others = !channel.starts_with('@');\n"),
    ("a leave that is not told", PRESENCE,
     "  --c.present;\n  if (c.counting || c.gathered)", "  --c.present;\n  if (c.counting || c.gathered || c.present % 3 == 1)"),
    ("a leave that is not told to other hubs", PRESENCE,
     "  tell_change(name, c, user->first, nullptr);\n  if (!m.present()) {", "  if (!m.present()) {"),
    ("a snapshot that overtakes a leave", PRESENCE,
     "  if (number < r.number || (!c.followed", "  if ((!c.followed"),
    ("a change that was late is applied", PRESENCE,
     "  if (ch.number <= r.number) return;  // a state had it already\n", ""),
    ("a hub that has vanished keeps its members", PRESENCE,
     "      if (c.others.contains(id)) drop(name, c, id);\n", "      if (false) drop(name, c, id);\n"),
    ("a hole in what a hub tells is not seen", PRESENCE,
     "  if (r.synced && ch.before <= r.number) return apply(", "  if (r.synced) return apply("),
    ("an ephemeral that is replayed", FAN_OUT,
     "    return m.live && (!p.in_sync || m.live == chunk::but_for + s.to().slot());\n",
     "    return m.live && m.live == chunk::but_for + s.to().slot();\n"),
    ("an ephemeral comes back to whose it is, by another hub", "detail/hub/channel_table.ipp",
     "log.ephemeral(m, s && s->user() == m.from ? s->slot() : channel_log::nobody);", "log.ephemeral(m);"),
    ("somebody else's message is taken back", COMMANDS,
     '    if (m.from != by.user()) return failure(errc::forbidden, "the message is somebody else\'s");\n', ""),
]


def main():
    args = planted_faults.arguments()
    args.add_argument("--seeds", type=int, default=1000)
    args.add_argument("--crowd", action="store_true", help="the faults that crowd.cpp has to notice, in place of the others")
    args = args.parse_args()
    faults = [planted_faults.Fault(name, header, old, new, "simulation/simulation.cpp", ("-O1",), (), ("--seeds", str(args.seeds)))
              for name, header, old, new in FAULTS]
    crowd = [planted_faults.Fault(name, header, old, new, "simulation/crowd.cpp", ("-O1",), (), ("--careless", "--seeds", str(min(args.seeds, 600))))
               for name, header, old, new in CROWD_FAULTS]
    if args.crowd:
        faults = crowd

    def said(code, text):
        return (text.splitlines() or ["no output"])[0][:160] if code == 1 else f"ended by signal {-code}"

    return planted_faults.run(faults, args, 300, said)


if __name__ == "__main__":
    sys.exit(main())
