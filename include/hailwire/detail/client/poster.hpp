// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/client/machine.hpp"
#include "hailwire/proto/response_reader.hpp"

namespace hailwire::detail {

/// Posts commands where the link cannot carry them: one request at a time, so that they take effect in order, and an
/// array in each, so that every command has an answer of its own.
class command_poster final : public client_errands {
 public:
  explicit command_poster(client_machine& m) : machine_(m) {}

  void flush() override {
    if (answer_ || !machine_.may_send()) return;
    std::string body;
    while (ids_.size() < most_commands && body.size() < most_bytes) {
      const auto* c = machine_.next_command();
      if (!c) break;
      body += body.empty() ? '[' : ',';
      body += c->text();
      ids_.push_back(c->id);
    }
    if (ids_.empty()) return;
    body += ']';
    request_.clear();
    machine_.append_request(
        request_, "POST", machine_.target(false),
        "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n");
    request_ += body;
    begin();
  }

  void connected() override {
    connected_ = true;
    if (answer_) machine_.write(client_lane::command, request_);
  }
  void receive(std::span<char> in) override {
    using step = proto::http1::response_reader::step;
    while (answer_) {
      const auto s = answer_->read(in);
      if (s == step::need_more) return;
      if (s == step::failed) return failed();
      if (s == step::done) answered();
    }
  }
  void ended() override {
    const bool was_open = std::exchange(connected_, false);
    if (!answer_) return;
    if (answer_->began() && answer_->end() == proto::http1::response_reader::step::done) return answered();
    // A connection that was kept may go while the request is on its way: nothing of it was read then, mostly; what must
    // not be sent twice is not.
    if (was_open && reused_ && !answer_->began() && repeatable()) {
      reused_ = false;
      return begin();
    }
    failed();
  }
  void alarm() override { failed(); }
  std::int64_t due() const noexcept override { return due_; }
  void reset() override {
    answer_.reset();
    ids_.clear();
    request_ = {};
    connected_ = reused_ = false;
    due_ = client_machine::never;
  }

 private:
  /// PROTOCOL: at most 64 commands a POST; and bodies that any server takes.
  static constexpr std::size_t most_commands = 64, most_bytes = std::size_t{64} << 10;

  void begin() {
    answer_.emplace("POST", machine_.options().max_object);
    due_ = machine_.now() + machine_.patience();
    if (connected_) {
      machine_.write(client_lane::command, request_);
    } else {
      machine_.disconnect(client_lane::command);
      machine_.connect(client_lane::command, machine_.place());
    }
  }
  bool repeatable() {
    bool fine = true;
    machine_.commands().each_unanswered([&](const client_command& c) {
      fine = fine && (c.what == client_command::kind::publish || c.what == client_command::kind::question);
    });
    return fine;
  }

  /// Nothing came back, or nothing that can be read.
  void failed() {
    reset();
    machine_.disconnect(client_lane::command);
    machine_.commands().requeue(machine_.now());
    machine_.pause(0);
  }

  void answered() {
    const int status = answer_->head().status;
    const auto least = proto::http1::retry_after(answer_->head(), 3'600'000).value_or(0);
    const std::string body = std::move(answer_->body);
    const bool kept = connected_ && answer_->keeps_connection();
    auto ids = std::move(ids_);
    reset();
    reused_ = connected_ = kept;
    if (!kept) machine_.disconnect(client_lane::command);
    vector<proto::json::value> replies;
    if (status == 200 && !proto::json::split_array(body, replies)) {
      machine_.resume_commands();
      for (auto& r : replies) read_reply(r.text, &r == &replies[0]);
      bool left = false;
      machine_.commands().each_unanswered([&](auto&) { left = true; });
      if (left) machine_.commands().requeue(machine_.now()), machine_.pause(least);
      return;
    }
    if (status == 401 && machine_.expired(5'000)) return;
    if (status == 200 || status == 408 || status == 429 || status >= 500) {
      machine_.commands().requeue(machine_.now());
      return machine_.pause(least);
    }
    const client_error why = read_refusal(status, body);
    for (auto id : ids) machine_.commands().answer(id, why, {});
    if (status == 401) machine_.stop("unauthenticated", why.message);
  }

  void read_reply(std::string_view json, bool first) {
    vector<proto::json::member> members;
    if (proto::json::read_object(json, members)) return;
    std::uint64_t id = machine_.commands().oldest();
    client_error error;
    std::string_view ok = "{}";
    for (auto& m : members) {
      if (name_is(m, "reply") && m.content.type == proto::json::kind::number)
        id = proto::json::to_uint(m.content, max_offset).value_or(0);
      if (name_is(m, "ok")) ok = m.content.text;
      if (name_is(m, "error")) error = read_error(m.content.text);
    }
    if (!first && error.code == errc::too_large && machine_.commands().ask_first(id)) return;
    machine_.answered(id, error, ok);
  }

  client_machine& machine_;
  std::optional<proto::http1::response_reader> answer_;  // that is due
  std::vector<std::uint64_t> ids_;
  std::string request_;
  std::int64_t due_ = client_machine::never;
  bool connected_ = false, reused_ = false;
};

}  // namespace hailwire::detail
