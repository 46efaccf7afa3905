// SPDX-License-Identifier: BSL-1.0
#include "hailwire/hub.hpp"

#include <algorithm>
#include <asio/io_context.hpp>
#include <functional>
#include <string>

#include "catch.hpp"
#include "hailwire/server.hpp"
#include "hailwire/storage/sqlite.hpp"
#include "hailwire/transport/sse.hpp"
#include "storage/temporary.hpp"

using namespace hailwire;

TEST_CASE("a hundred thousand publishes, each from the handler of the one before, go through a file as well") {
  temporary directory;
  sqlite_options in;
  in.durability = durability::off;
  in.messages = 100;
  auto store = sqlite_storage::open(directory.file(), in);
  REQUIRE(store);
  asio::io_context io;
  server<sse> live(io, std::move(*store));
  int told = 0, wrong = 0;
  // Not the address of a variable, which a sanitizer may keep elsewhere.
  char* const top = static_cast<char*>(__builtin_frame_address(0));
  char* lowest = top;
  std::function<void(std::error_code, position)> next = [&](std::error_code ec, const position& at) {
    lowest = std::min(lowest, static_cast<char*>(__builtin_frame_address(0)), std::less<char*>());
    if (ec || at.offset != static_cast<std::uint64_t>(++told)) ++wrong;
    if (told == 100'000) return io.stop();
    if (live.publish("a", payload::json("1"), {}, next)) ++wrong;
  };
  CHECK_FALSE(live.publish("a", payload::json("1"), {}, next));
  auto idle = asio::make_work_guard(io);
  io.run();
  CHECK(told == 100'000);
  CHECK(wrong == 0);
  CHECK(top - lowest < 256 * 1024);
}
