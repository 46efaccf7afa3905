// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/detail/client/machine.hpp"
#include "hailwire/proto/response_reader.hpp"

namespace hailwire::detail {

/// Follows by a row of polls over one connection, which is made anew where the server does not keep it.
class poll_link final : public client_link {
 public:
  /// `holds`: the server is asked to hold a poll until there is something to tell.
  poll_link(client_machine& m, bool holds) : machine_(m), holds_(holds) {}

  void connected() override {
    machine_.reached();
    connected_ = true;
    ask();
  }

  void receive(std::span<char> in) override {
    using step = proto::http1::response_reader::step;
    while (machine_.lives(this) && answer_) {
      const auto s = answer_->read(in);
      if (s == step::failed) return wrong(answer_->error().text());
      if (s == step::need_more) return;
      if (s == step::done) answered();
    }
    // What nobody asked for is not an answer of ours.
    if (machine_.lives(this) && !answer_ && !in.empty()) machine_.lose("bad_answer", 0, "bytes behind an answer");
  }

  void ended() override {
    const bool was_open = std::exchange(connected_, false);
    if (!answer_) {  // between two polls the next one connects anew; before the first there was no connection
      if (!machine_.following()) machine_.lose("unreachable");
      return;
    }
    const bool began = answer_->began();
    if (began && answer_->end() == proto::http1::response_reader::step::done) return answered();
    if (was_open && !began && reused_) return reconnect();  // it went while the request was on its way
    if (machine_.following() || !machine_.was_reached())
      return machine_.lose(machine_.was_reached() && was_open ? "lost" : "unreachable");
    machine_.fall("lost");
  }

  void alarm() override {
    const bool late = answer_.has_value();
    due_ = client_machine::never;
    if (late) return machine_.lose("silent", 0, "a poll was not answered in time");
    if (connected_) return ask();
    reconnect();
  }
  std::int64_t due() const noexcept override { return due_; }

 private:
  void reconnect() {
    machine_.disconnect(client_lane::follow);
    connected_ = reused_ = false;
    answer_.emplace("GET", machine_.options().max_object);  // it is due from now on
    due_ = machine_.now() + machine_.patience();
    machine_.connect(client_lane::follow, machine_.place());
  }

  void ask() {
    // The first is not held, so that it is known at once that the server answers.
    const auto hold = holds_ && machine_.following() ? machine_.options().hold.count() : 0;
    answer_.emplace("GET", machine_.options().max_object);
    asked_ = machine_.now();
    due_ = asked_ + hold * 1000 + machine_.patience();
    std::string out;
    machine_.append_request(out, "GET", machine_.target(true, holds_ ? "wait=" + std::to_string(hold) : std::string()),
                            "Accept: application/json\r\nCache-Control: no-store\r\n");
    machine_.write(client_lane::follow, out);
  }

  void answered() {
    const int status = answer_->head().status;
    const auto least = proto::http1::retry_after(answer_->head(), 3'600'000).value_or(0);
    const std::string body = std::move(answer_->body);
    const bool kept = connected_ && answer_->keeps_connection();
    const bool held = machine_.now() - asked_ >= 1000;
    answer_.reset();
    if (status != 200 && status != 304) {
      if (status < 400) return machine_.fall("http_" + std::to_string(status), "the answer is no poll's");
      return machine_.turned_away(status, least, body);
    }
    bool more = false, some = false;
    const bool first = !machine_.following();
    if (status == 200 && !machine_.hear_poll(body, more, some)) return;
    if (first) machine_.opened();
    if (!machine_.lives(this)) return;
    if (!kept) {
      connected_ = false;
      machine_.disconnect(client_lane::follow);
    }
    reused_ = kept;
    // An empty answer that came at once means that nobody holds polls here: then ask at a short poll's pace.
    const bool at_once = more || (holds_ && (some || first || held));
    if (!at_once) {
      due_ = machine_.now() + machine_.options().poll_interval.count();
    } else if (kept) {
      ask();
    } else {
      reconnect();
    }
  }

  void wrong(std::string_view why) {
    machine_.following() ? machine_.lose("bad_answer", 0, why) : machine_.fall("bad_answer", why);
  }

  client_machine& machine_;
  std::optional<proto::http1::response_reader> answer_;  // that is due
  std::int64_t due_ = client_machine::never, asked_ = 0;
  bool holds_, connected_ = false;
  bool reused_ = false;  // the connection has served a poll before
};

}  // namespace hailwire::detail
