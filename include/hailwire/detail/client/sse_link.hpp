// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/detail/client/machine.hpp"
#include "hailwire/proto/response_reader.hpp"
#include "hailwire/proto/sse_reader.hpp"

namespace hailwire::detail {

/// Follows an event stream. Its ids are not needed: the cursor is in what its events say.
class sse_link final : public client_link {
 public:
  explicit sse_link(client_machine& m) : machine_(m), response_("GET", UINT64_MAX), events_(m.options().max_object) {}

  void connected() override {
    machine_.reached();
    std::string out;
    machine_.append_request(out, "GET", machine_.target(true),
                            "Accept: text/event-stream\r\nCache-Control: no-store\r\n");
    machine_.write(client_lane::follow, out);
  }

  void receive(std::span<char> in) override {
    using step = proto::http1::response_reader::step;
    while (machine_.lives(this)) {
      const auto s = response_.read(in);
      if (s == step::failed) return wrong(response_.error().text());
      if (s == step::head) {
        const auto& h = response_.head();
        auto type = h.find("content-type");
        streams_ = h.status == 200 && proto::iequals(proto::trim(type.substr(0, type.find(';'))), "text/event-stream");
        continue;
      }
      if (!streams_) {
        if (response_.body.size() > max_refusal) return refused();
        return s == step::done ? refused() : void();
      }
      if (!take_events()) return;
      if (s == step::done) return over();
      if (in.empty()) return;
    }
  }

  void ended() override {
    if (response_.has_head() && !streams_) return refused();
    over();
  }

 private:
  static constexpr std::size_t max_refusal = std::size_t{64} << 10;

  /// False when the link is over.
  bool take_events() {
    const std::string piece = std::exchange(response_.body, {});
    std::string_view rest = piece;
    proto::sse_event e;
    for (;;) {
      const auto p = events_.next(rest, e);
      if (p == proto::sse_reader::progress::failed) return wrong("an event is too large"), false;
      if (events_.retry()) machine_.retry(*events_.retry());
      if (p == proto::sse_reader::progress::need_more) return true;
      if (!machine_.hear(e.data)) return false;
    }
  }
  void wrong(std::string_view why) {
    machine_.following() ? machine_.lose("bad_answer", 0, why) : machine_.fall("bad_answer", why);
  }
  void over() {
    const bool opened = machine_.following(), reached = machine_.was_reached();
    opened || !reached ? machine_.lose(reached ? "lost" : "unreachable") : machine_.fall("lost");
  }
  void refused() {
    const auto& h = response_.head();
    if (h.status < 400) return machine_.fall("http_" + std::to_string(h.status), "the answer is no event stream");
    machine_.turned_away(h.status, proto::http1::retry_after(h, 3'600'000).value_or(0), response_.body);
  }

  client_machine& machine_;
  proto::http1::response_reader response_;
  proto::sse_reader events_;
  bool streams_ = false;
};

}  // namespace hailwire::detail
