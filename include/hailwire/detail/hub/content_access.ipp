// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>

#include "hailwire/detail/hub/content_access.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE bool content_access::offered() const noexcept { return hub_.storage_->offers(storage_member::content); }

// A storage that throws has not taken the handler, or has let go of it.
template <class Result, class Ask>
void content_access::ask(move_only_function<void(Result)>&& done, Ask start) {
  auto to = std::make_shared<move_only_function<void(Result)>>(std::move(done));
  auto answer = [to](Result r) {
    if (auto f = std::exchange(*to, nullptr)) f(std::move(r));
  };
  try {
    start(*hub_.storage_, hub_.on_loop([answer](hub&, Result r) { answer(std::move(r)); }));
  } catch (...) {
    answer(failed<Result>());
  }
}

HAILWIRE_INLINE void content_access::open(upload&& u, const content_limits& limits, upload_handler done) {
  ask<upload_result>(std::move(done),
                     [&](any_storage& s, upload_handler h) { s.open_content(std::move(u), limits, std::move(h)); });
}
HAILWIRE_INLINE void content_access::find(std::string_view id, upload_handler done) {
  ask<upload_result>(std::move(done), [&](any_storage& s, upload_handler h) { s.find_content(id, std::move(h)); });
}
HAILWIRE_INLINE void content_access::write(std::string_view id, std::uint64_t offset, std::string&& bytes,
                                           upload_handler done) {
  ask<upload_result>(std::move(done), [&](any_storage& s, upload_handler h) {
    s.write_content(id, offset, std::move(bytes), std::move(h));
  });
}
HAILWIRE_INLINE void content_access::commit(std::string_view id, upload_handler done) {
  ask<upload_result>(std::move(done), [&](any_storage& s, upload_handler h) { s.commit_content(id, std::move(h)); });
}
HAILWIRE_INLINE void content_access::abort(std::string_view id, upload_handler done) {
  ask<upload_result>(std::move(done), [&](any_storage& s, upload_handler h) { s.abort_content(id, std::move(h)); });
}
HAILWIRE_INLINE void content_access::read(std::string_view id, std::uint64_t from, std::size_t size,
                                          content_handler done) {
  ask<content_result>(std::move(done),
                      [&](any_storage& s, content_handler h) { s.read_content(id, from, size, std::move(h)); });
}

}  // namespace hailwire::detail
