// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a stretch of history is read: forward from an offset, or backward, where what fits has to be found by trying.

#include <algorithm>

#include "hailwire/hub.hpp"

namespace hailwire {

/// How many bytes of messages one history answer holds, as a poll answer does.
inline constexpr std::size_t max_history_bytes = 1 << 20;

HAILWIRE_INLINE void hub::history(std::string_view channel, history_query q, std::uint64_t floor,
                                  history_handler done) {
  auto refuse = [&](std::error_code ec) {
    history_result r;
    r.error = ec;
    done(std::move(r));
  };
  if (stopped_) return refuse(operation_aborted());
  if (!valid_channel(channel) || !detail::valid_history_limit(q.limit)) return refuse(errc::bad_request);
  detail::pending_operations::room room(pending_);
  if (!room) return refuse(errc::overloaded);
  auto op = detail::intrusive_ptr<history_op>(new history_op(*this));
  op->channel = channel;
  op->query = std::move(q);
  op->floor = std::max<std::uint64_t>(floor, 1);
  op->done = std::move(done);
  op->tried = op->query.limit;
  const bool here = nesting_ < max_nesting;
  if (!here) {
    mailbox_->put(
        [this, op] {
          if (op->enrolled()) read_history(op);
        },
        [] {});  // `stop` aborts all that are enrolled
  }
  pending_.enroll(op);
  room.keep();
  if (here) read_history(std::move(op));
}

HAILWIRE_INLINE void hub::read_history(detail::intrusive_ptr<history_op> op) {
  const nested level(nesting_);
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
    read_storage(channel, since, limit, [op](hub& h, read_result r) { h.history_read(op, std::move(r)); });
  } catch (...) {
    history_read(op, detail::failed<read_result>());
  }
}

HAILWIRE_INLINE void hub::history_read(const detail::intrusive_ptr<history_op>& op, read_result r) {
  if (!op->enrolled()) return;  // aborted by stop()
  history_query& q = op->query;
  take_read(op->channel, r);
  history_result out;
  out.error = r.error;
  if (!r.error) {
    out.epoch = r.epoch.empty() ? own_epoch(op->channel) : std::move(r.epoch);
    if (!q.epoch.empty() && q.epoch != out.epoch) {
      out.error = errc::not_found;
    } else if (q.after || q.from_start) {
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.back().offset < r.head;
    } else if (!q.before || q.before > r.head + 1) {
      q.before = r.head + 1;
      return read_history(op);
    } else {
      std::erase_if(r.messages, [&](const message& m) { return m.offset >= q.before; });
      bool whole =
          r.messages.empty() ? q.before <= std::max(r.oldest, op->floor) : r.messages.back().offset + 1 == q.before;
      if (!whole && op->tried > 1) {  // cut off by size at the wrong end: ask for fewer
        op->tried /= 2;
        return read_history(op);
      }
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.front().offset > std::max(r.oldest, op->floor);
    }
  }
  pending_.dismiss(*op);
  op->finish(std::move(out));
}

}  // namespace hailwire
