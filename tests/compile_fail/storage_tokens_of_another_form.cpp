// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: device tokens are hailwire::tokens_result keep_token(const hailwire::device_token& t)
#include "hailwire/concepts.hpp"

using namespace hailwire;

// It answers at once, and its tokens later: no form that anybody finds.
struct subject {
  append_result append(std::string_view, const draft&) { return 1; }
  read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
  void async_keep_token(device_token, tokens_handler) {}
  void async_tokens(std::string_view, tokens_handler) {}
  void async_forget_token(std::string_view, std::string_view, std::string_view, tokens_handler) {}
};

void use() { detail::erase_storage(subject()); }
