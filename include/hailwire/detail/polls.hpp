// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a connection, whose class is in connection.hpp, serves a poll: one answer, as soon as there is something to tell or the
// time that it may be held is over. The answer is
//
//   own bytes of earlier answers │ head and beginning │ shared bytes of channel A │ … of channel B │ end
//
// in one write. Reached only through a server's `linkage`, so that one without a transport that polls does without it.

#include "hailwire/detail/connection.hpp"

namespace hailwire::detail {

inline bool connection::answer_held(bool at_end) { return gate_->polls->answer(*this, at_end); }

inline void connection::begin_poll() {
  exchange& e = *ex_;
  opened_ = true;
  tell_losses(e);
  if (gate_->host.on_open && !gate_->guarded("on_open", [&] { gate_->host.on_open(*session_); })) end(errc::internal, 1011, "internal error");
  if (answered_) return;
  e.until = gate_->now() + std::min(e.once->wait, gate_->messages.left(session_->permissions()));
  enter(phase::held);
  answer_poll(e.at_once || e.once->wait == 0);
}

// May run inside a flush.
inline bool connection::answer_poll(bool at_end) {
  exchange& e = *ex_;
  at_end = at_end || e.at_once;
  const options& o = gate_->settings;
  struct part {
    std::shared_ptr<const chunk> keep;
    std::span<const char> bytes;
  };
  std::vector<part> parts;
  std::size_t bytes = 0, count = 0;
  bool more = false, loading = false;
  std::vector<std::uint64_t> reached;  // a subscription that is live during a flush does not know it yet
  for (std::size_t i = 0; i < session_->follows_.size(); ++i) {
    subscription& s = session_->follows_[i];
    std::uint64_t offset = s.offset();
    bool full = false, begun = false, lost = false;
    while (!full) {
      const std::size_t told = e.notices.size();
      auto pending = s.pending();
      if (begun && s.offset() > offset) {
        // Notices are read before messages, so a gap behind messages of this answer is for the next one, which finds it again.
        e.notices.resize(told);
        lost = more = true;
        break;
      }
      if (answered_ || phase_ != phase::held) return true;  // the storage failed
      if (pending.empty()) {
        loading = loading || s.loading() || s.due();
        break;
      }
      auto chunk = s.holding();
      auto at = static_cast<std::size_t>(pending.data() - chunk->bytes.data());
      std::size_t end = at;
      while (end < chunk->bytes.size()) {
        std::size_t next = chunk->frame_end(end);
        if (count && (count >= o.poll_messages || bytes + (next - at) > o.poll_bytes)) {
          full = more = true;
          break;
        }
        ++count;
        end = next;
      }
      if (end == at) break;
      offset = chunk->offset_at(end, offset);
      bytes += end - at;
      parts.push_back({chunk, pending.first(end - at)});
      begun = true;
      s.advance(end - at);
      if (s.live()) break;  // the same chunk would come again
    }
    reached.push_back(lost ? offset : std::max(offset, s.offset()));
  }
  if (loading && !parts.empty()) more = true;
  if (parts.empty() && (loading || (e.notices.empty() && !at_end))) {
    e.at_once = at_end || !e.notices.empty();  // as soon as what is being read is there: an answer has a message if there is one
    return false;
  }

  std::string at = position_text(reached);
  bool keep = keep_ && !gate_->stopping;
  std::string extra = std::string(gate_->date()) + e.extra;
  bool head_only = e.head.method == "HEAD";
  auto tags = proto::http1::entity_tags(e.head);
  last_write_ = moment(gate_->now());
  if (parts.empty() && e.notices.empty() && std::find(tags.begin(), tags.end(), at) != tags.end()) {
    out() += transport::make_not_modified(at, keep, e.head.minor, extra);
    ask_wake();
  } else {
    if (!parts.empty()) parts[0].bytes = parts[0].bytes.subspan(1);  // its comma
    auto frame = transport::make_poll_answer(bytes ? bytes - 1 : 0, e.notices, at, more, keep, e.head.minor, extra, head_only);
    out() += frame.head;
    if (head_only) parts.clear();
    std::vector<std::span<const char>> pieces{own_bytes()};
    for (auto& p : parts) pieces.push_back(p.bytes);
    pieces.push_back(frame.tail);
    std::size_t taken = blocked_ ? 0 : write(std::span(pieces).first(std::min<std::size_t>(pieces.size(), 64)));
    std::string left;
    for (auto& p : pieces) {
      std::size_t k = std::min(taken, p.size());
      taken -= k;
      left.append(p.data() + k, p.size() - k);
    }
    work_->out.assign(left);
    work_->sent = 0;
    if (!work_->out.empty() && phase_ != phase::dead) {
      if (pieces.size() > 64 || blocked_) {
        ask_wake();
      } else {
        blocked_ = true;
        update_watch();
      }
    }
  }
  if (phase_ == phase::dead) return true;
  answered(keep);
  return true;
}

inline const poll_table connection::polling{&transport::poll_element, [](connection& c) { c.begin_poll(); },
                                            [](connection& c, bool at_end) { return c.answer_poll(at_end); }};

/// The linkage of a server with these transports, in the order in which they are asked.
template <transport::kind... Transports>
class link_of {
  static constexpr const transport::entry* entries_[] = {&transport::entry_of<Transports>...};
  static constexpr const poll_table* polls() noexcept {
    if constexpr ((transport::polling<Transports> || ...)) return &connection::polling;
    else return nullptr;
  }

 public:
  static constexpr linkage value{entries_, polls()};
};
template <transport::kind... Transports>
inline constexpr const linkage& linked = link_of<Transports...>::value;

}  // namespace hailwire::detail
