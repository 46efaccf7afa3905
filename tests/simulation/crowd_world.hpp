// SPDX-License-Identifier: BSL-1.0
#pragma once

// What lies under and between the hubs of a crowd: a storage that all of them share, and that outlives those that
// crash; a broker that loses and delays what is live-only; and what the clients know of one another, against which all
// that they are told is held.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/broker/in_process.hpp"
#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/testing/manual_loop.hpp"
#include "record.hpp"

namespace crowd {

using namespace hailwire;
using simulation::dice;

/// The logs and the watermarks, which are there whatever becomes of a hub.
class common_storage {
 public:
  explicit common_storage(std::size_t retention) : retention_(retention) {}

  struct channel_state {
    std::string epoch;
    std::deque<message> kept;
    std::uint64_t head = 0;
    std::map<std::pair<std::string, std::string>, watermark> marks;  // by user and device
    std::uint64_t oldest() const noexcept { return head - kept.size() + 1; }
  };
  channel_state& of(std::string_view channel) {
    auto& c = channels_[std::string(channel)];
    if (c.epoch.empty()) c.epoch = "E" + std::to_string(++epochs_);
    return c;
  }
  position append(std::string_view channel, const draft& d, std::uint64_t erases = 0) {
    auto& c = of(channel);
    message m;
    m.offset = ++c.head;
    m.at = d.at;
    m.from = d.from;
    m.type = d.type;
    m.data = d.data;
    m.erases = erases;
    c.kept.push_back(std::move(m));
    if (c.kept.size() > retention_) c.kept.pop_front();
    return {c.epoch, c.head};
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    auto& c = of(channel);
    read_result r;
    r.epoch = c.epoch;
    r.head = c.head;
    r.oldest = c.oldest();
    for (std::uint64_t at = std::max(since + 1, r.oldest); at <= c.head && r.messages.size() < limit.messages; ++at)
      r.messages.push_back(c.kept[static_cast<std::size_t>(at - r.oldest)]);
    return r;
  }
  append_result erase(std::string_view channel, const position& at, const draft& d) {
    auto& c = of(channel);
    const std::uint64_t offset = at.offset;
    if (at.epoch != c.epoch || offset < c.oldest() || offset > c.head) return errc::not_found;
    message& m = c.kept[static_cast<std::size_t>(offset - c.oldest())];
    if (m.erases) return errc::not_found;
    if (m.erased) {
      for (const message& e : c.kept) {
        if (e.erases != offset) continue;
        append_result r = position{c.epoch, e.offset};
        r.duplicate = true;
        return r;
      }
      return errc::not_found;
    }
    m.erased = true;
    m.type.clear();
    m.data = {};
    return append(channel, d, offset);
  }
  mark_result mark(std::string_view channel, const watermark& m) {
    auto& c = of(channel);
    mark_result r;
    if (m.epoch != c.epoch) return errc::not_found;
    if (std::max(m.levels.received, m.levels.read) > c.head) return errc::bad_request;
    const std::pair who{m.user, m.device};
    auto at = c.marks.find(who);
    if (at == c.marks.end() && devices_of(c, m.user) == max_devices) return errc::conflict;
    r.before = top(c, m.user);
    watermark& kept = c.marks[who];
    if (kept.epoch != m.epoch) kept = watermark{m.user, m.device, m.epoch, {}, 0};
    kept.levels.received = std::max(kept.levels.received, m.levels.received);
    kept.levels.read = std::max(kept.levels.read, m.levels.read);
    kept.levels.public_read = std::max(kept.levels.public_read, m.levels.public_read);
    kept.at = m.at;
    r.after = top(c, m.user);
    return r;
  }
  watermarks_result watermarks(std::string_view channel, const watermark_query& q) {
    watermarks_result r;
    for (const auto& [who, m] : of(channel).marks)
      if (q.user.empty() || who.first == q.user) r.marks.push_back(m);
    return r;
  }
  /// A new epoch, in which the newest messages, or all, are lost. Watermarks stay, of the old one.
  void restart(const std::string& channel, std::size_t lost) {
    auto& c = of(channel);
    for (; lost && !c.kept.empty(); --lost, --c.head) c.kept.pop_back();
    if (c.kept.empty()) c.head = 0;
    c.epoch = "E" + std::to_string(++epochs_);
  }

 private:
  static std::size_t devices_of(const channel_state& c, const std::string& user) {
    return static_cast<std::size_t>(
        std::count_if(c.marks.begin(), c.marks.end(), [&](const auto& m) { return m.first.first == user; }));
  }
  static watermark_levels top(const channel_state& c, const std::string& user) {
    watermark_levels out;
    for (const auto& [who, m] : c.marks) {
      if (who.first != user || m.epoch != c.epoch) continue;
      out.received = std::max(out.received, m.levels.received);
      out.read = std::max(out.read, m.levels.read);
      out.public_read = std::max(out.public_read, m.levels.public_read);
    }
    return out;
  }
  std::size_t retention_, epochs_ = 0;
  std::map<std::string, channel_state, std::less<>> channels_;
};

/// A hub's way to the storage. It answers at once, or by the hub's loop; once the hub has crashed nothing passes.
class storage_of_hub final : public detail::any_storage {
 public:
  storage_of_hub(common_storage& c, testing::manual_loop& l, std::shared_ptr<const bool> crashed, bool later)
      : common_(c), loop_(l), crashed_(std::move(crashed)), later_(later) {}

  void append(std::string_view channel, draft&& d, append_handler done) override {
    ask<append_result>(std::move(done), [&] { return append_result(common_.append(channel, d)); });
  }
  void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) override {
    ask<read_result>(std::move(done), [&] { return common_.read(channel, since, limit); });
  }
  bool keeps_keys() const noexcept override { return false; }
  bool offers(detail::storage_member part) const noexcept override {
    return part == detail::storage_member::erase || part == detail::storage_member::watermarks;
  }
  void erase(std::string_view channel, position&& at, draft&& d, append_handler done) override {
    ask<append_result>(std::move(done), [&] { return common_.erase(channel, at, d); });
  }
  void mark(std::string_view channel, watermark&& m, mark_handler done) override {
    ask<mark_result>(std::move(done), [&] { return common_.mark(channel, m); });
  }
  void watermarks(std::string_view channel, watermark_query&& q, watermarks_handler done) override {
    ask<watermarks_result>(std::move(done), [&] { return common_.watermarks(channel, q); });
  }

 private:
  template <class Result, class F>
  void ask(detail::move_only_function<void(Result)> done, F f) {
    if (*crashed_) return;
    Result r = f();
    if (!later_) return done(std::move(r));
    loop_.post([crashed = crashed_, done = std::move(done), r = std::move(r)]() mutable {
      if (!*crashed) done(std::move(r));
    });
  }
  common_storage& common_;
  testing::manual_loop& loop_;
  std::shared_ptr<const bool> crashed_;
  bool later_;
};

/// Loses some of what is live-only, and brings what hubs say of presence late and in another order. A hub that has
/// crashed says nothing more.
class careless_broker : public in_process_broker {
 public:
  explicit careless_broker(dice& d) : dice_(d) {}
  unsigned loses = 0, delays = 0;  ///< percent

  std::uint64_t attach(broker_receiver r) {
    newest = in_process_broker::attach(std::move(r));
    crashed_.erase(newest);
    return newest;
  }
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) {
    if (!crashed_.contains(hub)) in_process_broker::publish(hub, channel, epoch, m);
  }
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) {
    if (crashed_.contains(hub) || dice_.chance(loses)) return;
    if (e.bytes.starts_with('p') && dice_.chance(delays))
      return late_.push_back({hub, e.after, std::string(channel), std::string(e.epoch), std::string(e.bytes)});
    in_process_broker::tell(hub, channel, e);
  }
  void crash(std::uint64_t hub) { crashed_.insert(hub); }
  /// One of what is late arrives; false when nothing is.
  bool bring() {
    if (late_.empty()) return false;
    auto at = late_.begin() + static_cast<std::ptrdiff_t>(dice_.below(late_.size()));
    const late l = std::move(*at);
    late_.erase(at);
    in_process_broker::tell(l.hub, l.channel, {l.epoch, l.after, l.bytes});
    return true;
  }
  std::uint64_t newest = 0;

 private:
  struct late {
    std::uint64_t hub, after;
    std::string channel, epoch, bytes;
  };
  dice& dice_;
  std::set<std::uint64_t> crashed_;
  std::vector<late> late_;
};

/// What somebody has said of how far it is, in one epoch.
struct levels {
  std::uint64_t received = 0, read = 0, open_read = 0;
  void raise(const levels& by) {
    received = std::max(received, by.received);
    read = std::max(read, by.read);
    open_read = std::max(open_read, by.open_read);
  }
};

/// What the clients know together.
class knowledge {
 public:
  explicit knowledge(dice& d) : random(d) {}
  dice& random;
  std::string wrong;
  std::deque<std::string> trace;
  bool verbose = false;
  void complain(std::string what) {
    if (wrong.empty()) wrong = std::move(what);
  }

  // ---- messages: each has a number, and each (channel, epoch, offset) one of them

  struct thing {
    std::string channel, from;
    std::map<std::string, std::uint64_t> stands;  // in each epoch
    bool taken_back = false;                      // somebody has asked for that
    std::uint64_t gone = 0;                       // the moment at which that was acknowledged
  };
  std::vector<thing> things;
  std::uint64_t moment = 0;  ///< rises with each thing that clients may tell apart
  thing& of(std::uint64_t number) { return things[static_cast<std::size_t>(number - 1)]; }
  std::uint64_t at(const std::string& channel, const std::string& epoch, std::uint64_t offset) const {
    auto found = places_.find({channel, epoch, offset});
    return found == places_.end() ? 0 : found->second;
  }
  void settle(std::uint64_t number, const std::string& channel, const std::string& epoch, std::uint64_t offset) {
    if (!number || number > things.size() || of(number).channel != channel)
      return complain("message " + std::to_string(number) + " was never sent to " + channel);
    auto [stands, first] = of(number).stands.try_emplace(epoch, offset);
    auto [here, free] = places_.try_emplace({channel, epoch, offset}, number);
    if (stands->second != offset || here->second != number)
      complain("message " + std::to_string(number) + " of " + channel + " stands at " + epoch + '.' +
               std::to_string(offset) + " and elsewhere");
  }

  // ---- watermarks

  struct device {
    std::string epoch;  // the newest in which something was said
    levels sent, sure;  // said; and kept whatever crashes
    std::string sure_epoch;
  };
  static std::uint64_t age(const std::string& epoch) { return simulation::record::age_of(epoch); }
  std::map<std::tuple<std::string, std::string, std::string>, device> devices;  // by channel, user, device
  std::map<std::tuple<std::string, std::string, std::string>, levels> users;    // sent, by channel, epoch, user
  /// What nobody may be told less of than before, of those who ask: by channel, epoch, user.
  std::map<std::tuple<std::string, std::string, std::string>, levels> kept;

  std::map<std::pair<std::string, std::string>, std::set<std::string>> marked;  // devices, by channel and user

  struct acknowledged {
    std::tuple<std::string, std::string, std::string> who;
    std::string epoch;
    levels to;
    std::uint64_t hub = 0;  // and its life
    std::int64_t at = 0;
  };
  std::vector<acknowledged> young;  ///< marks that a crash may still take back
  void crashed(std::uint64_t hub) {
    std::erase_if(young, [&](const acknowledged& a) { return a.hub == hub; });
  }
  void time_is(std::int64_t now) {
    std::erase_if(young, [&](const acknowledged& a) {
      if (now - a.at < 3'000) return false;
      device& d = devices[a.who];
      if (d.sure_epoch.empty() || age(a.epoch) > age(d.sure_epoch)) d.sure_epoch = a.epoch, d.sure = {};
      if (d.sure_epoch == a.epoch) d.sure.raise(a.to);
      return true;
    });
  }

  // ---- what is live-only

  struct word {
    std::string session;     // whose
    bool answered = false;   // it has been sent
    std::uint64_t over = 0;  // the moment at which it had arrived wherever it does; 0: not yet
  };
  std::vector<word> words;

 private:
  std::map<std::tuple<std::string, std::string, std::uint64_t>, std::uint64_t> places_;
};

}  // namespace crowd
