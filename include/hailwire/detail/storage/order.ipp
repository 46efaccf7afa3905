// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/storage/order.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE storage_job::storage_job(std::string_view c, draft&& d, append_handler&& h)
    : what(kind::append), channel(c), message(std::move(d)), appended(std::move(h)) {
  size = sizeof *this + c.size() + message.data.bytes().size() + message.key.size() + message.from.size() +
         message.type.size();
}

HAILWIRE_INLINE storage_job::storage_job(std::string_view c, std::uint64_t after, read_limit most, read_handler&& h)
    : what(kind::read), channel(c), since(after), limit(most), done(std::move(h)) {
  size = sizeof *this + c.size();
}

HAILWIRE_INLINE storage_job::storage_job(std::string_view c, kind k, std::size_t held, std::unique_ptr<storage_work> w)
    : what(k), channel(c), other(std::move(w)) {
  size = sizeof *this + c.size() + held;
}

HAILWIRE_INLINE void storage_job::refuse(std::error_code why) noexcept {
  if (other) {
    other->fail(why);
    other->answer();
  } else if (what == kind::append)
    answer(append_result(why));
  else
    answer(read_result(why));
}

}  // namespace hailwire::detail
