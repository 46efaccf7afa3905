// SPDX-License-Identifier: BSL-1.0
// A client of a hub that takes everything at once, a grant for it, and hubs whose clocks go together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/hub.hpp"

namespace hub_tests {

using namespace hailwire;

inline grant of(std::string user, std::string info = {}) {
  grant g;
  g.user = std::move(user);
  g.info = std::move(info);
  g.follow = channel_set::all();
  return g;
}

/// What it is sent is in `got`. It is at the hub until it leaves, at the latest when it is destroyed.
class test_session : public session {
 public:
  /// `poll`: a client whose connection lasts for one answer.
  test_session(hub& h, const proto::encoding& how, grant g, std::string device = {}, bool poll = false)
      : hub_(&h), how_(&how), poll_(poll) {
    h.enter(*this);
    h.open(*this, std::move(g), std::move(device), true);
  }
  ~test_session() override {
    leave();
    hub_->forget(*this);
    hub_->leave(*this);
  }
  void leave() {
    if (std::exchange(there_, false)) hub_->close(*this);
  }
  /// How following began, or the code of an error; empty: not yet.
  std::string follow(const std::string& channel = "c", const start& from = start::latest()) {
    began_.clear();
    hub_->subscriptions.add(*this, channel, from, true, [this](result<follow_start> r) {
      began_ = !r ? std::string(code_name(r.error().code))
                  : std::to_string(r->at.offset) + (r->recovered            ? ""
                                                    : r->lost.epoch_changed ? " epoch"
                                                                            : " trimmed");
      hub_->turn.request_wake(*this);
    });
    return began_;
  }
  void unfollow(const std::string& channel = "c") { hub_->subscriptions.remove(*this, channel); }
  std::string take() { return std::exchange(got, {}); }
  void permit_to(grant g) { static_cast<void>(session::permit(shared_grant(std::move(g)))); }

  std::string got;

 protected:
  hub& home() const noexcept { return *hub_; }

 private:
  void wake(detail::subscription* s) override {
    for (const auto& c : channels()) {
      auto* at = hub_->subscriptions.find(*this, c);
      if (s && at != s) continue;
      for (auto bytes = at->pending(); !bytes.empty(); bytes = at->live() ? bytes.first(0) : at->pending()) {
        got.append(bytes.data(), bytes.size());
        at->advance(bytes.size());
      }
    }
  }
  void settle() override {}
  void lost(detail::subscription&, const detail::gap&) override {}
  void keep(detail::subscription&, std::string_view) override {}
  void missed(detail::subscription&) override { got += "[missed]"; }
  void unreadable(detail::subscription&, std::error_code) override {}
  std::error_code notice(std::string_view name, std::string_view json) override {
    got.append("own ").append(name).append(json);
    return {};
  }
  void end(errc, std::uint16_t, std::string_view) override {}
  bool ending() const noexcept override { return false; }
  bool adjustable() const noexcept override { return !poll_; }
  bool duplex() const noexcept override { return !poll_; }
  bool ends_with_answer() const noexcept override { return poll_; }
  hub& at() const noexcept override { return *hub_; }
  std::string_view transport() const noexcept override { return "test"; }
  const proto::encoding& encoding() const noexcept override { return *how_; }

  hub* hub_;
  const proto::encoding* how_;
  const bool poll_;
  bool there_ = true;
  std::string began_;
};

/// Hubs whose clocks go together. A `Node` has a `loop` of its own and its hub `h`.
template <class Node>
struct hubs_together {
  void run() {
    for (bool more = true; more;) {
      more = false;
      for (auto& n : nodes) more = n->loop.run() > 0 || more;
    }
  }
  void advance(std::int64_t ms) {
    run();
    for (; ms > 0; ms -= 100) {
      for (auto& n : nodes) n->loop.advance(std::min<std::int64_t>(ms, 100));
      run();
    }
  }
  hub& operator[](std::size_t i) { return nodes[i]->h; }
  std::vector<std::unique_ptr<Node>> nodes;
};

}  // namespace hub_tests
