// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a request, whose class is in http_exchange.hpp, is served by a poll: one answer, as soon as there is something to
// tell or the time that it may be held is over. The answer is
//
//   own bytes of earlier answers │ head and beginning │ shared bytes of channel A │ … of channel B │ end
//
// in one write. Reached only through a server's `linkage`, so that one without a transport that polls does without it.

#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void http_exchange::begin_poll() {
  on_->opened_ = true;
  on_->session_began();
  tell_losses();
  if (server().host.on_open && !server().guarded("on_open", [&] { server().host.on_open(*on_); }))
    on_->end(errc::internal, 1011, hook_failed_text);
  if (on_->answered_) return;
  until_ = server().now() + std::min(once_->wait, server().messages.left(on_->permissions()));
  on_->phase_ = connection::phase::held;
  on_->since_ = moment(server().now());
  if (server().drain.begun()) say_bye();
  if (!answer_poll(at_once_ || once_->wait == 0 || on_->peer_ended_ || server().leaving())) on_->schedule();
}

// The answer of a poll that follows one channel and is told one flush's messages: made for the first that waits, the
// others send the same bytes. False when it is another case.
HAILWIRE_INLINE bool http_exchange::answer_alike() {
  if (on_->follow_count() != 1 || on_->find_rare() || gives_ticket() || !notices_.empty() || !extra_.empty() ||
      head_.method != "GET")
    return false;
  subscription& s = on_->followed(0);
  if (!s.live() || !s.named()) return false;
  auto messages = s.pending();
  if (messages.empty() || messages.size() > shared_answer::most || on_->blocked_ || on_->unsent()) return false;
  const channel_log& log = s.in().log();
  const bool keep = on_->keeps();
  const std::int64_t now = server().now();
  // The same bytes at the same head of the same channel: this flush's. A later one could have been given the same
  // memory.
  shared_answer& a = server().alike;
  if (a.messages != messages.data() || a.size != messages.size() || a.now != now || a.head != log.head() ||
      a.channel != log.name() || a.epoch != log.epoch() || a.minor != head_.minor || a.keep != keep) {
    auto chunk = s.holding();
    if (chunk->live || chunk->marks.size() > server().settings.poll_messages ||
        messages.size() > server().settings.poll_bytes)
      return false;
    std::string cursor;
    append_position(cursor, log.epoch(), chunk->last());
    auto frame = transport::make_poll_answer(messages.size() - 1, {}, cursor, {}, false, keep, head_.minor,
                                             server().date(), {}, false);
    a = {messages.data(),          messages.size(), now,  log.head(),           std::string(log.name()),
         std::string(log.epoch()), head_.minor,     keep, std::move(frame.head)};
    a.whole.append(messages.data() + 1, messages.size() - 1).append(frame.tail);
  }
  std::span<const char> whole(a.whole);
  on_->write_answer({&whole, 1});
  if (on_->phase_ != connection::phase::dead) on_->answered(keep);
  return true;
}

// Writes an answer; what is not taken becomes own bytes.
HAILWIRE_INLINE void connection::write_answer(std::span<const std::span<const char>> pieces) {
  last_write_ = moment(server().now());
  constexpr std::size_t most = 64;  // pieces that a write takes
  std::size_t taken = blocked_ ? 0 : write(pieces.first(std::min(pieces.size(), most)));
  server().messages.counted.bytes_out += taken;
  std::string left;
  for (auto& p : pieces) {
    std::size_t k = std::min(taken, p.size());
    taken -= k;
    left.append(p.data() + k, p.size() - k);
  }
  if (left.empty() && !work_.any()) return;
  pending_io& work = busy();
  work.out = std::move(left);
  work.sent = 0;
  if (work.out.empty() || phase_ == phase::dead) return;
  if (pieces.size() > most || blocked_) {
    ask_wake();
  } else {
    block();
  }
}

// Whether the client has the answer with this cursor already: it is mostly the tag that it came with.
HAILWIRE_INLINE bool http_exchange::has_tag(std::string_view cursor) const {
  const std::string_view tag = tag_at_ ? std::string_view(in_).substr(tag_at_) : std::string_view();
  return (tag.size() > cursor.size() && tag.starts_with(cursor) && tag[cursor.size()] == '"') ||
         proto::http1::any_entity_tag(head_, [&](std::string_view other) { return other == cursor; });
}

// May run inside a flush.
HAILWIRE_INLINE bool http_exchange::answer_poll(bool at_end) {
  // What was still being read when the permission ended is not told any more: the next request brings another one, or
  // is refused.
  const bool over = server().messages.ended(on_->permissions());
  if (!over && answer_alike()) return true;
  at_end = at_end || at_once_ || over;
  const options& o = server().settings;
  struct part {
    std::shared_ptr<const chunk> keep;
    std::span<const char> bytes;
  };
  vector<part> parts;
  std::size_t bytes = 0, count = 0;
  bool more = false, loading = false;
  vector<std::uint64_t> reached;  // a subscription that is live during a flush does not know it yet
  for (std::size_t i = 0; i < on_->follow_count(); ++i) {
    subscription& s = on_->followed(i);
    std::uint64_t offset = s.offset();
    bool full = false, begun = false, lost = false;
    while (!full && !over) {
      const std::size_t told = notices_.size();
      auto pending = s.pending();
      if (begun && s.offset() > offset) {
        // Notices are read before messages, so a gap behind messages of this answer is for the next one, which finds it
        // again.
        notices_.resize(told);
        lost = more = true;
        break;
      }
      if (on_->answered_ || on_->phase_ != connection::phase::held) return true;  // the storage failed
      if (pending.empty()) {
        loading = loading || s.loading() || s.due();
        break;
      }
      auto chunk = s.holding();
      auto at = static_cast<std::size_t>(pending.data() - chunk->bytes.data());
      const std::size_t last = at + pending.size();
      std::size_t begin = at, end = at;
      auto take = [&] {
        if (end == begin) return;
        parts.push_back({chunk, std::span<const char>(chunk->bytes).subspan(begin, end - begin)});
        bytes += end - begin;
        begun = true;
      };
      while (end < last) {
        const auto& frame = *chunk->containing(end);
        const std::size_t next = frame.end;
        if (frame.live) {
          take();
          gather_live(s.in().log(), frame.live == chunk::notice,
                      std::string_view(chunk->bytes).substr(end + 1, next - end - 1));
          begin = end = next;
          continue;
        }
        if (count && (count >= o.poll_messages || bytes + (next - begin) > o.poll_bytes)) {
          full = more = true;
          break;
        }
        ++count;
        end = next;
      }
      take();
      if (end == at) break;
      offset = chunk->offset_at(end, offset);
      s.advance(end - at);
      if (s.live()) break;  // the same chunk would come again
    }
    reached.push_back(lost ? offset : std::max(offset, s.offset()));
  }
  if (loading && !parts.empty()) more = true;
  if (parts.empty() && (loading || (patient_ && !at_end))) {
    at_once_ = at_end || !patient_;  // as soon as what is being read is there: an answer has a message if there is one
    return false;
  }

  std::string at = on_->position_text(reached);
  bool keep = on_->keeps();
  bool head_only = proto::same_bytes(head_.method, "HEAD");
  std::string_view live(replies_);
  if (parts.empty() && notices_.empty() && live.empty() && has_tag(at)) {
    on_->last_write_ = moment(server().now());
    transport::append_not_modified(on_->out(), at, keep, head_.minor, server().date(), extra_);
    if (!on_->processing_) on_->ask_wake();
  } else {
    bytes += live.size();
    if (!live.empty()) {
      live.remove_prefix(1);  // the first message's comma
    } else if (!parts.empty()) {
      parts[0].bytes = parts[0].bytes.subspan(1);
    }
    auto frame = transport::make_poll_answer(bytes ? bytes - 1 : 0, notices_, at, ticket(), more, keep, head_.minor,
                                             server().date(), extra_, head_only);
    on_->out() += frame.head;
    if (head_only) parts.clear(), live = {};
    on_->out() += live;
    vector<std::span<const char>> pieces{on_->own_bytes()};
    for (auto& p : parts) pieces.push_back(p.bytes);
    pieces.push_back(frame.tail);
    on_->write_answer(pieces);
  }
  if (on_->phase_ == connection::phase::dead) return true;
  on_->answered(keep);
  return true;
}

HAILWIRE_INLINE const poll_table http_exchange::polling{
    &transport::poll_element, &transport::poll_signal, [](http_exchange& e) { e.begin_poll(); },
    [](http_exchange& e, bool at_end) { return e.answer_poll(at_end); }};

}  // namespace hailwire::detail
