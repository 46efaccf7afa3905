// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport's stream overrides name, messages, notice, beat and end of hailwire::transport::stream
#include "hailwire/transport/stream.hpp"

using namespace hailwire;

struct endless : transport::stream {
  std::string_view name() const noexcept override { return "endless"; }
  const proto::encoding& messages() const noexcept override { return how; }
  bool notice(std::string&, std::string_view, std::string_view, std::string_view) override { return true; }
  void beat(std::string&) override {}
  static constexpr proto::encoding how{"endless", true, [](std::string&, const proto::envelope&) {}};
};
void use() { transport::stream_box::of<endless>(); }
