// SPDX-License-Identifier: BSL-1.0
#pragma once

// Channels' logs in Redis: operations in, script calls out (script.hpp has the layout and the scripts).
//
// How it works. What hubs ask for lands in an inbox, and one thread takes it from there. Each channel has its
// operations in line and at most one call under way, so that one that has to be repeated (NOSCRIPT, MOVED, ASK,
// TRYAGAIN) is never passed by the next. A turn gathers the operations at the heads of all lines that are free: those
// of one kind and one slot go into one call, up to a bound, so what gathers while calls are under way shares the next
// one. A server has a few calls under way at once, and the rest waits here, where `pending` bounds it.
//
// What a failure means. A call that has not left is refused with `overloaded` when its server is known to be away, or
// after `patience`. One that has left and lost its connection was perhaps done: appends are `timeout`, reads are done
// again. Errors that Redis gives before it runs a script (LOADING, MISCONF, OOM, READONLY, CLUSTERDOWN, NOREPLICAS) are
// `overloaded`: nothing was stored. TRYAGAIN is repeated for as long as `patience`.
//
// `stale`. A channel that was last written under another identity may have lost something. In a cluster its slot may as
// well have been moved: the hub asks the older master, over its own connection. Alive, still a master, unchanged: the
// epoch stays. All else: a new epoch.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/redis/head.hpp"
#include "hailwire/detail/redis/job.hpp"
#include "hailwire/detail/redis/nodes.hpp"
#include "hailwire/detail/redis/script.hpp"
#include "hailwire/detail/redis/slot.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// The logs of all channels. Threads: everything on the executor.
class redis_log final : redis_nodes::user {
 public:
  /// Who else hears what comes of the servers: the broker, and the log's owner.
  class listener {
   public:
    virtual void log_node_ready(redis_nodes::node&, redis_link&) = 0;
    virtual void log_node_lost(redis_nodes::node&, redis_link&, std::string_view why) = 0;
    virtual void log_pushed(redis_nodes::node&, redis_reply) = 0;
    virtual void log_slots_changed() = 0;
    /// Its own append was stored, and answered.
    virtual void log_stored(const std::string& channel, const std::string& epoch, const message&) = 0;
    /// The operation is about to be answered, and holds nothing any more.
    virtual void log_released(const redis_job&) = 0;

   protected:
    ~listener() = default;
  };

  redis_log(const net::any_io_executor& e, redis_url u, redis_link_options o, redis_log_options l, listener& who)
      : executor_(e),
        timer_(e),
        options_(std::move(l)),
        listener_(&who),
        origin_(epoch_of(random_bits())),
        nodes_(e, std::move(u), std::move(o), *this) {}

  void start() {
    nodes_.start();
    tick_later();
  }
  /// Answers everything: `timeout` for what is under way, `operation_aborted` for what waits.
  void stop() {
    stopped_ = true;
    timer_.cancel();
    nodes_.stop();
    std::vector<line*> all;
    for (auto& [name, l] : lines_) all.push_back(&l);
    for (auto* l : all)
      while (!l->waiting.empty()) refuse(pop(*l), operation_aborted());
    lines_.clear();
    ready_.clear();
  }

  redis_nodes& nodes() noexcept { return nodes_; }
  const redis_log_options& options() const noexcept { return options_; }
  /// Names this storage in what it announces.
  const std::string& origin() const noexcept { return origin_; }
  bool idle() const noexcept { return lines_.empty(); }
  unsigned slot_of(std::string_view key) const noexcept { return nodes_.cluster() ? redis_slot(key) : 0; }
  const char* publish_verb() const noexcept { return nodes_.cluster() ? "SPUBLISH" : "PUBLISH"; }

  /// Takes the operations in their order.
  void take(redis_jobs& all) {
    const auto until = boot_time() + options_.patience;
    while (!all.empty()) {
      auto& job = all.front();
      job.until = until;
      auto [at, fresh] = lines_.try_emplace(job.channel);
      line& l = at->second;
      if (fresh) {
        l.name = &at->first;
        l.keys = std::make_unique<redis_keys>(options_.prefix, job.channel);
        l.slot = slot_of(l.keys->meta);
      }
      l.waiting.splice(l.waiting.end(), all, all.begin());
      enlist(l);
    }
    turn();
  }

 private:
  struct line {
    const std::string* name = nullptr;
    std::unique_ptr<redis_keys> keys;
    unsigned slot = 0;
    redis_jobs waiting;
    bool busy = false, listed = false;
    bool alone = false;                    // its slot is on its way: it shares no call
    std::string rule;                      // what a stale epoch means, where that was found out
    std::optional<redis_endpoint> asking;  // ASK: where the next call goes
    std::int64_t not_before = 0;
  };
  struct part {
    line* of;
    redis_jobs jobs;
  };
  struct call {
    redis_job::kind what;
    redis_nodes::node* to;
    std::vector<part> parts;
    std::size_t jobs = 0, bytes = 0;
    bool whole = false;  // the script's text goes along
    bool asking = false;
  };
  using call_pointer = std::shared_ptr<call>;

  static constexpr std::size_t most_jobs = 256, most_bytes = std::size_t{1} << 20;  // of one call: a few ms of Redis
  // Under way at one server: it is never idle, and what waits gathers. In a cluster a call is for one slot alone.
  std::size_t most_calls() const noexcept { return nodes_.cluster() ? 64 : 4; }

  // ---- lines

  void enlist(line& l) {
    if (l.listed || l.busy || l.waiting.empty()) return;
    l.listed = true;
    ready_.push_back(&l);
  }
  redis_jobs pop(line& l) {
    redis_jobs one;
    one.splice(one.end(), l.waiting, l.waiting.begin());
    return one;
  }
  /// The call of this channel is over, and its operations are answered.
  void finish(line& l) {
    l.busy = false;
    if (stopped_) return;
    if (!l.waiting.empty()) return enlist(l);
    const std::string name = *l.name;
    lines_.erase(name);
  }
  /// Its operations are to be tried again.
  void put_back(part& p, std::int64_t pause = 0) {
    p.of->waiting.splice(p.of->waiting.begin(), p.jobs);
    p.of->busy = false;
    p.of->not_before = pause ? boot_time() + pause : 0;
    if (stopped_) {
      while (!p.of->waiting.empty()) refuse(pop(*p.of), operation_aborted());
    } else {
      enlist(*p.of);
    }
  }
  void refuse(redis_jobs one, std::error_code why) {
    listener_->log_released(one.front());
    one.front().refuse(why);
  }
  void answer(redis_job& j, append_result r) noexcept {
    listener_->log_released(j);
    try {
      std::exchange(j.appended, nullptr)(std::move(r));
    } catch (...) {  // the handler's own affair
    }
  }
  void answer(redis_job& j, read_result r) noexcept {
    listener_->log_released(j);
    try {
      std::exchange(j.read, nullptr)(std::move(r));
    } catch (...) {
    }
  }
  void refuse_all(part& p, std::error_code why) {
    while (!p.jobs.empty()) {
      redis_jobs one;
      one.splice(one.end(), p.jobs, p.jobs.begin());
      refuse(std::move(one), why);
    }
  }

  // ---- a turn

  /// Makes calls of what waits, as far as the servers take them.
  void turn() {
    if (turning_ || stopped_) return;
    const struct in_turn {
      explicit in_turn(bool& b) : turning(b) { turning = true; }
      ~in_turn() { turning = false; }
      bool& turning;
    } in_turn(turning_);
    const auto now = boot_time();
    std::map<std::pair<unsigned, redis_job::kind>, call_pointer> open;
    std::deque<line*> later;
    std::vector<call_pointer> whole;
    std::map<redis_nodes::node*, std::size_t> begun;
    for (auto todo = std::exchange(ready_, {}); !todo.empty(); todo.pop_front()) {
      line& l = *todo.front();
      auto* to = l.asking ? &nodes_.at(*l.asking) : nodes_.of(l.slot);
      const bool away = to && to->commands && !to->commands->ready() && to->commands->failures() > 0;
      if (away || l.waiting.front().until < now) {
        // Nothing of it has left, so nothing was stored. Whether it can be tried is found out anew.
        l.listed = false;
        l.asking.reset();
        l.busy = true;  // what is answered may ask for more
        auto all = std::exchange(l.waiting, {});
        redis_jobs kept;
        while (!all.empty()) {
          redis_jobs one;
          one.splice(one.end(), all, all.begin());
          if (away || one.front().until < now)
            refuse(std::move(one), errc::overloaded);
          else
            kept.splice(kept.end(), one);
        }
        l.waiting.splice(l.waiting.begin(), kept);
        finish(l);
        continue;
      }
      const auto what = l.waiting.front().what;
      const bool alone = l.alone || l.asking || what == redis_job::kind::other;
      auto& one = open[{alone ? redis_slots + 1 : l.slot, what}];
      const bool shared = one != nullptr;
      const bool may = to && to->commands && to->commands->room() && l.not_before <= now &&
                       (shared || under_way_[to] + begun[to] < most_calls());
      if (!may) {
        later.push_back(&l);
        continue;
      }
      if (!one) {
        one = std::make_shared<call>();
        one->what = what;
        one->to = to;
        one->asking = std::exchange(l.asking, std::nullopt).has_value();
        ++begun[to];
      }
      l.listed = false;
      fill(*one, l);
      if (alone || one->jobs >= most_jobs || one->bytes >= most_bytes) whole.push_back(std::exchange(one, nullptr));
    }
    ready_.insert(ready_.begin(), later.begin(), later.end());
    for (auto& [where, one] : open)
      if (one) whole.push_back(one);
    for (auto& one : whole) send(one);
  }
  void fill(call& c, line& l) {
    c.parts.push_back({&l, {}});
    auto& p = c.parts.back();
    l.busy = true;
    do {
      auto& j = l.waiting.front();
      c.bytes += j.what == redis_job::kind::read ? std::min(j.limit.bytes, max_redis_page) : j.size;
      ++c.jobs;
      ++j.tries;
      p.jobs.splice(p.jobs.end(), l.waiting, l.waiting.begin());
    } while (c.what != redis_job::kind::other && !l.waiting.empty() && l.waiting.front().what == c.what &&
             c.jobs < most_jobs && c.bytes < most_bytes);
  }

  std::string identity_of(const redis_nodes::node& n) const {
    return options_.keep_epochs ? "kept" : n.commands->facts().identity();
  }
  std::int64_t kept_for() const noexcept {
    return options_.age ? 10 * std::max(options_.age, options_.key_lifetime) : 0;
  }

  void send(const call_pointer& c) {
    redis_command out;
    const auto* other = c->what == redis_job::kind::other ? c->parts[0].jobs.front().other.get() : nullptr;
    const bool append = c->what == redis_job::kind::append;
    const redis_script& script = other ? *other->script : append ? redis_append_script : redis_read_script;
    out.add(c->whole ? "EVAL" : "EVALSHA").add(c->whole ? script.text : script.digest);
    const std::size_t each = other ? other->keys.size() : 2;
    out.number(std::uint64_t{each * c->parts.size() + !nodes_.cluster()});
    for (const auto& p : c->parts) {
      if (other) {
        for (const char* rest : other->keys) out.own(p.of->keys->meta + rest);
      } else {
        out.add(p.of->keys->meta).add(p.of->keys->stream);
      }
    }
    if (!nodes_.cluster()) out.own(options_.prefix + ":secret");
    out.own(identity_of(*c->to)).own(redis_seed()).number(options_.clock()).number(kept_for());
    if (append) {
      out.add(origin_).add(publish_verb()).number(options_.key_lifetime);
      out.number(options_.keys ? options_.keys : max_offset).number(std::uint64_t{options_.announced});
    }
    for (const auto& p : c->parts) {
      out.add(p.of->rule.empty() ? std::string_view(nodes_.cluster() ? "?" : "*") : std::string_view(p.of->rule));
      if (other) {
        for (const auto& word : other->words) out.add(word);
      } else if (append) {
        add_redis_limits(out, options_, p.jobs.back().message.keep);
        add_redis_drafts(out, p.jobs);
      } else {
        out.number(options_.age);
        add_redis_reads(out, p.jobs);
      }
    }
    if (nodes_.cluster()) out.own(options_.prefix + ":secret:{" + redis_slot_tag(c->parts[0].of->slot) + '}');
    auto& link = *c->to->commands;
    if (std::exchange(c->asking, false)) link.send(redis_command{"ASKING"}, [](std::error_code, redis_reply) {});
    ++under_way_[c->to];
    link.send(out, [this, c](std::error_code lost, redis_reply r) {
      if (auto at = under_way_.find(c->to); at != under_way_.end() && --at->second == 0) under_way_.erase(at);
      lost ? broken(*c) : answered(c, r);
      turn();
    });
    link.flush();
  }

  // ---- what comes back

  void broken(call& c) {
    for (auto& p : c.parts) {
      const auto& first = p.jobs.front();
      const bool again = first.what == redis_job::kind::read || (first.other && first.other->may_repeat);
      if (again && first.tries < 4 && !stopped_) {
        put_back(p);
      } else {
        refuse_all(p, errc::timeout);
        finish(*p.of);
      }
    }
  }

  void answered(const call_pointer& c, redis_reply r) {
    if (r.failed_with("NOSCRIPT") && !c->whole) {
      c->whole = true;  // a script that was flushed: nothing was run, and nothing passes it meanwhile
      return send(c);
    }
    if (r.is_error()) return failed(*c, r.text());
    if (c->what == redis_job::kind::other) return take_other(c->parts[0], r);
    for (std::size_t i = 0; i < c->parts.size(); ++i) {
      auto& p = c->parts[i];
      p.of->alone = false;
      const auto one = r[i];
      const auto how = one[0].text();
      if (how == "stale") {
        find_out(std::move(p), std::string(one[1].text()));
        continue;
      }
      p.of->rule.clear();
      if (how != "ok") {
        refuse_all(p, how == "error" ? redis_error(one[1].text()) : make_error_code(errc::internal));
      } else if (c->what == redis_job::kind::append) {
        take_offsets(p, one);
      } else {
        take_pages(p, one);
      }
      finish(*p.of);
    }
  }
  void take_other(part& p, redis_reply r) {
    p.of->alone = false;
    if (r[0].text() == "stale") return find_out(std::move(p), std::string(r[1].text()));
    p.of->rule.clear();
    auto& j = p.jobs.front();
    if (r[0].text() == "error") {
      refuse_all(p, redis_error(r[1].text()));
    } else {
      listener_->log_released(j);
      try {
        std::exchange(j.other->done, nullptr)({}, r);
      } catch (...) {  // the handler's own affair
      }
    }
    finish(*p.of);
  }
  void take_offsets(part& p, redis_reply one) {
    const std::string epoch(one[1].text());
    std::size_t i = 2;
    for (auto& j : p.jobs) {
      append_result r = read_redis_offset(one[i++], epoch);
      const bool fresh = !r.error && !r.duplicate;
      message m;
      if (fresh)
        m = {r.offset, j.message.at, j.message.from, j.message.type, j.message.data, 0, false, j.message.content};
      answer(j, std::move(r));
      if (fresh) listener_->log_stored(j.channel, epoch, m);
    }
  }
  void take_pages(part& p, redis_reply one) {
    std::size_t i = 4;
    for (auto& j : p.jobs) {
      answer(j, read_redis_page(one, one[i++]));
    }
  }

  /// Redis has not run it, or has run nothing of it.
  void failed(call& c, std::string_view why) {
    const bool moved = why.starts_with("MOVED "), ask = why.starts_with("ASK "), again = why.starts_with("TRYAGAIN");
    for (auto& p : c.parts) {
      if (moved || ask) {
        unsigned slot = 0;
        redis_endpoint to;
        if (!read_redirection(why.substr(moved ? 6 : 4), c.to->at, slot, to)) {
          refuse_all(p, errc::internal);
          finish(*p.of);
          continue;
        }
        p.of->alone = ask;
        if (ask) {
          p.of->asking = to;
        } else {
          nodes_.moved(slot, to);
        }
        put_back(p);
      } else if (again) {
        p.of->alone = true;
        put_back(p, 50);
      } else {
        refuse_all(p, redis_error(why));
        finish(*p.of);
      }
    }
  }
  /// A channel of a cluster that was written under another identity: whether that master still has what it had.
  void find_out(part p, std::string old) {
    auto shared = std::make_shared<part>(std::move(p));
    const auto decide = [this, shared, old](bool moved) {
      shared->of->rule = (moved ? '=' : '!') + old;
      put_back(*shared);
      turn();
    };
    for (const auto& n : nodes_.all()) {
      if (!n->commands || !n->commands->room() || n->commands->facts().identity() != old) continue;
      n->commands->send(redis_command{"INFO"}, [decide, old](std::error_code ec, redis_reply r) {
        redis_facts now;
        const bool loading = now.take(r.text());
        decide(!ec && !loading && now.role == "master" && now.identity() == old);
      });
      n->commands->flush();
      return;
    }
    net::post(executor_, [decide] { decide(false); });
  }

  // ---- what servers say

  void node_ready(redis_nodes::node& n, redis_link& l) override {
    listener_->log_node_ready(n, l);
    turn();
  }
  void node_lost(redis_nodes::node& n, redis_link& l, std::string_view why) override {
    listener_->log_node_lost(n, l, why);
    turn();
  }
  void node_pushed(redis_nodes::node& n, redis_reply r) override { listener_->log_pushed(n, r); }
  void slots_changed() override {
    listener_->log_slots_changed();
    turn();
  }

  void tick_later() {
    timer_.expires_after(std::chrono::milliseconds(50));
    timer_.async_wait([this, alive = std::weak_ptr<int>(alive_)](std::error_code ec) {
      if (ec || alive.expired() || stopped_) return;
      if (!ready_.empty()) turn();
      tick_later();
    });
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  const redis_log_options options_;
  listener* listener_;
  const std::string origin_;
  std::unordered_map<std::string, line, text_hash> lines_;
  std::deque<line*> ready_;
  std::map<redis_nodes::node*, std::size_t> under_way_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();
  bool turning_ = false, stopped_ = false;
  redis_nodes nodes_;  // last: what it calls is there
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
