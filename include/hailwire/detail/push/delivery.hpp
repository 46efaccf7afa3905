// SPDX-License-Identifier: BSL-1.0
#pragma once

// Notices on their way to a push service: which waits, which is sent, which is tried again and when. No socket and no
// clock: requests, answers and time are given to it.
//
// How it works. A notice waits in a line; the first of the line is sent while fewer than `max_in_flight` are on their
// way. One that the service could not take now (429, 5xx, no answer) goes back and is due again after what the service
// has asked for (`Retry-After`) and a random time that doubles, the latter so that what failed together does not come
// back together. Where it is the service that has no room, and not the one device, the whole line waits. A notice that
// has become old or was tried often is given up: the device hears of what it missed when it comes back by itself.
// A service that wants a credential of its own first (OAuth 2) is asked for it while the line waits.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/net/backoff.hpp"
#include "hailwire/push/notifier.hpp"

namespace hailwire {

/// The bounds of a notifier.
struct push_limits {
  /// Notices that wait or are on their way; more are dropped and counted. A notice is small, and a service that is away
  /// for a minute must not lose what an office full of people causes in it.
  std::size_t max_waiting = 10'000;
  /// Requests at a time. Over HTTP/2 they share a connection; APNs and FCM allow about a thousand on one.
  std::size_t max_in_flight = 64;
  /// Attempts of one notice.
  unsigned max_attempts = 6;
  /// A notice that could not be delivered for so long is given up.
  std::chrono::seconds give_up{15 * 60};
  /// The random time behind the first failure is at most this, and doubles up to `longest_retry`.
  std::chrono::milliseconds first_retry{1000};
  std::chrono::milliseconds longest_retry{60'000};
  /// The time that one request has.
  std::chrono::seconds request_time{30};
};

namespace detail {

/// A request to a push service. Always a POST.
struct push_request {
  std::string url;
  std::vector<std::string> headers = {};  ///< whole lines: `Name: value`
  std::string body = {};
  bool public_only = false;  ///< connects to public addresses alone: somebody else has named the host
};

/// Its answer, or why there is none.
struct push_response {
  int status = 0;  ///< 0: none came
  std::string body = {};
  std::int64_t retry_after = 0;  ///< seconds; 0: not said
  std::string error = {};        ///< why none came, for people
  bool forbidden = false;        ///< none was sought: the address is one that must not be connected to
};

/// What is done with an answer.
struct push_verdict {
  enum class what : std::uint8_t {
    delivered,
    gone,
    failed,
    retry,  ///< this notice, later
    wait,   ///< this one later, and nothing else before that
    renew,  ///< the credential is no good: another is asked for, and the notice is sent again
  };
  what next = what::failed;
  std::string reason = {};
};

/// One notice and what stays the same over its attempts.
struct push_job {
  push_device to;
  push_notice what;
  std::string id;  ///< random: the same for every attempt
  push_handler done = nullptr;
  std::int64_t born = 0;   ///< as the transport's `now` counts
  std::int64_t began = 0;  ///< the same moment, Unix milliseconds
  unsigned attempts = 0;
  backoff wait = {};
};

/// What a service's own rules make of notices and answers. Times are Unix milliseconds.
class push_provider {
 public:
  virtual ~push_provider() = default;
  /// The request that brings a credential, when one is due; the line waits for its answer.
  virtual std::optional<push_request> credential(std::int64_t /*now*/) { return {}; }
  /// Takes the answer to it; why not, where it is none.
  virtual std::string take_credential(const push_response& /*answer*/, std::int64_t /*now*/) { return {}; }
  /// The request for one attempt; a failure ends the notice.
  virtual result<push_request> write(const push_job& job, std::int64_t now) = 0;
  virtual push_verdict judge(const push_job& job, const push_response& answer, std::int64_t now) = 0;
};

/// Who sends, and has the time.
class push_transport {
 public:
  using answered = move_only_function<void(push_response)>;
  /// Calls `done` later, never from within this call.
  virtual void send(push_request r, answered done) = 0;
  /// `push_delivery::alarm` is called at `at` or a little later; replaces an earlier one. `INT64_MAX`: not at all.
  virtual void alarm_at(std::int64_t at) = 0;
  virtual std::int64_t now() const noexcept = 0;        ///< milliseconds that only rise
  virtual std::int64_t unix_time() const noexcept = 0;  ///< milliseconds
  virtual void random(std::span<unsigned char> out) = 0;

 protected:
  ~push_transport() = default;
};

/// The answers that every service gives in the same sense (RFC 9110, RFC 6585).
inline push_verdict judge_status(const push_response& r) {
  using enum push_verdict::what;
  if (r.status == 0) return {r.forbidden ? failed : wait, r.error};
  if (r.status >= 200 && r.status < 300) return {delivered, {}};
  std::string reason = "status " + std::to_string(r.status);
  if (r.status == 429) return {retry, std::move(reason)};
  if (r.status >= 500) return {r.status == 503 ? wait : retry, std::move(reason)};
  return {failed, std::move(reason)};
}

/// See the top of this file. All on the transport's thread, but for `reserve` and `counters`.
class push_delivery {
 public:
  push_delivery(push_transport& t, push_provider& p, const push_limits& l) : transport_(t), provider_(p), limits_(l) {}

  /// Makes room for one notice; false, and it is counted as dropped, when there is none. Safe from any thread.
  bool reserve() noexcept {
    if (waiting_.fetch_add(1, std::memory_order_relaxed) < limits_.max_waiting) return true;
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    dropped_.fetch_add(1, std::memory_order_relaxed);
    failed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  /// Takes a notice for which there is room.
  void add(push_device to, push_notice what, push_handler done) {
    push_job job{std::move(to), std::move(what), make_id(), std::move(done)};
    job.born = transport_.now();
    job.began = transport_.unix_time();
    line_.push_back(std::move(job));
    advance();
  }
  void alarm() { advance(); }

  /// Safe from any thread.
  push_counters counters() const noexcept {
    auto get = [](const std::atomic<std::uint64_t>& n) { return n.load(std::memory_order_relaxed); };
    return {get(delivered_), get(gone_), get(failed_), get(dropped_), get(retried_), get(waiting_)};
  }

 private:
  std::string make_id() {
    std::array<unsigned char, 15> bytes;
    transport_.random(bytes);
    std::string id;
    proto::append_base64(id, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, proto::base64url_letters);
    return id;
  }
  std::uint64_t random() {
    std::array<unsigned char, 8> bytes;
    transport_.random(bytes);
    std::uint64_t n = 0;
    for (unsigned char b : bytes) n = n << 8 | b;
    return n;
  }
  std::int64_t pause(backoff& b, std::int64_t retry_after) {
    return std::min(retry_after, std::int64_t{1'000'000}) * 1000 +
           b.next(limits_.first_retry.count(), limits_.longest_retry.count(), random()) + 1;
  }

  void advance() {
    const std::int64_t now = transport_.now();
    // Those whose time has come are sent before newer ones.
    for (auto due = later_.begin(); due != later_.end() && due->first <= now; due = later_.erase(due))
      line_.push_front(std::move(due->second));
    // A service that has failed is tried with one notice before it is given more.
    const std::size_t most = calm_.attempts() == 0 ? limits_.max_in_flight : 1;
    while (!line_.empty() && now >= held_until_ && !asking_ && in_flight_ < most) {
      if (too_old(line_.front(), now)) {
        end(take_first(), {push_outcome::failed, "given up: " + std::string(last_reason())});
        continue;
      }
      if (auto r = provider_.credential(transport_.unix_time())) {
        ask(std::move(*r));
        break;
      }
      start(take_first());
    }
    std::int64_t next = later_.empty() ? INT64_MAX : later_.begin()->first;
    if (!line_.empty() && now < held_until_ && !asking_) next = std::min(next, held_until_);
    transport_.alarm_at(next);
  }
  push_job take_first() {
    push_job job = std::move(line_.front());
    line_.pop_front();
    return job;
  }
  bool too_old(const push_job& job, std::int64_t now) const noexcept {
    return now - job.born > std::chrono::milliseconds(limits_.give_up).count();
  }
  std::string_view last_reason() const noexcept { return reason_.empty() ? "too old" : std::string_view(reason_); }

  void ask(push_request r) {
    asking_ = true;
    transport_.send(std::move(r), [this](push_response answer) {
      asking_ = false;
      std::string why = provider_.take_credential(answer, transport_.unix_time());
      if (why.empty()) {
        asked_.reset();
      } else {
        reason_ = "no credential: " + why;
        held_until_ = transport_.now() + pause(asked_, answer.retry_after);
      }
      advance();
    });
  }
  void start(push_job job) {
    auto r = provider_.write(job, transport_.unix_time());
    if (!r) return end(std::move(job), {push_outcome::failed, std::string(r.error().text())});
    ++in_flight_;
    if (job.attempts++ > 0) retried_.fetch_add(1, std::memory_order_relaxed);
    transport_.send(std::move(*r), [this, job = std::move(job)](push_response answer) mutable {
      --in_flight_;
      judge(std::move(job), answer);
      advance();
    });
  }
  void judge(push_job job, const push_response& answer) {
    using enum push_verdict::what;
    push_verdict v = provider_.judge(job, answer, transport_.unix_time());
    if (v.next == delivered) {
      if (transport_.now() >= held_until_) calm_.reset();  // not for one that was sent before the service failed
      return end(std::move(job), {push_outcome::delivered, {}});
    }
    if (v.next == gone) return end(std::move(job), {push_outcome::gone, std::move(v.reason)});
    if (v.next == failed) return end(std::move(job), {push_outcome::failed, std::move(v.reason)});
    const std::int64_t now = transport_.now(), due = now + pause(job.wait, answer.retry_after);
    reason_ = v.reason;
    if (v.next == wait) hold(now, answer.retry_after);
    // While the service is away it is time that bounds, for no notice is to blame.
    if ((v.next != wait && job.attempts >= limits_.max_attempts) || too_old(job, due))
      return end(std::move(job), {push_outcome::failed, "given up: " + v.reason});
    if (v.next == renew) {
      line_.push_front(std::move(job));
    } else {
      later_.emplace(due, std::move(job));
    }
  }
  // Of what fails together only the first makes the whole line wait longer.
  void hold(std::int64_t now, std::int64_t retry_after) {
    const std::int64_t until = now >= held_until_ ? now + pause(calm_, retry_after) : now + retry_after * 1000;
    held_until_ = std::max(held_until_, until);
  }
  void end(push_job job, push_result r) {
    auto& count = r.outcome == push_outcome::delivered ? delivered_ : r.outcome == push_outcome::gone ? gone_ : failed_;
    count.fetch_add(1, std::memory_order_relaxed);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    try {
      if (job.done) job.done(std::move(r));
    } catch (...) {  // nobody is there to tell; the other notices go on
    }
  }

  push_transport& transport_;
  push_provider& provider_;
  push_limits limits_;
  std::deque<push_job> line_;
  std::multimap<std::int64_t, push_job> later_;  // by when they are due
  std::size_t in_flight_ = 0;
  bool asking_ = false;
  std::int64_t held_until_ = INT64_MIN;
  backoff calm_, asked_;  // of the whole line
  std::string reason_;
  std::atomic<std::uint64_t> waiting_{0}, delivered_{0}, gone_{0}, failed_{0}, dropped_{0}, retried_{0};
};

}  // namespace detail
}  // namespace hailwire
