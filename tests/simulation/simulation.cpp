// SPDX-License-Identifier: BSL-1.0

// The whole stack without sockets, on a clock that is turned by hand: many clients hop between the four transports with
// nothing but their cursors while connections break, answers are lost, readers are slow and history is short. What each
// of them reads is held against what the publishers know: every message once, in order, or a gap that says exactly what
// is missing. In the end everybody must reach the head.
//
//   simulation [--seeds N] [--first S] [--verbose]
//
// Prints seeds, messages, reconnects, gaps. On a failure: the seed, what was wrong and a short history; exit code 1.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/ndjson.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#include "library_client.hpp"
#include "storages.hpp"

namespace simulation {

using namespace hailwire;

// Keys of `memory_storage` live by its own clock, which has to be the simulation's.
thread_local detail::event_loop* clock_of_keys = nullptr;

class simulation {
 public:
  simulation(std::uint64_t seed, bool keep_trace)
      : random_(seed),
        retention_(random_.chance(30) ? random_.between(40, 400) : random_.between(3, 30)),
        rec_(retention_) {
    rec_.keep_trace = keep_trace;
    rec_.count.seeds = 1;
    clock_of_keys = &loop_;
    kind_ = random_.below(4);
    large_ = random_.chance(8);
    rec_.restarts = kind_ == 3;
    rec_.failures = kind_ != 0 && random_.chance(25);
    rec_.permits = random_.chance(30);
    rec_.shared = kind_ != 0 && random_.chance(25);
    rec_.erases = kind_ == 0 && random_.chance(60);
    options o;
    if (random_.chance(50)) o.poll_messages = random_.between(1, 20);
    if (random_.chance(30)) o.poll_bytes = random_.between(1, 2000);
    if (random_.chance(20)) o.max_unsent = 2048;
    o.expiry_notice = std::chrono::seconds(random_.between(0, 3));
    if (random_.chance(30)) {
      rec_.last_value = "chat";
      o.channels = {{.pattern = rec_.last_value,
                     .last_value = true,
                     .at_most_every = std::chrono::milliseconds(100 * random_.below(3))}};
    }
    // All of them are one address, and do all that they can; half of them are given tickets.
    o.commands_per_second = 0;
    o.newcomers_per_second = random_.chance(50) ? 1'000'000 : 0;
    options_ = o;
    begin_server(make_storage());
    static const std::vector<std::string> names = {"chat", "news,\xCF\x80 \"1\"", "a/b?c&d=e%", "deals"};
    std::vector<std::string> channels(names.begin(),
                                      names.begin() + static_cast<std::ptrdiff_t>(random_.between(1, names.size())));
    world_ = std::make_unique<world>(world{gate_, random_, rec_, std::move(channels), large_});
    for (std::size_t i = 0, n = random_.between(large_ ? 4 : 8, large_ ? 8 : 20); i < n; ++i)
      clients_.push_back(std::make_unique<client>(*world_, "c" + std::to_string(i)));
    for (std::size_t i = 0; i < 3; ++i)
      library_.push_back(std::make_unique<library_client>(*world_, "l" + std::to_string(i), random_.next()));
  }
  ~simulation() {
    library_.clear();
    clients_.clear();
    gate_->destroy_all();
    gate_->messages.stop();
    loop_.run();
  }

  void run() {
    std::size_t steps = large_ ? 800 : 2500;
    for (std::size_t i = 0; i < steps && rec_.wrong.empty(); ++i) {
      step();
      for (auto& c : clients_) c->look_at_permission();
      if (i == steps / 2 && random_.chance(50)) settle_down();
    }
    settle_down();
    if (rec_.wrong.empty() && kind_ != 0 && random_.chance(50)) drain();
    if (rec_.wrong.empty() && answered_ != asked_)
      rec_.complain("of " + std::to_string(asked_) + " publishes of the host " + std::to_string(answered_) +
                    " were answered");
  }
  record& result() noexcept { return rec_; }

 private:
  static decision permission(std::string user, std::string_view until) {
    grant g{.user = std::move(user), .follow = channel_set::all(), .publish = channel_set::all()};
    if (!until.empty()) g.expires = std::chrono::system_clock::time_point(std::chrono::milliseconds(number_of(until)));
    return g;
  }
  static constexpr auto& transports = detail::linked<transport::websocket, transport::sse, transport::ndjson,
                                                     transport::long_poll, transport::short_poll>;

  void begin_server(std::unique_ptr<detail::any_storage> on) {
    gate_ = std::make_unique<detail::server_state>(loop_, std::move(on), options_, transports);
    gate_->host.authorize = [](const request& r, authorize_reply reply) {
      std::string_view until = r.param("until"), token = r.header("authorization");
      if (token.starts_with("Bearer until=")) until = token.substr(13);
      reply(permission(std::string(r.param("user")), until));
    };
    gate_->host.on_renew = [](session& s, std::string_view token, authorize_reply reply) {
      reply(permission(std::string(s.user()), token.substr(token.find('=') + 1)));
    };
  }

  // The server sends everybody away, while they go on doing what they do, and another one takes over its storage. The
  // publishes that it has taken are answered, and nobody has lost anything.
  void drain() {
    bool drained = false;
    world_->draining = true;
    trace("the server drains");
    ++rec_.count.drains;
    gate_->drain.begin(60'000, {.closes_per_second = random_.between(5, 100)}, [&] { drained = true; });
    for (int i = 0; i < 400 && !drained && rec_.wrong.empty(); ++i) {
      if (random_.chance(50)) publish(world_->channels[random_.below(world_->channels.size())]);
      for (std::size_t n = random_.below(8); n > 0; --n) clients_[random_.below(clients_.size())]->act();
      for (auto& c : library_) c->act();
      if (random_.chance(30)) {
        run_everything();
      } else {
        loop_.run();  // a storage that answers later leaves something under way
      }
      loop_.advance(100);
      elapsed_ += 100;
    }
    if (!drained) rec_.complain("the drain does not end");
    if (asked_ != answered_)
      rec_.complain("drained, though of " + std::to_string(asked_) + " publishes " + std::to_string(answered_) +
                    " are answered");
    gate_->stopping = true;
    gate_->stop();
    for (auto* c : gate_->connections()) c->shut_down();
    loop_.run();
    auto hear = [&] {
      for (auto& c : clients_) c->hear();
      for (auto& c : library_) c->hear();
    };
    hear();
    gate_->destroy_all();
    hear();
    world_->broken.clear();
    world_->draining = false;
    if (kind_ == 0) begin_server(detail::erase_storage(*memory_));  // which keeps the keys
  }

  std::unique_ptr<detail::any_storage> make_storage() {
    unsigned failing = rec_.failures ? 2 : 0;
    switch (kind_) {
      case 0: {
        memory_options m;
        m.messages = retention_;
        m.bytes = std::size_t{1} << 40;
        m.clock = m.steady = [] { return clock_of_keys->unix_time(); };
        memory_ = std::make_unique<memory_storage>(m);
        return detail::erase_storage(*memory_);
      }
      case 1:
        plain_ = std::make_unique<plain_storage>(random_, retention_);
        plain_->failing = failing;
        return detail::erase_storage(*plain_);
      default:
        delayed_ = std::make_unique<delayed_storage>(loop_, random_, retention_);
        delayed_->failing = failing;
        return detail::erase_storage(*delayed_);
    }
  }
  void trace(const std::string& what) {
    if (rec_.keep_trace && rec_.wrong.empty()) rec_.trace.push_back(what);
  }

  void publish(const std::string& channel, place* where = nullptr) {
    using kind = payload::kind;
    auto k = static_cast<kind>(random_.below(3));
    auto number =
        rec_.begin(channel, {}, random_.chance(20) ? "tick" : "", make_payload(random_, rec_.next_number(), large_, k));
    const auto& m = rec_.message(number);
    trace("the host publishes " + std::to_string(number) + " in " + channel);
    ++asked_;
    auto ec =
        gate_->messages.publish(channel, m.data, {m.type, {}}, [this, number, where](std::error_code why, position p) {
          ++answered_;
          if (why) {
            if (!rec_.failures) rec_.complain("the host's publish failed: " + why.message());
            return;
          }
          trace("message " + std::to_string(number) + " is acknowledged at " + p.epoch + "." +
                std::to_string(p.offset));
          rec_.acknowledged(number, p.epoch, p.offset);
          if (where) *where = {p.epoch, p.offset, true};
        });
    if (ec) rec_.complain("the host's publish was refused: " + ec.message());
  }

  // The host takes back what somebody has published.
  void erase() {
    const std::uint64_t number = rec_.any_standing(random_);
    if (!number) return;
    const auto [epoch, offset] = rec_.message(number).stands.back();
    const std::uint64_t entry = rec_.begin_erase(number);
    trace("the host takes back " + std::to_string(number) + " at " + epoch + '.' + std::to_string(offset));
    auto ec = gate_->messages.erase(
        rec_.message(number).channel, {epoch, offset}, [this, entry](std::error_code why, position p) {
          if (why == errc::not_found) return rec_.not_erased(entry);  // it was trimmed
          if (why) return rec_.complain("the host's erase failed: " + why.message());
          trace("the erasure is acknowledged at " + p.epoch + '.' + std::to_string(p.offset));
          rec_.erased(entry, p.epoch, p.offset);
        });
    if (ec) rec_.complain("the host's erase was refused: " + ec.message());
  }

  void step() {
    if (rec_.erases && random_.chance(3)) erase();
    switch (random_.below(20)) {
      case 0: {  // a burst within one turn, or a single one
        const auto& channel = world_->channels[random_.below(world_->channels.size())];
        for (std::size_t i = random_.chance(large_ ? 20 : 40) ? random_.between(2, large_ ? 8 : 40) : 1; i > 0; --i)
          publish(channel);
        break;
      }
      case 1:
      case 2:
      case 3:
        loop_.run();
        break;
      case 4:
      case 5:
        for (std::size_t i = random_.below(6); i > 0; --i) loop_.run_one();
        break;
      case 6:
      case 7:
      case 8:
        if (delayed_) {
          for (std::size_t i = random_.below(8); i > 0; --i) delayed_->step();
        } else {
          loop_.run();
        }
        break;
      case 9:
        if (elapsed_ < 240'000) {  // keys live for five minutes
          auto ms = static_cast<std::int64_t>(random_.chance(95) ? random_.below(400) : random_.below(12'000));
          elapsed_ += ms;
          trace(std::to_string(ms) + " ms pass");
          loop_.advance(ms);
        }
        if (elapsed_ < 140'000 && random_.chance(3)) random_.chance(50) ? stand_still() : read_steadily();
        break;
      case 10:
        if (kind_ == 3 && random_.chance(8)) {
          const auto& channel = world_->channels[random_.below(world_->channels.size())];
          ++rec_.count.restarts;
          if (random_.chance(50)) {
            trace("the storage loses " + channel);
            delayed_->restart(channel);
          } else if (auto lost = delayed_->lose_newest(channel, 2 * retention_); !lost.after.empty()) {
            trace("the storage loses the newest of " + channel + ", " + std::to_string(lost.head) + " are left in " +
                  lost.after);
            rec_.lost_newest(channel, lost.before, lost.after, lost.oldest, lost.head);
          }
        }
        if (rec_.shared && random_.chance(10)) write_behind();
        std::erase_if(world_->broken, [](const auto& c) { return c->closed; });
        if (kind_ == 0 && elapsed_ < 200'000 && random_.chance(2)) drain();
        if (rec_.permits && random_.chance(30)) clients_[random_.below(clients_.size())]->lose_channel();
        break;
      case 11:
      case 12:
        library_[random_.below(library_.size())]->act();
        break;
      default:
        clients_[random_.below(clients_.size())]->act();
    }
  }

  // Another program writes into the storage: the server hears of it with its own next message, and reads what it
  // missed.
  void write_behind() {
    const auto& channel = world_->channels[random_.below(world_->channels.size())];
    for (std::size_t i = random_.between(1, 4); i > 0; --i) {
      hailwire::draft d;
      d.at = loop_.unix_time();
      std::string json(make_payload(random_, rec_.next_number(), large_, payload::kind::json).bytes());
      proto::json::spaces_for_line_breaks(json);  // as a server stores it
      d.data = payload::json(std::move(json));
      if (plain_) {
        plain_->append_behind(channel, d);
      } else if (!delayed_->append_behind(channel, d)) {
        return;
      }
      trace("another program writes " + std::to_string(rec_.next_number()) + " into " + channel);
      rec_.begin(channel, {}, {}, std::move(d.data));
    }
  }

  // The server stands still, as in a debugger, and its timers run late. Whoever has answered every ping is not closed
  // for it. What was said before is heard first.
  void stand_still() {
    for (int round = 0; round < 3; ++round) {
      for (auto& c : clients_) c->hear();
      for (auto& c : library_) c->hear();
      loop_.run();
    }
    auto ms = static_cast<std::int64_t>(random_.between(60'000, 100'000));
    elapsed_ += ms;
    trace("the server stands still for " + std::to_string(ms) + " ms");
    loop_.stand_still(ms);
    loop_.run();
    world_->stood_still = true;
    for (auto& c : clients_) c->hear();
    world_->stood_still = false;
  }

  // A client whose system takes a little now and then, never enough for there to be room: as long as it does, it is not
  // let go.
  void read_steadily() {
    client& slow = *clients_[random_.below(clients_.size())];
    if (!slow.narrow()) return;
    for (std::size_t i = 0; i < 40 && !slow.waits(); ++i) {
      for (auto& channel : world_->channels) publish(channel);
      run_everything();
    }
    trace("a client reads slowly, but steadily");
    for (int i = 0; i < 7 && slow.waits(); ++i) {
      elapsed_ += 20'000;
      loop_.advance(20'000);
      slow.take_little();
    }
    slow.widen();
  }

  void run_everything() {
    do {
      loop_.run();
    } while (delayed_ && delayed_->step());
    loop_.run();
  }

  // Nobody misbehaves any more: one last message in each channel, and everybody must get there. Streams that are open
  // stay open, so that one that was not woken is found out.
  void settle_down() {
    if (!rec_.wrong.empty()) return;
    trace("---- everybody catches up");
    world_->calm = true;
    if (plain_) plain_->failing = 0;
    if (delayed_) delayed_->failing = 0;
    // First what has no acknowledgement yet is published again, then the last message of each channel.
    std::map<std::string, place> heads;
    std::size_t idle = 0;
    for (bool all = false; !all && rec_.wrong.empty();) {
      bool last = !heads.empty();
      auto before = rec_.count.received;
      all = last;
      bool settled = true;
      run_everything();
      for (auto& c : clients_) {
        c->catch_up();
        run_everything();
        c->read();
        settled = settled && c->settled();
        all = all && c->settled() && c->caught_up(heads);
      }
      for (auto& c : library_) {
        c->catch_up();
        run_everything();
        settled = settled && c->settled();
        all = all && c->settled() && c->caught_up(heads);
      }
      for (auto& c : clients_) c->look_at_permission();
      // Too short for a heartbeat to wake who should have been woken by a message.
      loop_.advance(10);
      if (settled && !last) {
        for (const auto& c : world_->channels) publish(c, &heads[c]);
        idle = 0;
      }
      idle = rec_.count.received == before ? idle + 1 : 0;
      if (idle < 50) continue;
      std::string who;
      for (auto& c : clients_)
        if (!c->settled() || !c->caught_up(heads)) who += "\n    " + c->state();
      for (auto& c : library_)
        if (heads.empty() || !c->settled() || !c->caught_up(heads)) who += "\n    " + c->state();
      for (auto& [channel, p] : heads) who += "\n    the head of " + channel + " is " + p.text();
      rec_.complain("not everybody reached the head:" + who);
    }
    world_->calm = false;
    unsigned failing = rec_.failures ? 2 : 0;
    if (plain_) plain_->failing = failing;
    if (delayed_) delayed_->failing = failing;
    world_->broken.clear();
  }

  testing::manual_loop loop_;
  dice random_;
  std::size_t retention_;
  record rec_;
  std::size_t kind_ = 0, asked_ = 0, answered_ = 0;
  bool large_ = false;
  options options_;
  std::int64_t elapsed_ = 0;
  std::unique_ptr<memory_storage> memory_;
  std::unique_ptr<plain_storage> plain_;
  std::unique_ptr<delayed_storage> delayed_;
  std::unique_ptr<detail::server_state> gate_;
  std::unique_ptr<world> world_;
  std::vector<std::unique_ptr<client>> clients_;
  std::vector<std::unique_ptr<library_client>> library_;
};

void add(totals& to, const totals& t) {
  to.seeds += t.seeds, to.published += t.published, to.received += t.received, to.connections += t.connections;
  to.reconnects += t.reconnects, to.lost_answers += t.lost_answers, to.gaps += t.gaps, to.repeats += t.repeats,
      to.restarts += t.restarts;
  to.renewals += t.renewals, to.expiries += t.expiries, to.revocations += t.revocations;
  to.drains += t.drains, to.farewells += t.farewells, to.erasures += t.erasures;
}
void print(const char* title, const totals& t) {
  auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  std::printf(
      "%s: %llu seeds, %llu messages published, %llu read, %llu reconnects, %llu lost answers, %llu gaps, %llu repeats "
      "dropped, %llu restarts, %llu renewals, %llu expiries, "
      "%llu revocations, %llu drains, %llu farewells, %llu erasures\n",
      title, n(t.seeds), n(t.published), n(t.received), n(t.reconnects), n(t.lost_answers), n(t.gaps), n(t.repeats),
      n(t.restarts), n(t.renewals), n(t.expiries), n(t.revocations), n(t.drains), n(t.farewells), n(t.erasures));
}

}  // namespace simulation

int main(int argc, char** argv) {
  std::uint64_t seeds = 1000, first = 1;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    std::string_view a = argv[i];
    if (a == "--verbose") {
      verbose = true;
    } else if (i + 1 < argc && (a == "--seeds" || a == "--first")) {
      (a == "--seeds" ? seeds : first) = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fprintf(stderr, "usage: simulation [--seeds N] [--first S] [--verbose]\n");
      return 2;
    }
  }
  simulation::totals all;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    std::string wrong;
    {
      simulation::simulation s(seed, false);
      s.run();
      wrong = s.result().wrong;
      add(all, s.result().count);
      if (verbose) print(("seed " + std::to_string(seed)).c_str(), s.result().count);
    }
    if (wrong.empty()) continue;
    std::printf("seed %llu failed: %s\n", static_cast<unsigned long long>(seed), wrong.c_str());
    simulation::simulation again(seed, true);
    again.run();
    auto& trace = again.result().trace;
    std::size_t from = verbose || trace.size() < 60 ? 0 : trace.size() - 60;
    for (std::size_t i = from; i < trace.size(); ++i) std::printf("  %s\n", trace[i].c_str());
    if (again.result().wrong != wrong)
      std::printf("run again: %s\n", again.result().wrong.empty() ? "no failure" : again.result().wrong.c_str());
    print("until then", all);
    return 1;
  }
  print("passed", all);
}
