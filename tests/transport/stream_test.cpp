// SPDX-License-Identifier: BSL-1.0
#include "hailwire/transport/stream.hpp"

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::transport;

namespace {

/// Counts those that live; `Weight` makes it too large for the inside of a box.
template <std::size_t Weight>
class weighty : public stream {
 public:
  explicit weighty(int n) : shown_(std::make_unique<int>(n)) {}
  std::string_view name() const noexcept override { return "weighty"; }
  const proto::encoding& messages() const noexcept override {
    static constexpr proto::encoding none{"none", false, [](std::string&, const proto::envelope&) {}};
    return none;
  }
  stream_event receive(std::span<char>&, std::string&) override { return {}; }
  bool notice(std::string&, std::string_view, std::string_view, std::string_view) override { return false; }
  void reply(std::string& out, std::string_view) override { out = std::to_string(*shown_); }
  void beat(std::string&) override {}
  bool expects_life() const noexcept override { return false; }
  void end(std::string&, std::uint16_t, std::string_view) override {}
  bool awaits_end() const noexcept override { return false; }

 private:
  std::unique_ptr<int> shown_;
  std::array<char, Weight> more_{};
};
using small = weighty<8>;
using large = weighty<9>;

std::string shown(const stream_box& b) {
  if (!b) return "nothing";
  std::string out;
  b->reply(out, {});
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("a box owns one stream, inside or on the heap, and hands it on", "", small, large) {
  stream_box a, b = stream_box::of<TestType>(1);
  CHECK(shown(a) == "nothing");
  CHECK(shown(b) == "1");
  a = std::move(b);
  CHECK(shown(a) == "1");
  CHECK(shown(b) == "nothing");
  b = stream_box::of<TestType>(2);
  a = std::move(b);  // the first one is gone
  CHECK(shown(a) == "2");
  stream_box c(std::move(a));
  CHECK(shown(a) == "nothing");
  CHECK(shown(c) == "2");
  c = std::move(*&c);
  CHECK(shown(c) == "2");
  c.reset();
  CHECK(shown(c) == "nothing");
  c.reset();
}

TEST_CASE("a small stream lies inside its box, a large one does not, and both may change places") {
  auto inside = [](const stream_box& b) {
    auto* at = reinterpret_cast<const char*>(&*b);
    return at == reinterpret_cast<const char*>(&b);
  };
  stream_box a = stream_box::of<small>(1), b = stream_box::of<large>(2);
  CHECK(sizeof a == stream_box::room);
  CHECK(inside(a));
  CHECK_FALSE(inside(b));
  std::swap(a, b);
  CHECK(shown(a) + shown(b) == "21");
  CHECK(inside(b));
}
