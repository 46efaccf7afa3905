// SPDX-License-Identifier: BSL-1.0
#pragma once

// Joins the hubs of several processes and machines over Redis's Pub/Sub. Needs the component `hailwire::redis`.
//
// How it works. The storage's script announces what it appends, so nothing is sent here but what is live-only. A
// channel is subscribed to while a hub of this process follows it; in a cluster with SSUBSCRIBE, at the server that has
// its slot. Pub/Sub loses what is said while a connection is lost: when a subscription has taken effect, anew or again,
// hubs are told that they may have missed something, and read. That should be enough; besides, the heads of channels of
// which nothing was heard since the last round are compared with what hubs were told, at a bounded rate.
//
// Of the own storage's appends hubs are told when they are answered, not by Pub/Sub: a publisher hears its answer
// before its message.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/redis/announcement.hpp"
#include "hailwire/detail/redis/core.hpp"
#include "hailwire/storage/redis.hpp"

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// How a `redis_broker` looks after what Pub/Sub may lose.
struct redis_broker_options {
  /// Channels whose head is compared a second, for each server. One that was heard of since the last round is passed
  /// over. The worst delay of a message that was announced and not heard is the number of followed channels divided by
  /// this, in seconds. 0: none are.
  std::size_t checks = 2000;
};

/// Joins the hubs that share logs in Redis: those of this process by one broker and one storage, others by theirs.
///
/// What is live-only is dropped while Redis is away, and where more than 8 MiB of it (each 512 bytes more than
/// its own) wait for being sent.
///
/// Threads: safe to call from any. It must outlive the hubs; the storage must outlive it, has one broker at a time, and
/// calls receivers on its own thread.
class redis_broker {
 public:
  explicit redis_broker(redis_storage& s, const redis_broker_options& o = {})
      : hearing_(std::make_shared<hearing>(s.core_, o)) {
    hearing_->core->post([h = hearing_] { h->begin(); });
  }
  ~redis_broker() {
    {
      std::lock_guard lock(hearing_->mutex);
      hearing_->receivers.clear();
      hearing_->followed.clear();
    }
    hearing_->core->post([h = hearing_] { h->end(); });
  }
  redis_broker(const redis_broker&) = delete;
  redis_broker& operator=(const redis_broker&) = delete;

  std::uint64_t attach(broker_receiver receiver) {
    std::lock_guard lock(hearing_->mutex);
    hearing_->receivers.emplace(++hearing_->last, std::move(receiver));
    return hearing_->last;
  }
  void detach(std::uint64_t hub) {
    std::vector<std::string> left;
    std::lock_guard lock(hearing_->mutex);
    hearing_->receivers.erase(hub);
    for (auto at = hearing_->followed.begin(); at != hearing_->followed.end();) {
      std::erase(at->second, hub);
      if (!at->second.empty()) {
        ++at;
        continue;
      }
      hearing_->change(at->first);
      at = hearing_->followed.erase(at);
    }
  }
  void subscribe(std::uint64_t hub, std::string_view channel) {
    std::lock_guard lock(hearing_->mutex);
    auto [at, fresh] = hearing_->followed.try_emplace(std::string(channel));
    if (std::find(at->second.begin(), at->second.end(), hub) == at->second.end()) at->second.push_back(hub);
    if (fresh) hearing_->change(at->first);
  }
  void unsubscribe(std::uint64_t hub, std::string_view channel) {
    std::lock_guard lock(hearing_->mutex);
    auto at = hearing_->followed.find(std::string(channel));
    if (at == hearing_->followed.end()) return;
    std::erase(at->second, hub);
    if (!at->second.empty()) return;
    hearing_->change(at->first);
    hearing_->followed.erase(at);
  }
  /// The append has told everybody.
  void publish(std::uint64_t, std::string_view, std::string_view, const message&) {}
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) {
    hearing_->hand({channel, {}, nullptr, &e}, hub);  // to those of this process
    const std::size_t cost = cost_of(channel, e.bytes);
    if (hearing_->waiting.fetch_add(cost) + cost > most_waiting) {
      hearing_->waiting.fetch_sub(cost);
      return;
    }
    auto said = detail::redis_announcement::live(hearing_->core->log().origin(), e.epoch, e.after, e.bytes);
    hearing_->core->post([h = hearing_, name = std::string(channel), text = std::move(said), cost]() mutable {
      h->say({std::move(name), std::move(text), cost});
    });
  }

 private:
  static constexpr std::size_t most_waiting = std::size_t{8} << 20;
  static std::size_t cost_of(std::string_view channel, std::string_view bytes) noexcept {
    return channel.size() + bytes.size() + 512;
  }

  /// Shared with what is posted to the storage's thread.
  struct hearing final : detail::redis_log::listener, std::enable_shared_from_this<hearing> {
    using node = detail::redis_nodes::node;
    enum class state : std::uint8_t { wanted, asked, heard };
    struct saying {
      std::string channel, text;
      std::size_t cost;
    };
    // A channel that somebody here follows. The thread's own.
    struct channel {
      std::string name;  // of Pub/Sub
      unsigned slot = 0;
      const node* at = nullptr;  // where it was asked for
      state is = state::wanted;
      bool listed = false, passed_over = false;
      std::string epoch;  // what hubs were last told of; empty: nothing yet
      std::uint64_t head = 0;
    };

    hearing(std::shared_ptr<detail::redis_core> c, const redis_broker_options& o)
        : core(std::move(c)), options(o), timer(core->executor()) {}

    // ---- from any thread

    std::shared_ptr<detail::redis_core> core;
    const redis_broker_options options;
    std::mutex mutex;
    std::uint64_t last = 0;
    std::map<std::uint64_t, broker_receiver> receivers;
    std::unordered_map<std::string, std::vector<std::uint64_t>, detail::text_hash> followed;
    std::vector<std::string> changed;
    std::atomic<std::size_t> waiting = 0;  // what to_say costs, and what is on its way there

    /// With the mutex held: the thread looks whether the channel is followed now.
    void change(const std::string& name) {
      changed.push_back(name);
      if (changed.size() == 1) core->post([self = shared_from_this()] { self->follow(); });
    }
    /// To the hubs that follow the channel, but for one.
    void hand(const broker_event& e, std::uint64_t but = 0) {
      std::lock_guard lock(mutex);  // no receiver is called once `detach` has returned
      const auto at = followed.find(std::string(e.channel));
      if (at == followed.end()) return;
      for (const auto hub : at->second) {
        if (hub == but) continue;
        if (const auto to = receivers.find(hub); to != receivers.end()) to->second(e);
      }
    }

    /// Nothing of the channel is heard for now, which matters to hubs of what is their own.
    void lost(const std::string& name) {
      if (name.front() == '\0') hand({.channel = name, .lost = true});
    }
    /// Hubs may have missed something of the channel.
    void look(const std::string& name) { hand({name}); }

    // ---- on the storage's thread

    void begin() {
      core->broker = this;
      core->log().nodes().subscribe();
      later();
    }
    void end() {
      if (core->broker == this) core->broker = nullptr;
      ended = true;
      timer.cancel();
      for (auto& [name, c] : channels)
        if (c.is != state::wanted) send(c, nodes().cluster() ? "SUNSUBSCRIBE" : "UNSUBSCRIBE");
      channels.clear();
    }
    detail::redis_nodes& nodes() { return core->log().nodes(); }

    void follow() {
      std::vector<std::pair<std::string, bool>> all;
      {
        std::lock_guard lock(mutex);
        for (auto& name : std::exchange(changed, {})) {
          const bool now = followed.contains(name);
          all.emplace_back(std::move(name), now);
        }
      }
      if (ended) return;
      for (auto& [name, now] : all) {
        auto at = channels.find(name);
        if (now && at == channels.end()) {
          auto& c = channels[name];
          c.name = detail::redis_keys(core->log().options().prefix, name).meta;
          c.slot = core->log().slot_of(c.name);
          enlist(name, c);
        } else if (now) {
          again(name, at->second);
        } else if (at != channels.end()) {
          if (at->second.is != state::wanted) send(at->second, nodes().cluster() ? "SUNSUBSCRIBE" : "UNSUBSCRIBE");
          if (at->second.is == state::asked) --asked;
          channels.erase(at);
        }
      }
      pump();
    }
    /// A channel that a hub has left and follows again: to that hub it is as if it were new.
    void again(const std::string& name, channel& c) {
      if (c.is == state::heard) look(name);
    }
    void enlist(const std::string& name, channel& c) {
      c.is = state::wanted;
      if (std::exchange(c.listed, true)) return;
      todo.push_back(name);
    }

    /// Subscribes to what is wanted, a bounded number at once: each that has taken effect has hubs read.
    void pump() {
      std::map<node*, std::vector<channel*>> all;
      std::deque<std::string> rest;
      for (; !todo.empty() && asked < most_asked; todo.pop_front()) {
        auto at = channels.find(todo.front());
        if (at == channels.end()) continue;
        auto& c = at->second;
        node* n = nodes().of(c.slot);
        if (!n || !n->subscriptions || !n->subscriptions->ready()) {
          rest.push_back(std::move(todo.front()));
          continue;
        }
        c.listed = false;
        c.is = state::asked;
        c.at = n;
        ++asked;
        all[n].push_back(&c);
      }
      std::move(rest.begin(), rest.end(), std::back_inserter(todo));
      for (auto& [n, some] : all) {
        detail::redis_command out;
        for (std::size_t i = 0; i < some.size(); ++i) {
          // In a cluster a command is for one slot.
          if (out.size() == 0) out.add(nodes().cluster() ? "SSUBSCRIBE" : "SUBSCRIBE");
          out.add(some[i]->name);
          if (nodes().cluster() || i + 1 == some.size()) n->subscriptions->send(std::exchange(out, {}));
        }
        n->subscriptions->flush();
      }
    }
    void send(const channel& c, const char* verb) {
      for (auto& n : nodes().all()) {
        if (n.get() != c.at || !n->subscriptions || !n->subscriptions->ready()) continue;
        n->subscriptions->send(detail::redis_command{verb, c.name});
        n->subscriptions->flush();
      }
    }

    void log_pushed(node& n, detail::redis_reply r) override {
      if (r.is_error()) return refused(n, r.text());
      const auto what = r[0].text();
      if (what == "message" || what == "smessage") return said(r[1].text(), r[2].text());
      const bool is = what == "subscribe" || what == "ssubscribe", no = what == "unsubscribe" || what == "sunsubscribe";
      if (!is && !no) return;
      std::string name;
      if (!detail::channel_of(core->log().options().prefix, r[1].text(), name)) return;
      const auto at = channels.find(name);
      if (at == channels.end() || at->second.at != &n) return;
      auto& c = at->second;
      if (c.is == state::asked) --asked;
      if (is) {
        c.is = state::heard;
        look(name);
      } else if (nodes().cluster()) {
        enlist(name, c);  // its slot has left that server
        lost(name);
      }
      pump();
    }
    /// A subscription that the server does not take: its slot is elsewhere, as it says, or the map was old.
    void refused(node& n, std::string_view why) {
      unsigned slot = 0;
      detail::redis_endpoint to;
      if (why.starts_with("MOVED ") && detail::read_redirection(why.substr(6), n.at, slot, to)) {
        for (auto& [name, c] : channels) {
          if (c.slot != slot || c.is != state::asked || c.at != &n) continue;
          --asked;
          enlist(name, c);
        }
        nodes().moved(slot, to);
      } else {
        n.subscriptions->drop("a subscription was refused: " + std::string(why));
      }
    }
    void said(std::string_view from, std::string_view text) {
      std::string name;
      if (!detail::channel_of(core->log().options().prefix, from, name)) return;
      detail::redis_announcement a(text);
      if (!a.fine() || a.origin() == core->log().origin()) return;
      if (a.live()) {
        const live_event e{a.epoch(), a.offset(), a.bytes()};
        return hand({name, {}, nullptr, &e});
      }
      if (a.left() == 0) return fetch(name, a.offset());
      const std::string epoch(a.epoch());
      message m;
      while (a.next(m)) {
        hand({name, epoch, &m, nullptr});
        told(name, epoch, m.offset);
      }
    }
    /// A message that is too large to be announced.
    void fetch(const std::string& name, std::uint64_t offset) {
      core->read(name, offset ? offset - 1 : 0, {1, 0}, [self = shared_from_this(), name](read_result r) {
        if (r.error || r.messages.empty()) return self->look(name);
        self->hand({name, r.epoch, &r.messages.front(), nullptr});
        self->told(name, r.epoch, r.messages.front().offset);
      });
    }
    void told(const std::string& name, const std::string& epoch, std::uint64_t head) {
      const auto at = channels.find(name);
      if (at == channels.end()) return;
      auto& c = at->second;
      c.passed_over = true;
      c.head = c.epoch == epoch ? std::max(c.head, head) : head;
      c.epoch = epoch;
    }

    void say(saying one) {
      to_say.push_back(std::move(one));
      say_some();
    }
    /// Live or not at all: what has no connection is dropped, what has no room waits its turn.
    void say_some() {
      for (; !to_say.empty(); to_say.pop_front()) {
        const auto& [name, text, cost] = to_say.front();
        const detail::redis_keys keys(core->log().options().prefix, name);
        const auto slot = core->log().slot_of(keys.meta);
        node* n = nodes().of(slot);
        const bool there = !ended && n && n->commands && n->commands->ready();
        if (there && !n->commands->room()) return;
        waiting.fetch_sub(cost);
        if (!there) continue;
        n->commands->send(
            detail::redis_command{core->log().publish_verb(), keys.meta, text},
            [self = shared_from_this(), at = n->at](std::error_code, detail::redis_reply r) {
              unsigned slot_moved = 0;
              detail::redis_endpoint to;
              if (r.failed_with("MOVED") && detail::read_redirection(r.text().substr(6), at, slot_moved, to))
                self->nodes().moved(slot_moved, to);
              if (!self->to_say.empty()) self->say_some();
            });
        n->commands->flush();
      }
    }

    void log_node_ready(node&, detail::redis_link&) override { pump(); }
    void log_node_lost(node& n, detail::redis_link& l, std::string_view) override {
      if (&l != n.subscriptions.get()) return;
      for (auto& [name, c] : channels)
        if (c.at == &n && c.is != state::wanted) {
          if (c.is == state::asked) --asked;
          enlist(name, c);
          lost(name);
        }
    }
    void log_slots_changed() override {
      for (auto& [name, c] : channels) {
        const node* now = nodes().of(c.slot);
        if (c.is == state::wanted || c.at == now) continue;
        if (c.is == state::asked) --asked;
        send(c, "SUNSUBSCRIBE");
        enlist(name, c);
        lost(name);
      }
      pump();
    }
    void log_stored(const std::string& name, const std::string& epoch, const message& m) override {
      bool several;
      {
        std::lock_guard lock(mutex);
        several = receivers.size() > 1;
      }
      if (several) hand({name, epoch, &m, nullptr});
      told(name, epoch, m.offset);
    }
    void log_released(const detail::redis_job&) override {}

    // ---- heads, in turn

    void later() {
      timer.expires_after(std::chrono::milliseconds(100));
      timer.async_wait([weak = weak_from_this()](std::error_code ec) {
        auto self = weak.lock();
        if (ec || !self || self->ended) return;
        self->pump();
        self->compare_some();
        self->later();
      });
    }
    void compare_some() {
      const auto most = (options.checks * nodes().all().size() + 9) / 10;
      auto at = channels.upper_bound(compared);
      for (std::size_t n = 0, seen = 0; n < most && seen < channels.size() && comparing < most_comparing; ++seen) {
        if (at == channels.end()) at = channels.begin();
        auto& c = at->second;
        compared = at->first;
        if (c.is == state::heard && !std::exchange(c.passed_over, false)) {
          ++n;
          compare(at->first);
        }
        ++at;
      }
    }
    void compare(const std::string& name) {
      ++comparing;
      core->read(name, max_offset, {0, 0}, [self = shared_from_this(), name](read_result r) {
        --self->comparing;
        const auto at = self->channels.find(name);
        if (r.error || at == self->channels.end()) return;
        auto& c = at->second;
        if (c.epoch == r.epoch && c.head >= r.head) return;
        c.epoch = r.epoch;
        c.head = r.head;
        self->look(name);
      });
    }

    static constexpr std::size_t most_asked = 256, most_comparing = 1024;
    net::steady_timer timer;
    std::map<std::string, channel, std::less<>> channels;
    std::deque<std::string> todo;
    std::deque<saying> to_say;
    std::string compared;
    std::size_t asked = 0, comparing = 0;
    bool ended = false;
  };

  std::shared_ptr<hearing> hearing_;
};

static_assert(broker<redis_broker>);

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
