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

#include "hailwire/detail/client/machine.hpp"
#include "hailwire/detail/net/backoff.hpp"
#include "hailwire/proto/response_reader.hpp"

namespace hailwire::detail {

/// Fetches content, one after the other: `GET {path}/messages?channel=…&epoch=…&offset=…`. What has arrived before a
/// cut is kept, and the rest asked for with `Range` and `If-Range` (RFC 9110, sections 14.2 and 13.1.5). Goes where the
/// server sends it, without the client's token when that is another host.
class content_fetcher final : public client_errands {
 public:
  explicit content_fetcher(client_machine& m) : machine_(m) {}

  void flush() override {
    if (!answer_ && !machine_.fetches().empty() && machine_.now() >= again_at_) ask();
  }
  void connected() override {
    connected_ = true;
    if (answer_) machine_.write(client_lane::content, request_);
  }
  void receive(std::span<char> in) override {
    using step = proto::http1::response_reader::step;
    due_ = machine_.now() + machine_.patience();  // a large content may take long, but moves
    while (answer_) {
      const auto s = answer_->read(in);
      if (s == step::failed) return broken(std::string(answer_->error().text()));
      if (s == step::head) {
        take_head();
        continue;
      }
      if (answer_ && brings_ && got_.size() + answer_->body.size() > machine_.options().max_content)
        return end({make_error_code(errc::too_large), "the content is over client_options::max_content"});
      if (s == step::need_more) return;
      if (s == step::done) answered();
    }
  }
  void ended() override {
    const bool was_open = std::exchange(connected_, false);
    if (!answer_) return;
    if (answer_->began() && answer_->end() == proto::http1::response_reader::step::done) return answered();
    if (was_open && std::exchange(reused_, false) && !answer_->began()) return ask();
    broken(was_open ? "the connection ended within the content" : "unreachable");
  }
  void alarm() override { answer_ ? broken("the content does not come in time") : flush(); }
  std::int64_t due() const noexcept override {
    return answer_ ? due_ : again_at_ > 0 && !machine_.fetches().empty() ? again_at_ : client_machine::never;
  }
  void reset() override {
    answer_.reset();
    connected_ = reused_ = false;
  }

 private:
  /// Attempts one after the other that bring nothing new, and redirects one after the other.
  static constexpr unsigned most_tries = 5, most_hops = 5;

  void ask() {
    const client_fetch& f = machine_.fetches().front();
    const auto& base = machine_.place();
    proto::url at = elsewhere_ ? *elsewhere_ : base;
    const bool ours = at.secure == base.secure && at.authority() == base.authority();
    if (!elsewhere_) {
      at.path += at.path.ends_with('/') ? "messages" : "/messages";
      proto::append_query(at.query, "channel", f.channel);
      proto::append_query(at.query, "epoch", f.at.epoch);
      proto::append_query(at.query, "offset", std::to_string(f.at.offset));
    }
    request_ = "GET " + at.path + (at.query.empty() ? "" : "?" + at.query) + " HTTP/1.1\r\nHost: " + at.authority() +
               "\r\nAccept: */*\r\n";
    if (got_.size() > 0) request_ += "Range: bytes=" + std::to_string(got_.size()) + "-\r\nIf-Range: " + tag_ + "\r\n";
    if (ours) machine_.append_own_headers(request_);
    request_ += "\r\n";
    answer_.emplace("GET", UINT64_MAX);
    brings_ = false;
    again_at_ = 0;
    due_ = machine_.now() + machine_.patience();
    if (connected_) return machine_.write(client_lane::content, request_);
    machine_.disconnect(client_lane::content);
    machine_.connect(client_lane::content, at);
  }

  void take_head() {
    const auto& h = answer_->head();
    brings_ = h.status == 200 || h.status == 206;
    if (!brings_) return;
    // What comes is the rest, or all of it from the beginning.
    const std::string from = "bytes " + std::to_string(got_.size()) + "-";
    if (h.status == 206 && (got_.empty() || !h.find("content-range").starts_with(from))) {
      got_.clear();
      return broken("another part of the content than was asked for");
    }
    if (h.status == 200) got_.clear();
    type_ = h.find("content-type");
    tag_ = h.find("etag");
    if (!tag_.starts_with('"')) tag_.clear();  // only a strong one joins parts
  }

  void answered() {
    const int status = answer_->head().status;
    if (brings_) return end({});
    if (answer_->body.size() > max_refusal) answer_->body.clear();
    const auto least = proto::http1::retry_after(answer_->head(), 3'600'000).value_or(0);
    if (status >= 300 && status < 400) return go(std::string(answer_->head().find("location")));
    const client_error why = read_refusal(status, answer_->body);
    if (status == 401 && !elsewhere_) {
      stop_asking();
      if (!machine_.expired(5'000)) end(why);  // else it is asked for again, with another token
      return;
    }
    if (status == 416) got_.clear(), tag_.clear();
    if (status == 408 || status == 416 || status == 429 || status >= 500) return failed(why, least);
    end(why);
  }

  /// A redirect (RFC 9110, section 15.4): to a place where content lies. Never from https to http.
  void go(std::string_view location) {
    const proto::url from = elsewhere_ ? *elsewhere_ : machine_.place();
    auto to = proto::resolve_url(from, location);
    if (!to || (from.secure && !to->secure) || ++hops_ > most_hops)
      return end({make_error_code(errc::internal), "the content is said to be where nobody can go"});
    stop_asking();
    elsewhere_ = std::make_unique<proto::url>(std::move(*to));
    ask();
  }

  /// It broke in the middle: what came is kept where it can be joined with the rest.
  void broken(const std::string& why) {
    if (answer_ && brings_ && !answer_->body.empty() && !tag_.empty()) {
      got_ += answer_->body;
      tries_ = 0;
    } else if (tag_.empty()) {
      got_.clear();
    }
    failed({std::make_error_code(std::errc::connection_aborted), why}, 0);
  }
  void failed(const client_error& why, std::int64_t least) {
    if (++tries_ >= most_tries) return end(why);
    stop_asking();
    elsewhere_.reset();  // it may have been moved
    hops_ = 0;
    again_at_ = machine_.now() + least +
                backoff_.next(machine_.options().first_wait.count(), machine_.options().most_wait.count(),
                              machine_.random_word());
  }
  void stop_asking() {
    reset();
    machine_.disconnect(client_lane::content);
  }

  void end(const client_error& why) {
    client_content what;
    if (!why) {
      what.bytes = std::move(got_);
      what.bytes += answer_->body;
      what.type = std::move(type_);
    }
    const bool kept = !why && connected_ && !elsewhere_ && answer_->keeps_connection();
    auto& row = machine_.fetches();
    client_fetch f = std::move(row.front());
    row.erase(row.begin());
    if (kept && !row.empty()) {
      answer_.reset();
      reused_ = true;
    } else {
      stop_asking();
    }
    got_.clear(), tag_.clear(), type_.clear();
    elsewhere_.reset();
    tries_ = hops_ = 0;
    again_at_ = 0;
    backoff_.reset();
    machine_.end_fetch(std::move(f), why, std::move(what));
  }

  /// What a refusal's body may have: a problem document is small.
  static constexpr std::size_t max_refusal = std::size_t{64} << 10;

  client_machine& machine_;
  std::optional<proto::http1::response_reader> answer_;  // that is due
  std::string request_, got_, tag_, type_;               // `got_` came over earlier connections
  std::unique_ptr<proto::url> elsewhere_;                // where a redirect has sent us
  backoff backoff_;
  std::int64_t due_ = client_machine::never, again_at_ = 0;
  unsigned tries_ = 0, hops_ = 0;
  bool connected_ = false, reused_ = false, brings_ = false;
};

}  // namespace hailwire::detail
