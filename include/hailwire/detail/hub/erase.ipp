// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <utility>

#include "hailwire/hub.hpp"

namespace hailwire::detail {

/// An erase on its way, of the host's or of a client's.
struct eraser::erase_op final : operation {
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

HAILWIRE_INLINE std::error_code eraser::erase(std::string channel, position at, publish_handler done) {
  if (hub_->mailbox_->closed()) return operation_aborted();
  pending_operations::room room(hub_->pending_);
  if (!room) return errc::overloaded;
  auto op = intrusive_ptr<erase_op>(new erase_op(*hub_, std::move(channel), std::move(at)));
  op->done = std::move(done);
  if (hub_->loop().here() && !hub_->depth_.too_deep()) {
    room.keep();
    begin(std::move(op));
    return {};
  }
  const bool taken = hub_->mailbox_->put([this, op] { begin(op); }, [op] { op->abort(); });
  if (taken) room.keep();
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE void eraser::erase_for(session& s, std::string&& channel, position&& at, erase_check&& allowed,
                                       client_publish_handler&& done) {
  pending_operations::room room(hub_->pending_);
  if (!room) return done(storage_failure(errc::overloaded));
  auto op = intrusive_ptr<erase_op>(new erase_op(*hub_, std::move(channel), std::move(at)));
  op->by = s.key();
  op->from = s.permissions().user();
  op->allowed = std::move(allowed);
  op->told = std::move(done);
  room.keep();
  begin(std::move(op));
}

HAILWIRE_INLINE void eraser::erase_op::finish(std::error_code ec, position p) {
  if (std::exchange(over, true)) return;
  owner->pending_.remove();
  if (ec && !done && !told) owner->publisher.log_failure(channel, ec);
  if (auto f = std::exchange(done, nullptr)) owner->guarded([&] { f(ec, std::move(p)); });
  if (auto f = std::exchange(told, nullptr)) ec ? f(storage_failure(ec)) : f(std::move(p));
}

HAILWIRE_INLINE void eraser::erase_op::refuse(failure why) {
  const auto keep = intrusive_ptr<erase_op>::again(*this);
  owner->pending_.dismiss(*this);
  if (!told || over) return finish(why.code, {});
  over = true;
  owner->pending_.remove();
  std::exchange(told, nullptr)(std::move(why));
}

HAILWIRE_INLINE void eraser::begin(intrusive_ptr<erase_op> op) {
  if (hub_->stopped_) return op->abort();
  if (!valid_channel(op->channel) || op->at.offset == 0 || op->at.offset > max_offset)
    return op->refuse(errc::bad_request);
  if (!hub_->storage_->offers(storage_member::erase))
    return op->refuse({errc::not_implemented, "this server's storage takes no message back"});
  hub_->pending_.reserve();
  hub_->pending_.enroll(op);
  const call_depth::level level(hub_->depth_);
  std::string_view channel = op->channel;
  try {
    // The size limit leaves the one message that is asked for.
    hub_->storage_->read(channel, op->at.offset - 1, {1, 0},
                         hub_->on_loop([op](hub& h, read_result r) { h.eraser.looked_at(op, std::move(r)); }));
  } catch (...) {
    looked_at(op, failed<read_result>());
  }
}

HAILWIRE_INLINE void eraser::looked_at(const intrusive_ptr<erase_op>& op, read_result r) {
  if (op->over) return;  // aborted by stop()
  hub_->take_read(op->channel, r);
  if (r.error) {
    hub_->pending_.dismiss(*op);
    return op->finish(r.error, {});
  }
  if (r.epoch.empty()) r.epoch = hub_->own_epoch(op->channel);
  const bool there = (op->at.epoch.empty() || op->at.epoch == r.epoch) && !r.messages.empty() &&
                     r.messages.front().offset == op->at.offset;
  if (!there) return op->refuse({errc::not_found, "there is no such message"});
  op->at.epoch = std::move(r.epoch);
  if (op->allowed) {
    session* by = hub_->find(op->by);
    if (!by) return op->refuse(errc::forbidden);
    if (auto why = op->allowed(*by, r.messages.front())) return op->refuse(std::move(*why));
  }
  if (op->over) return;  // the host has stopped the hub meanwhile
  draft d;
  d.at = op->when = hub_->loop().unix_time();
  d.from = op->from;
  if (hub_->rules_.any_keep()) d.keep = hub_->settings_of(op->channel, hub_->hash_of(op->channel)).keep;
  try {
    // The storage looks once more: it may have lost the message since, and have another at its offset, in another
    // epoch.
    hub_->storage_->erase(
        op->channel, position(op->at), std::move(d),
        hub_->on_loop([op](hub& h, append_result&& later) { h.eraser.erased(*op, std::move(later)); }));
  } catch (...) {
    erased(*op, failed<append_result>());
  }
}

HAILWIRE_INLINE void eraser::erased(erase_op& op, append_result&& r) {
  if (op.over) return;  // aborted by stop()
  const auto keep = intrusive_ptr<erase_op>::again(op);
  hub_->pending_.dismiss(op);
  if (r.error) {
    if (r.error != errc::not_found) hub_->append_failed(op.channel, r.error, r.cause);
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
    if (auto* log = hub_->channels.find(op.channel)) hub_->guarded([&] { much = log->apply(p.epoch, m); });
    hub_->channels.publish(op.channel, p.epoch, m);
    op.finish({}, std::move(p));
    if (auto* log = much ? hub_->channels.find(op.channel) : nullptr; log && log->flush_early()) log->flush();
    return;
  }
  op.finish({}, std::move(p));
}

}  // namespace hailwire::detail
