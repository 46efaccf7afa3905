// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a message is taken back. It is looked at first, because who may take it back is decided by what it is; then the
// storage takes its payload away and appends the entry that says so, which goes the way of any message: the log lets go
// of what is encoded of the other one before that entry goes out (`channel_log::erase`), at each hub that hears of it.

#include <algorithm>

#include "hailwire/hub.hpp"

namespace hailwire {

/// An erase on its way, of the host's or of a client's.
struct hub::erase_op final : detail::operation {
  erase_op(hub& h, std::string&& c, position&& p) : owner(&h), channel(std::move(c)), at(std::move(p)) {}
  void finish(std::error_code ec, position p);
  void refuse(failure why);
  void abort() override { finish(operation_aborted(), {}); }
  hub* owner;
  std::string channel, from;
  position at;
  std::int64_t when = 0;
  session_key by;
  erase_check allowed;          // null: the host's own
  publish_handler done;         // the host's, or
  client_publish_handler told;  // a client's
  bool over = false;
};

HAILWIRE_INLINE std::error_code hub::erase(std::string channel, position at, publish_handler done) {
  if (mailbox_->closed()) return operation_aborted();
  detail::pending_operations::room room(pending_);
  if (!room) return errc::overloaded;
  auto op = detail::intrusive_ptr<erase_op>(new erase_op(*this, std::move(channel), std::move(at)));
  op->done = std::move(done);
  if (loop_->here() && !nests_too_deep()) {
    room.keep();
    begin_erase(std::move(op));
    return {};
  }
  const bool taken = mailbox_->put([this, op] { begin_erase(op); }, [op] { op->abort(); });
  if (taken) room.keep();
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE void hub::erase_for(session& s, std::string&& channel, position&& at, erase_check&& allowed,
                                    client_publish_handler&& done) {
  detail::pending_operations::room room(pending_);
  if (!room) return done(storage_failure(errc::overloaded));
  auto op = detail::intrusive_ptr<erase_op>(new erase_op(*this, std::move(channel), std::move(at)));
  op->by = s.key();
  op->from = s.permissions().user();
  op->allowed = std::move(allowed);
  op->told = std::move(done);
  room.keep();
  begin_erase(std::move(op));
}

HAILWIRE_INLINE void hub::erase_op::finish(std::error_code ec, position p) {
  if (std::exchange(over, true)) return;
  owner->pending_.remove();
  if (ec && !done && !told) owner->publish_failed(channel, ec);
  if (auto f = std::exchange(done, nullptr)) owner->guarded([&] { f(ec, std::move(p)); });
  if (auto f = std::exchange(told, nullptr)) ec ? f(storage_failure(ec)) : f(std::move(p));
}

HAILWIRE_INLINE void hub::erase_op::refuse(failure why) {
  const auto keep = detail::intrusive_ptr<erase_op>::again(*this);
  owner->pending_.dismiss(*this);
  if (!told || over) return finish(why.code, {});
  over = true;
  owner->pending_.remove();
  std::exchange(told, nullptr)(std::move(why));
}

HAILWIRE_INLINE void hub::begin_erase(detail::intrusive_ptr<erase_op> op) {
  if (stopped_) return op->abort();
  if (!valid_channel(op->channel) || op->at.offset == 0 || op->at.offset > max_offset)
    return op->refuse(errc::bad_request);
  if (!storage_->offers(detail::storage_member::erase))
    return op->refuse({errc::not_implemented, "this server's storage takes no message back"});
  pending_.reserve();
  pending_.enroll(op);
  const nested level(nesting_);
  std::string_view channel = op->channel;
  try {
    // The size limit leaves the one message that is asked for.
    storage_->read(channel, op->at.offset - 1, {1, 0},
                   on_loop([op](hub& h, read_result r) { h.looked_at(op, std::move(r)); }));
  } catch (...) {
    looked_at(op, detail::failed<read_result>());
  }
}

HAILWIRE_INLINE void hub::looked_at(const detail::intrusive_ptr<erase_op>& op, read_result r) {
  if (op->over) return;  // aborted by stop()
  take_read(op->channel, r);
  if (r.error) {
    pending_.dismiss(*op);
    return op->finish(r.error, {});
  }
  if (r.epoch.empty()) r.epoch = own_epoch(op->channel);
  const bool there = (op->at.epoch.empty() || op->at.epoch == r.epoch) && !r.messages.empty() &&
                     r.messages.front().offset == op->at.offset;
  if (!there) return op->refuse({errc::not_found, "there is no such message"});
  op->at.epoch = std::move(r.epoch);
  if (op->allowed) {
    session* by = find(op->by);
    if (!by) return op->refuse(errc::forbidden);
    if (auto why = op->allowed(*by, r.messages.front())) return op->refuse(std::move(*why));
  }
  if (op->over) return;  // the host has stopped the hub meanwhile
  draft d;
  d.at = op->when = loop_->unix_time();
  d.from = op->from;
  if (rules_.any_keep()) d.keep = settings_of(op->channel, prefetch(op->channel)).keep;
  try {
    storage_->erase(op->channel, op->at.offset, std::move(d),
                    on_loop([op](hub& h, append_result&& later) { h.erased(*op, std::move(later)); }));
  } catch (...) {
    erased(*op, detail::failed<append_result>());
  }
}

HAILWIRE_INLINE void hub::erased(erase_op& op, append_result&& r) {
  if (op.over) return;  // aborted by stop()
  const auto keep = detail::intrusive_ptr<erase_op>::again(op);
  pending_.dismiss(op);
  if (r.error) {
    if (r.error != errc::not_found) append_failed(op.channel, r.error, r.cause);
    return op.finish(r.error, {});
  }
  position p{r.epoch.empty() ? op.at.epoch : std::move(r.epoch), r.offset};
  if (!r.duplicate) {
    message m;
    m.offset = r.offset;
    m.at = op.when;
    m.from = op.from;
    m.erases = op.at.offset;
    // It is stored: what fails from here on is not the caller's. Others see the hole, and read.
    bool much = false;
    if (auto* log = find_log(op.channel)) guarded([&] { much = log->apply(p.epoch, m); });
    if (broker_ && !announces_) guarded([&] { broker_->publish(broker_id_, op.channel, p.epoch, m); });
    op.finish({}, std::move(p));
    if (auto* log = much ? find_log(op.channel) : nullptr; log && log->flush_early()) log->flush();
    return;
  }
  op.finish({}, std::move(p));
}

}  // namespace hailwire
