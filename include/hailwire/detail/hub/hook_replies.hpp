// SPDX-License-Identifier: BSL-1.0
#pragma once

// What hosts have been asked and have not answered: each hook that may answer later has `options::hook_time`, then the
// client is told `timeout` and the late answer goes nowhere. A host may answer, and drop what it could answer with, on
// any thread; the answer is given on the hub's.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/mailbox.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

class hook_replies final : timer {
 public:
  explicit hook_replies(hub& h) noexcept : hub_(&h) {}
  HAILWIRE_INLINE ~hook_replies() override;

  /// A reply for a hook, of which `hook` is the name, a literal. `f` is called at most once, on the hub's loop: with
  /// what the host answers, with `internal` when it drops the reply, or with `timeout`. Once the hub has stopped,
  /// answers of other threads go nowhere.
  template <class Answer, class F>
  reply_to<Answer> make(std::string_view hook, F f) {
    auto one = std::make_shared<asked_of<Answer, F>>(hook, std::move(f));
    one->due = hub_->loop().now() + std::chrono::milliseconds(hub_->settings().hook_time).count();
    if (!armed() && !resting_) hub_->arm(*this, one->due);
    link(one);
    return reply_to<Answer>([one = std::move(one), box = hub_->post_box(), of = this](Answer a) mutable {
      auto give = [one, of, a = std::move(a)]() mutable {
        if (one->self) of->answered(*one, std::move(a));  // else it is too late, and `of` may be gone
      };
      box->here() ? give() : static_cast<void>(box->put(std::move(give), [] {}));
    });
  }
  /// Nobody is told `timeout` any more, because the server stops and has told everybody something else: so it does not
  /// keep the loop waiting.
  void rest() noexcept;
  std::size_t size() const noexcept { return size_; }

 private:
  // Asked of a host. While it is linked it keeps itself, so that whichever thread drops the reply never has to unlink
  // it.
  struct asked {
    explicit asked(std::string_view h) noexcept : hook(h) {}
    virtual ~asked() = default;
    virtual void time_out() = 0;
    std::string_view hook;
    std::int64_t due = 0;
    std::shared_ptr<asked> self;  // null once it is answered
    asked *older = nullptr, *younger = nullptr;
  };
  template <class Answer, class F>
  struct asked_of final : asked {
    asked_of(std::string_view h, F&& answer) : asked(h), f(std::move(answer)) {}
    void time_out() override { f(Answer(failure(errc::timeout, "the host did not answer in time"))); }
    F f;
  };

  template <class Answer, class F>
  void answered(asked_of<Answer, F>& one, Answer&& a) {
    auto kept = unlink(one);
    one.f(std::move(a));
  }
  void link(std::shared_ptr<asked> one) noexcept;
  std::shared_ptr<asked> unlink(asked& one) noexcept;
  HAILWIRE_INLINE void expire(std::int64_t now) override;

  hub* hub_;
  asked *oldest_ = nullptr, *youngest_ = nullptr;
  std::size_t size_ = 0;
  bool resting_ = false;
  log_rate late_;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/hook_replies.ipp"
#endif
