// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>

#include "hailwire/hub.hpp"

namespace hailwire::detail {

/// How many bytes of messages one history answer holds, as a poll answer does.
inline constexpr std::size_t max_history_bytes = 1 << 20;

HAILWIRE_INLINE void history_reader::read(std::string_view channel, history_query q, std::uint64_t floor,
                                          history_handler done) {
  auto refuse = [&](std::error_code ec) {
    history_result r;
    r.error = ec;
    done(std::move(r));
  };
  if (hub_->stopped_) return refuse(operation_aborted());
  if (!valid_channel(channel) || !valid_history_limit(q.limit)) return refuse(errc::bad_request);
  pending_operations::room room(hub_->pending_);
  if (!room) return refuse(errc::overloaded);
  auto op = intrusive_ptr<history_op>(new history_op(*hub_));
  op->channel = channel;
  op->query = std::move(q);
  op->floor = std::max<std::uint64_t>(floor, 1);
  op->done = std::move(done);
  op->tried = op->query.limit;
  const bool here = !hub_->depth_.deep();
  if (!here) {
    hub_->mailbox_->put(
        [this, op] {
          if (op->enrolled()) ask(op);
        },
        [] {});  // `stop` aborts all that are enrolled
  }
  hub_->pending_.enroll(op);
  room.keep();
  if (here) ask(std::move(op));
}

HAILWIRE_INLINE void history_reader::ask(intrusive_ptr<history_op> op) {
  const call_depth::level level(hub_->depth_);
  const history_query& q = op->query;
  bool forward = q.after || q.from_start;
  std::uint64_t since = max_offset;  // neither after nor before: the facts first
  read_limit limit{0, 0};
  if (forward) {
    since = std::max(q.after, op->floor - 1);
    limit = {q.limit, max_history_bytes};
  } else if (q.before) {
    since = std::max(q.before > op->tried ? q.before - 1 - op->tried : 0, op->floor - 1);
    limit = {op->tried, max_history_bytes};
  }
  std::string_view channel = op->channel;
  try {
    hub_->read_storage(channel, since, limit, [op](hub& h, read_result r) { h.history_.answered(op, std::move(r)); });
  } catch (...) {
    answered(op, failed<read_result>());
  }
}

HAILWIRE_INLINE void history_reader::answered(const intrusive_ptr<history_op>& op, read_result r) {
  if (!op->enrolled()) return;  // aborted by stop()
  history_query& q = op->query;
  hub_->take_read(op->channel, r);
  history_result out;
  out.error = r.error;
  if (!r.error) {
    out.epoch = r.epoch.empty() ? hub_->own_epoch(op->channel) : std::move(r.epoch);
    if (!q.epoch.empty() && q.epoch != out.epoch) {
      out.error = errc::not_found;
    } else if (q.after || q.from_start) {
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.back().offset < r.head;
    } else if (!q.before || q.before > r.head + 1) {
      q.before = r.head + 1;
      return ask(op);
    } else {
      std::erase_if(r.messages, [&](const message& m) { return m.offset >= q.before; });
      bool whole =
          r.messages.empty() ? q.before <= std::max(r.oldest, op->floor) : r.messages.back().offset + 1 == q.before;
      if (!whole && op->tried > 1) {  // cut off by size at the wrong end: ask for fewer
        op->tried /= 2;
        return ask(op);
      }
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.front().offset > std::max(r.oldest, op->floor);
    }
  }
  hub_->pending_.dismiss(*op);
  op->finish(std::move(out));
}

HAILWIRE_INLINE void history_reader::history_op::finish(history_result r) {
  owner->pending_.remove();
  owner->guarded([&] { done(std::move(r)); });
}

}  // namespace hailwire::detail
