// SPDX-License-Identifier: BSL-1.0
#pragma once

// One connection to one Redis that comes back by itself.
//
// How it works. The owner is asked for an address whenever a connection is due (`link_due`), since a sentinel or a slot
// map may name another one by then. What a connection begins with (AUTH, SELECT, INFO) is written in one go; with INFO
// come `run_id` and `master_replid`, which name the life of that server's data. From then on commands are pipelined:
// answers come in the order of the commands, so a queue of handlers is all that is kept of them. A connection over
// which nothing has come for `stall` is given up, whatever TCP thinks of it; something is asked every `ping`, so a
// living server is always heard. What was asked for when a connection ends is answered with `errc::timeout`: nobody
// knows whether it was done. The next attempt waits for a random part of an interval that doubles (`backoff`).
//
// Threads: everything on the executor. Lifetime: by `std::shared_ptr`; after `stop` the owner hears nothing more.

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/net/backoff.hpp"
#include "hailwire/detail/net/layer.hpp"
#include "hailwire/detail/net/outgoing.hpp"
#include "hailwire/detail/net/system.hpp"
#include "hailwire/detail/redis/resp.hpp"
#include "hailwire/detail/redis/url.hpp"
#include "hailwire/error.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// How links connect, and when they give up. Times in milliseconds.
struct redis_link_options {
  std::string user, password;  ///< no password: no AUTH
  unsigned database = 0;
  std::shared_ptr<const client_security> security;  ///< null: plain
  std::int64_t ping = 1000;
  std::int64_t stall = 4000;  ///< with `ping`: a silent server is noticed within five seconds
  std::int64_t backoff_first = 50, backoff_most = 2000;
  /// The largest reply. A page of a log is at most 16 MiB and one message of at most 32 more.
  std::size_t most_reply = std::size_t{64} << 20;
  std::size_t most_pending = 1024;                 ///< commands without an answer
  std::size_t most_unsent = std::size_t{8} << 20;  ///< bytes; a single command may have more
  bool any_role = false;                           ///< replicas will do: they know the map of their cluster
};

/// What a Redis says of itself (INFO).
struct redis_facts {
  std::string run_id, replid, role, policy, version;
  /// Names one life of the server's data: it changes with a restart, and with a promotion.
  std::string identity() const { return run_id + ':' + replid; }

  /// Takes what is in the text of an INFO; what is not in it stays as it was. Whether it is still loading its data.
  bool take(std::string_view text) {
    bool loading = false;
    while (!text.empty()) {
      const auto end = std::min(text.find('\n'), text.size());
      auto line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      const auto colon = line.find(':');
      if (colon == line.npos) continue;
      const auto name = line.substr(0, colon), value = line.substr(colon + 1);
      if (name == "run_id") run_id = value;
      if (name == "master_replid") replid = value;
      if (name == "role") role = value;
      if (name == "maxmemory_policy") policy = value;
      if (name == "redis_version") version = value;
      if (name == "loading") loading = value != "0";
    }
    return loading;
  }
};

/// One connection to one Redis.
class redis_link final : public std::enable_shared_from_this<redis_link>, outgoing::user {
 public:
  /// What it is for: commands and their answers; subscriptions, where everything that comes is pushed to the owner; a
  /// sentinel, which is no store of data.
  enum class use : std::uint8_t { commands, subscriptions, sentinel };
  /// The reply, or an error where the connection has ended before one: the outcome is unknown.
  using handler = move_only_function<void(std::error_code, redis_reply)>;

  /// Who it belongs to.
  class owner {
   public:
    /// A connection is due: `connect` or `refuse` is called now or later.
    virtual void link_due(redis_link&) = 0;
    virtual void link_ready(redis_link&) = 0;
    /// It was ready or an attempt has failed; the handlers have been called. The next attempt comes by itself.
    virtual void link_lost(redis_link&, std::string_view why) = 0;
    virtual void link_pushed(redis_link&, redis_reply) = 0;

   protected:
    ~owner() = default;
  };

  redis_link(const net::any_io_executor& e, const redis_link_options& o, use u, owner& who)
      : executor_(e), timer_(e), options_(o), use_(u), owner_(&who) {}
  ~redis_link() { close(); }

  /// Asks for its first connection, from within this call.
  void start() { due(); }
  /// Connects to this one first.
  void start_at(const redis_endpoint& e) {
    state_ = state::due;
    connect(e);
  }
  /// Ends it for good. Handlers are called, with `operation_aborted`.
  void stop() {
    owner_ = nullptr;
    timer_.cancel();
    lose(operation_aborted(), {});
  }
  /// Where the connection that is due leads.
  void connect(const redis_endpoint& to) {
    if (!owner_ || state_ != state::due) return;
    to_ = to;
    state_ = state::greeting;
    heard_ = ticked_ = boot_time();
    connection_ = std::make_shared<outgoing>(executor_, static_cast<outgoing::user&>(*this));
    connection_->connect({to.host, to.port, {}, options_.security});
    tick_later();
  }
  /// There is nowhere to connect to now.
  void refuse(std::string_view why) {
    if (state_ == state::due) lose(errc::timeout, why);
  }
  /// Gives the connection up, and comes back after a while.
  void drop(std::string_view why) { lose(errc::timeout, why); }

  bool ready() const noexcept { return state_ == state::ready; }
  /// Attempts that have failed since it was ready.
  unsigned failures() const noexcept { return backoff_.attempts(); }
  const redis_facts& facts() const noexcept { return facts_; }
  const redis_endpoint& endpoint() const noexcept { return to_; }
  /// Whether one more command is within the limits.
  bool room() const noexcept {
    return ready() && pending_.size() < options_.most_pending && connection_->unsent() < options_.most_unsent;
  }
  std::size_t pending() const noexcept { return pending_.size(); }

  /// Precondition: ready. Leaves with the next `flush`.
  void send(const redis_command& c, handler f) {
    pending_.push_back(std::move(f));
    write(c);
  }
  /// A command whose answer is pushed. Precondition: ready.
  void send(const redis_command& c) { write(c); }
  void flush() {
    if (connection_) connection_->flush();
  }

 private:
  enum class state : std::uint8_t { resting, due, greeting, ready };

  void due() {
    state_ = state::due;
    owner_->link_due(*this);
  }
  void write(const redis_command& c) {
    std::string bytes;
    c.append_to(bytes);
    connection_->write(bytes);
  }

  // ---- the connection's side

  void outgoing_connected(outgoing&) override {
    reader_ = std::make_unique<redis_reader>(options_.most_reply);
    heard_ = boot_time();
    if (use_ == use::sentinel) return greeted();
    const auto must = [this](const char* what) {
      return [this, what](std::error_code ec, redis_reply r) {
        if (!ec && r.is_error()) drop(std::string(what) + ": " + std::string(r.text()));
      };
    };
    if (!options_.password.empty())
      send(options_.user.empty() ? redis_command{"AUTH", options_.password}
                                 : redis_command{"AUTH", options_.user, options_.password},
           must("AUTH"));
    if (options_.database) send(redis_command{"SELECT", std::to_string(options_.database)}, must("SELECT"));
    send(redis_command{"INFO"}, [this](std::error_code ec, redis_reply r) {
      if (ec) return;
      facts_ = {};
      const bool loading = facts_.take(r.text());
      if (r.is_error()) return drop("INFO: " + std::string(r.text()));
      if (loading) return drop("it is loading its data");
      if (facts_.role != "master" && !options_.any_role)
        return drop("it is a " + (facts_.role.empty() ? "stranger" : facts_.role));
      if (facts_.run_id.empty() || facts_.replid.empty()) return drop("INFO does not name its run_id");
      greeted();
    });
    flush();
  }
  void greeted() {
    state_ = state::ready;
    backoff_.reset();
    owner_->link_ready(*this);
    flush();
  }

  void outgoing_received(outgoing& from, std::span<char> in) override {
    const auto self = shared_from_this();
    heard_ = boot_time();
    reader_->feed({in.data(), in.size()});
    while (connection_.get() == &from) {
      const auto reply = reader_->next();
      if (!reply) break;
      const redis_reply r(reply.get());
      if (use_ == use::subscriptions && ready()) {
        owner_->link_pushed(*this, r);
      } else if (pending_.empty()) {
        return drop("an answer to nothing");
      } else {
        auto f = std::move(pending_.front());
        pending_.pop_front();
        f({}, r);
      }
    }
    if (connection_.get() == &from && !reader_->error().empty()) drop(std::string(reader_->error()));
    flush();
  }
  void outgoing_ended(outgoing& from, std::error_code ec, std::string_view text) override {
    if (connection_.get() != &from) return;
    lose(errc::timeout, !text.empty() ? std::string(text) : ec ? ec.message() : "it has closed the connection");
  }

  void close() {
    if (auto c = std::exchange(connection_, nullptr)) c->close();
    reader_retired_ = std::move(reader_);  // it may be what is being read right now
  }
  void lose(std::error_code what, std::string_view why) {
    const auto self = weak_from_this().lock();
    const std::string text(why);
    timer_.cancel();
    state_ = state::resting;
    close();
    pinging_ = false;
    auto gone = std::exchange(pending_, {});
    for (auto& f : gone) f(what, redis_reply());
    if (!owner_) return;
    owner_->link_lost(*this, text);
    if (!owner_ || state_ != state::resting) return;
    const auto wait = backoff_.next(options_.backoff_first, options_.backoff_most, random_bits().low);
    after(wait, [](redis_link& l) {
      if (l.state_ == state::resting) l.due();
    });
  }

  // ---- time

  template <class F>
  void after(std::int64_t ms, F f) {
    timer_.expires_after(std::chrono::milliseconds(ms));
    timer_.async_wait([weak = weak_from_this(), f](std::error_code ec) {
      auto self = weak.lock();
      if (!ec && self && self->owner_) f(*self);
    });
  }
  void tick_later() {
    after(options_.ping, [](redis_link& l) { l.tick(); });
  }
  void tick() {
    if (!connection_) return;
    const auto now = boot_time();
    // A process that was stopped, or a machine that slept, has heard nothing either: what waits in the socket is read
    // first.
    if (now - ticked_ > 2 * options_.ping) heard_ = now;
    ticked_ = now;
    if (now - heard_ > options_.stall) return drop("no answer for " + std::to_string(now - heard_) + " ms");
    if (ready() && !pinging_ && use_ != use::sentinel) ask();
    tick_later();
  }
  void ask() {
    if (use_ == use::subscriptions) {
      send(redis_command{"PING"});
    } else {
      pinging_ = true;
      send(redis_command{"INFO", "replication"}, [this](std::error_code ec, redis_reply r) {
        if (ec) return;
        pinging_ = false;
        redis_facts now = facts_;
        now.take(r.text());
        // What was a master and is none, or is one again, has another history than the one that was asked for.
        if (now.role != facts_.role || now.identity() != facts_.identity()) drop("it is another server's copy by now");
      });
    }
    flush();
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  const redis_link_options options_;
  const use use_;
  owner* owner_;
  redis_endpoint to_;
  redis_facts facts_;
  std::shared_ptr<outgoing> connection_;
  std::unique_ptr<redis_reader> reader_, reader_retired_;
  std::deque<handler> pending_;
  backoff backoff_;
  std::int64_t heard_ = 0, ticked_ = 0;  // boot time, milliseconds
  state state_ = state::resting;
  bool pinging_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
