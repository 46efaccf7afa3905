// SPDX-License-Identifier: BSL-1.0
#pragma once

// The Redis servers behind one URL, and which of them has which slot.
//
// One server: that one has everything. Sentinels: each time a connection is due, they are asked in turn who the master
// is. A cluster: whoever answers is asked for its map of slots (CLUSTER SLOTS), again whenever a map turns out to be
// old (MOVED), a connection is lost, and every ten seconds; servers that are not in the map go when nothing waits for
// them.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/redis/link.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// The servers of one URL. Threads: everything on the executor.
class redis_nodes final : redis_link::owner {
 public:
  struct node {
    redis_endpoint at;
    std::shared_ptr<redis_link> commands, subscriptions;
    bool listed = true;     ///< in the map of slots, or there is none yet
    std::int64_t used = 0;  ///< boot time at which somebody was last sent here
  };
  /// Who uses them. `ready` and `lost` tell of links of either use.
  class user {
   public:
    virtual void node_ready(node&, redis_link&) = 0;
    virtual void node_lost(node&, redis_link&, std::string_view why) = 0;
    virtual void node_pushed(node&, redis_reply) = 0;
    /// Slots may have other servers from now on.
    virtual void slots_changed() = 0;

   protected:
    ~user() = default;
  };

  redis_nodes(const net::any_io_executor& e, redis_url u, redis_link_options o, user& who)
      : executor_(e), timer_(e), url_(std::move(u)), options_(std::move(o)), user_(&who) {
    options_.any_role = cluster();
  }
  ~redis_nodes() { stop(); }

  void start() {
    if (url_.how == redis_url::kind::sentinel) {
      add({});
    } else {
      for (const auto& h : url_.hosts) add(h);
    }
    if (cluster()) refresh_later();
  }
  /// Ends everything; handlers get `operation_aborted`.
  void stop() {
    user_ = nullptr;
    timer_.cancel();
    if (asked_) asked_->stop();
    for (auto& n : nodes_) {
      if (n->commands) n->commands->stop();
      if (n->subscriptions) n->subscriptions->stop();
    }
  }
  /// From now on each server has a link for subscriptions too.
  void subscribe() {
    if (std::exchange(subscribing_, true)) return;
    for (std::size_t i = 0; i < nodes_.size(); ++i) begin(*nodes_[i]);
  }

  bool cluster() const noexcept { return url_.how == redis_url::kind::cluster; }
  const redis_url& url() const noexcept { return url_; }
  const std::vector<std::unique_ptr<node>>& all() const noexcept { return nodes_; }

  /// Who has the slot as far as is known; null: nobody knows.
  node* of(unsigned slot) const noexcept {
    if (!cluster()) return nodes_.empty() ? nullptr : nodes_.front().get();
    return slots_[slot];
  }
  /// The server at this address, which is made where it is missing: for MOVED and ASK.
  node& at(const redis_endpoint& e) {
    for (auto& n : nodes_)
      if (n->at == e) {
        n->used = boot_time();
        return *n;
      }
    return add(e);
  }
  /// MOVED: the slot's server is that one. The whole map is asked for, too.
  void moved(unsigned slot, const redis_endpoint& e) {
    if (!cluster() || slot >= redis_slots) return;
    slots_[slot] = &at(e);
    refresh();
    user_->slots_changed();
  }

 private:
  redis_link::owner& owner() noexcept { return *this; }
  node& add(const redis_endpoint& e) {
    nodes_.push_back(std::make_unique<node>());
    nodes_.back()->at = e;
    nodes_.back()->used = boot_time();
    node& n = *nodes_.back();
    begin(n);
    return n;
  }
  void begin(node& n) {
    if (!n.commands) {
      n.commands = std::make_shared<redis_link>(executor_, options_, redis_link::use::commands, owner());
      n.commands->start();
    }
    if (subscribing_ && !n.subscriptions) {
      n.subscriptions = std::make_shared<redis_link>(executor_, options_, redis_link::use::subscriptions, owner());
      n.subscriptions->start();
    }
  }
  node* owner_of(const redis_link& l) const noexcept {
    for (auto& n : nodes_)
      if (n->commands.get() == &l || n->subscriptions.get() == &l) return n.get();
    return nullptr;
  }

  // ---- what links say

  void link_due(redis_link& l) override {
    auto* n = owner_of(l);
    if (!n || !user_) return;
    if (url_.how == redis_url::kind::sentinel) return ask_sentinels();
    l.connect(n->at);
  }
  void link_ready(redis_link& l) override {
    if (&l == asked_.get()) return ask_for_master();
    auto* n = owner_of(l);
    if (!n || !user_) return;
    if (cluster() && &l == n->commands.get()) refresh();
    user_->node_ready(*n, l);
  }
  void link_lost(redis_link& l, std::string_view why) override {
    if (&l == asked_.get()) return sentinel_failed(why);
    auto* n = owner_of(l);
    if (!n || !user_) return;
    if (cluster()) refresh();
    user_->node_lost(*n, l, why);
  }
  void link_pushed(redis_link& l, redis_reply r) override {
    if (auto* n = owner_of(l); n && user_) user_->node_pushed(*n, r);
  }

  // ---- sentinels

  void ask_sentinels() {
    if (asking_) return;
    asking_ = true;
    tried_ = 0;
    net::post(executor_, [this, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired() && user_) ask_next();
    });
  }
  void ask_next() {
    auto o = options_;
    o.password.clear();
    o.database = 0;
    if (asked_) asked_->stop();
    asked_ = std::make_shared<redis_link>(executor_, o, redis_link::use::sentinel, owner());
    sentinel_ = (sentinel_ + 1) % url_.hosts.size();
    ++tried_;
    asked_->start_at(url_.hosts[sentinel_]);
  }
  void ask_for_master() {
    asked_->send(redis_command{"SENTINEL", "get-master-addr-by-name", url_.master},
                 [this](std::error_code ec, redis_reply r) {
                   if (ec) return;
                   redis_endpoint e;
                   e.host = r[0].text();
                   const auto port = r[1].text();
                   const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), e.port);
                   if (e.host.empty() || failed != std::errc() || end != port.data() + port.size())
                     return sentinel_failed(r.is_error() ? r.text() : "a sentinel does not know the master's name");
                   found(e);
                 });
  }
  void sentinel_failed(std::string_view why) {
    if (tried_ < url_.hosts.size()) {
      const std::string kept(why);
      net::post(executor_, [this, alive = std::weak_ptr<int>(alive_)] {
        if (!alive.expired() && user_) ask_next();
      });
      return;
    }
    const std::string text = "no sentinel answers: " + std::string(why);
    end_asking();
    for (auto& l : both(*nodes_.front()))
      if (l) l->refuse(text);
  }
  void found(const redis_endpoint& e) {
    end_asking();
    nodes_.front()->at = e;
    for (auto& l : both(*nodes_.front()))
      if (l) l->connect(e);
  }
  void end_asking() {
    asking_ = false;
    net::post(executor_, [gone = std::move(asked_)] { gone->stop(); });  // it may be what is calling
  }
  static std::array<std::shared_ptr<redis_link>, 2> both(const node& n) { return {n.commands, n.subscriptions}; }

  // ---- a cluster's map

  void refresh_later() {
    timer_.expires_after(std::chrono::seconds(10));
    timer_.async_wait([this, alive = std::weak_ptr<int>(alive_)](std::error_code ec) {
      if (ec || alive.expired() || !user_) return;
      refresh();
      refresh_later();
    });
  }
  /// Asks one server that answers, unless one is being asked, or was a moment ago: then a little later.
  void refresh() {
    if (refreshing_ || !user_) return;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      auto& n = *nodes_[(turn_ + i) % nodes_.size()];
      if (!n.commands || !n.commands->room()) continue;
      turn_ = (turn_ + i + 1) % nodes_.size();
      refreshing_ = true;
      const auto from = n.at;
      n.commands->send(redis_command{"CLUSTER", "SLOTS"},
                       [this, from, alive = std::weak_ptr<int>(alive_)](std::error_code ec, redis_reply r) {
                         if (alive.expired()) return;
                         refreshing_ = false;
                         if (!ec && user_) take_map(from, r);
                       });
      n.commands->flush();
      return;
    }
  }
  void take_map(const redis_endpoint& from, redis_reply map) {
    if (map.size() == 0) return;  // it is part of nothing yet
    std::vector<node*> now(redis_slots, nullptr);
    for (auto& n : nodes_) n->listed = false;
    for (std::size_t i = 0; i < map.size(); ++i) {
      const auto range = map[i];
      const auto first = range[0].integer(), last = range[1].integer(), port = range[2][1].integer();
      if (first < 0 || last >= redis_slots || port < 1 || port > 65535) continue;
      redis_endpoint e{std::string(range[2][0].text()), static_cast<std::uint16_t>(port)};
      if (e.host.empty() || e.host == "?") e.host = from.host;  // "as you have reached me"
      node& n = at(e);
      n.listed = true;
      for (auto s = first; s <= last; ++s) now[static_cast<std::size_t>(s)] = &n;
    }
    const bool changed = now != slots_;
    slots_ = std::move(now);
    for (std::size_t i = 0; i < nodes_.size();) {
      auto& n = *nodes_[i];
      // One that is being given its first slots is in no map.
      if (n.listed || (n.commands && n.commands->pending() > 0) || boot_time() - n.used < 60'000) {
        ++i;
        continue;
      }
      auto gone = std::move(nodes_[i]);
      nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(i));
      for (auto& l : both(*gone))
        if (l) l->stop();
      // Its link may be what is calling.
      net::post(executor_, [gone = std::shared_ptr<node>(std::move(gone))] {});
    }
    if (changed) user_->slots_changed();
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  const redis_url url_;
  redis_link_options options_;
  user* user_;
  std::vector<std::unique_ptr<node>> nodes_;
  std::vector<node*> slots_ = std::vector<node*>(redis_slots, nullptr);
  std::shared_ptr<redis_link> asked_;  // the sentinel
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  std::size_t sentinel_ = 0, tried_ = 0, turn_ = 0;
  bool asking_ = false, subscribing_ = false, refreshing_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
