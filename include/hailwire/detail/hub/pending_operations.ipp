// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/pending_operations.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE pending_operations::room::~room() {
  if (of_) of_->remove();
}

HAILWIRE_INLINE void pending_operations::enroll(intrusive_ptr<operation> op) {
  all_.push_back(std::move(op));
  all_.back()->index_ = all_.size() - 1;
}

HAILWIRE_INLINE void pending_operations::dismiss(operation& op) noexcept {
  if (!op.enrolled()) return;
  auto self = std::move(all_[op.index_]);
  if (op.index_ + 1 != all_.size()) {
    all_[op.index_] = std::move(all_.back());
    all_[op.index_]->index_ = op.index_;
  }
  all_.pop_back();
  op.index_ = SIZE_MAX;
}

HAILWIRE_INLINE void pending_operations::abort_all() {
  auto all = std::exchange(all_, {});
  for (auto& op : all) op->index_ = SIZE_MAX;
  for (auto& op : all) op->abort();
}

}  // namespace hailwire::detail
