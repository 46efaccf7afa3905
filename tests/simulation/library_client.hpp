// SPDX-License-Identifier: BSL-1.0
#pragma once

// A program with the library's own client (hailwire/client.hpp) in it, among the simulation's other clients: it falls
// back and climbs back, its connections are refused and cut, answers of its posts are lost, its handler throws, it is
// killed and begins again with the cursor that it has saved, and its clock may run ahead. The program sees what its
// handlers are told and nothing else: every message once and in order, or a gap that hides nothing that is retained; a
// cursor that says where the program is, to the message; and of its publishes each stored once, in the order of its
// calls.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client.hpp"
#include "hailwire/detail/client/transports.hpp"

namespace simulation {

class library_client {
 public:
  library_client(world& w, std::string name, std::uint64_t seed) : world_(w), name_(std::move(name)), random_(seed) {
    for (const auto& c : w.channels)
      if (follows_.empty() || chance(40)) begin_follow(c);
    begin();
  }
  library_client(const library_client&) = delete;
  library_client& operator=(const library_client&) = delete;

  /// One thing that the program or its network does.
  void act() {
    if (chance(10)) publish();
    if (chance(4)) machine_->cut(chance(70) ? client_lane::follow : client_lane::command);
    if (chance(2)) follow_others();
    if (chance(2)) ask();
    if (chance(1)) restart("is killed");
    if (chance(70)) machine_->pump();
    look();
  }
  void hear() {
    for (int i = 0; i < 5; ++i) machine_->pump();
    look();
  }
  /// Does only what leads to the head: its clock runs to whatever it waits for.
  void catch_up() {
    if (!machine_->pump()) machine_->hasten();
    look();
    for (auto& c : std::exchange(taken_, {}))
      if (!find(c)) begin_follow(c), machine_->follow(c, start_of(follows_.back()));
  }
  bool settled() const { return machine_->pending() == 0; }
  bool caught_up(const std::map<std::string, place>& heads) const {
    return taken_.empty() && std::all_of(follows_.begin(), follows_.end(), [&](const follow& f) {
             const place& head = heads.at(f.channel);
             return f.at.known && f.at.epoch == head.epoch && f.at.offset >= head.offset;
           });
  }
  std::string state() const {
    std::string out = name_ + " by the library's " + std::string(machine_->status().transport);
    for (const auto& f : follows_) out += ", in " + f.channel + " at " + f.at.text();
    return out + ", " + std::to_string(machine_->pending()) + " commands unanswered";
  }

 private:
  using client_lane = hailwire::detail::client_lane;
  using ladder = std::vector<const hailwire::detail::client_transport*>;
  struct hiccup {};  // what the program's handler throws now and then

  struct follow {
    std::string channel;
    place at;  // where the program is
    bool earliest = false;
    place least = {};  // what was acknowledged when it began to follow
  };

  /// The machine with its connections to the server.
  class machine final : public hailwire::detail::client_machine {
   public:
    machine(library_client& of, const ladder& l, hailwire::client_options o)
        : client_machine(*hailwire::proto::parse_url("http://sim/live?user=" + of.name_), std::move(o), l,
                         hailwire::detail::make_client_errands),
          of_(of) {}
    ~machine() override {
      for (auto& l : lanes_) of_.world_.cut(l.c);
    }

    std::int64_t now() const noexcept override { return of_.server_time() + of_.ahead_; }
    void random(std::span<unsigned char> out) override {
      for (auto& b : out) b = static_cast<unsigned char>(of_.random_.next());
    }
    void connect(client_lane which, const hailwire::proto::url&) override {
      auto& l = lane(which);
      disconnect(which);
      l.wanted = true;
      if (which == client_lane::follow) of_.since_ = of_.world_.rec.moment;
    }
    void write(client_lane which, std::string_view bytes) override { lane(which).out += bytes; }
    void disconnect(client_lane which) override {
      auto& l = lane(which);
      if (l.c && !l.out.empty()) l.c->send(l.out);
      of_.world_.cut(l.c);
      const auto life = l.life + 1;
      l = {};
      l.life = life;
    }
    void wake_at(std::int64_t at) override { alarm_at_ = at; }
    void settle_later() override { settles_ = true; }

    /// Moves what is to be moved. False when there was nothing.
    bool pump() {
      bool moved = false;
      try {
        if (std::exchange(settles_, false)) settle(), moved = true;
        if (alarm_at_ <= now()) {
          alarm_at_ = never;
          alarm();
          moved = true;
        }
        for (auto which : {client_lane::follow, client_lane::command}) moved = step(which) || moved;
      } catch (const hiccup&) {
        moved = true;
      }
      return moved;
    }
    /// The connection breaks, somewhere in the middle of what was on its way.
    void cut(client_lane which) {
      auto& l = lane(which);
      if (!l.c) return;
      l.in += l.c->take();
      l.in.resize(of_.below(l.in.size() + 1));
      of_.world_.cut(l.c);
      l.broken = true;
    }
    void hasten() {
      const auto rest = alarm_at_ - now();
      if (alarm_at_ != never && rest > 0 && (status().now == state::waiting || rest <= 2500)) of_.ahead_ += rest;
    }

   private:
    struct lane_state {
      std::shared_ptr<hailwire::testing::memory_connection> c;
      std::string in, out;
      bool wanted = false, broken = false;
      std::uint64_t life = 0;
    };
    lane_state& lane(client_lane l) { return lanes_[static_cast<std::size_t>(l)]; }

    bool step(client_lane which) {
      auto& l = lane(which);
      const bool calm = of_.world_.calm;
      if (std::exchange(l.wanted, false)) {
        if (of_.world_.gate->stopping || (!calm && of_.chance(5)))
          return lane_ended(which, std::make_error_code(std::errc::connection_refused)), true;
        l.c = hailwire::testing::memory_connection::open(*of_.world_.gate);
        ++of_.world_.rec.count.connections;
        if (!calm && of_.chance(25)) l.c->room = of_.below(3000);
        lane_connected(which);
        return true;
      }
      bool moved = false;
      if (l.c) {
        if (l.c->room < 1'000'000) l.c->open_window(calm ? 1'000'000'000 : of_.below(800));
        if (!l.out.empty()) l.c->send(std::exchange(l.out, {})), moved = true;
        l.c->deliver();
        l.in += l.c->take();
      }
      const auto life = l.life;
      while (!l.in.empty() && l.life == life) {
        std::string piece = l.in.substr(0, of_.chance(50) ? l.in.size() : 1 + of_.below(l.in.size()));
        l.in.erase(0, piece.size());
        moved = true;
        lane_received(which, piece);
      }
      if (l.life != life || !l.in.empty()) return true;
      if (l.broken || (l.c && (l.c->ended_by_server || l.c->closed))) {
        const bool broke = l.broken;
        disconnect(which);
        lane_ended(which, broke ? std::make_error_code(std::errc::connection_reset) : std::error_code());
        return true;
      }
      return moved;
    }

    library_client& of_;
    std::array<lane_state, hailwire::detail::client_lanes> lanes_;
    std::int64_t alarm_at_ = never;
    bool settles_ = false;
  };

  bool chance(unsigned percent) { return random_.chance(percent); }
  std::size_t below(std::size_t n) { return random_.below(n); }
  std::int64_t server_time() const { return world_.gate->messages.loop().unix_time(); }
  void complain(const std::string& what) {
    world_.rec.complain(name_ + " (the library's " + std::string(machine_->status().transport) + "): " + what);
  }
  void trace(const std::string& what) {
    if (world_.rec.keep_trace && world_.rec.wrong.empty()) world_.rec.trace.push_back(name_ + ": " + what);
  }
  bool conflates(std::string_view channel) const { return channel == world_.rec.last_value; }
  follow* find(std::string_view channel) {
    for (auto& f : follows_)
      if (f.channel == channel) return &f;
    return nullptr;
  }

  // ---- the program's life

  void begin_follow(const std::string& channel) {
    follows_.push_back({channel, {}, chance(50), world_.rec.acknowledged_head(channel)});
  }
  hailwire::start start_of(const follow& f) const {
    if (f.at.known) return hailwire::start::after({f.at.epoch, f.at.offset});
    return f.earliest ? hailwire::start::earliest() : hailwire::start::latest();
  }
  void begin() {
    using namespace hailwire::detail;
    static constexpr const client_transport* all[] = {&client_websocket, &client_sse, &client_long_poll,
                                                      &client_short_poll};
    ladder_.clear();
    if (chance(60)) {
      ladder_.push_back(all[below(4)]);
    } else {
      ladder_.assign(std::begin(all), std::end(all));
    }
    using std::chrono::milliseconds;
    machine_ = std::make_unique<machine>(*this, ladder_,
                                         hailwire::client_options{.unanswered = 1,
                                                                  .patience = milliseconds(2000),
                                                                  .hold = std::chrono::seconds(5),
                                                                  .poll_interval = milliseconds(200),
                                                                  .first_wait = milliseconds(20),
                                                                  .most_wait = milliseconds(500),
                                                                  .climb = milliseconds(3000)});
    auto& on = machine_->on;
    on.message = [this](const hailwire::client_message& m) { message(m); };
    on.gap = [this](const hailwire::client_gap& g) { gap(g); };
    on.cursor = [this](const std::string& cursor) {
      check(cursor);
      saved_ = follows_;  // which say the same
    };
    on.notice = [this](std::string_view name, std::string_view json) {
      if (name != "closed") return;
      const std::string channel = string_of(simulation::find(members(json, world_.rec.wrong), "channel"));
      if (!world_.rec.failures && !world_.rec.permits) return complain("is refused " + channel);
      std::erase_if(follows_, [&](const follow& f) { return f.channel == channel; });
      taken_.push_back(channel);
    };
    on.status = [this](const hailwire::client_status& s) {
      if (!s.reason.empty()) trace("is told: " + std::string(s.reason) + " " + std::string(s.text));
    };
    if (world_.rec.permits) on.renew = [this](hailwire::token_reply reply) { reply(token()); };
    for (auto& f : follows_) machine_->follow(f.channel, start_of(f));
    trace("begins by " + std::string(ladder_[0]->name) + " at " + machine_->cursor());
    machine_->start();
  }
  /// The process ends, and another one goes on where this one has saved that it was.
  void restart(const char* why) {
    trace(why);
    ending_ = true;
    machine_->close();
    machine_->settle();
    machine_.reset();
    ending_ = false;
    ++world_.rec.count.reconnects;
    // Channels of which nothing was saved begin as they did.
    for (auto& f : follows_) {
      f.at = {};
      for (auto& s : saved_)
        if (s.channel == f.channel) f.at = s.at;
    }
    last_.clear();
    begin();
  }
  /// Looks at the client from outside: the cursor, and whether it still lives.
  void look() {
    if (machine_->status().now == hailwire::client_status::state::stopped) {
      if (world_.rec.permits && machine_->status().reason == "unauthenticated") return restart("has no more tokens");
      return complain("has stopped: " + std::string(machine_->status().reason));
    }
    check(machine_->cursor());
  }
  std::string token() {
    const auto until = server_time() + (world_.calm ? 3'000'000
                                        : chance(8) ? -1 - static_cast<std::int64_t>(below(5000))
                                                    : 300 + static_cast<std::int64_t>(below(15'000)));
    return "until=" + std::to_string(until);
  }

  // ---- following

  /// The program begins in a channel at `p`, just before the first message that it will have.
  void began(follow& f, const place& p) {
    trace("begins in " + f.channel + " at " + p.text());
    f.at = p;
    if (conflates(f.channel)) return;
    if (f.earliest ? !world_.rec.may_be_trimmed(f.channel, p.epoch, p.offset)
                   : (!world_.rec.shared && f.least.known && f.least.epoch == p.epoch && p.offset < f.least.offset) ||
                         !world_.rec.may_exist(f.channel, p.epoch, p.offset))
      complain(std::string(f.earliest ? "earliest" : "latest") + " began at " + p.text() + " in " + f.channel);
  }
  /// A cursor names the channels in their order, and where the program is in each: neither less nor more.
  void check(std::string_view cursor) {
    const auto names = machine_->channels();
    if (names.size() != follows_.size()) return complain("follows other channels");
    for (auto& name : names) {
      const auto part = cursor.substr(0, cursor.find(','));
      cursor.remove_prefix(std::min(cursor.size(), part.size() + 1));
      follow* f = find(name);
      if (!f) return complain("follows " + name + ", which it does not");
      const auto dot = part.find('.');
      if (dot == part.npos) {
        if (f->at.known) complain("has forgotten its place in " + name);
        continue;
      }
      const place p{std::string(part.substr(0, dot)), number_of(part.substr(dot + 1)), true};
      if (!f->at.known) {
        began(*f, p);
      } else if (conflates(name) && p.epoch == f->at.epoch && p.offset > f->at.offset) {
        f->at = p;
      } else if (p.epoch != f->at.epoch || p.offset != f->at.offset) {
        complain("its cursor says " + p.text() + " in " + name + ", and the program is at " + f->at.text());
      }
    }
  }
  void gap(const hailwire::client_gap& g) {
    ++world_.rec.count.gaps;
    trace("is told of a gap (" + std::string(g.reason) + ") in " + std::string(g.channel) + " before " +
          std::string(g.epoch) + "." + std::to_string(g.next));
    follow* f = find(g.channel);
    if (!f) return complain("a gap in " + std::string(g.channel) + ", which it does not follow");
    const std::string epoch(g.epoch);
    if (f->at.known && g.reason == "trimmed" &&
        (epoch != f->at.epoch || g.next <= f->at.offset + 1 || conflates(f->channel)))
      return complain("a gap of nothing in " + f->channel + " at " + f->at.text());
    if (f->at.known && g.reason == "epoch" && (epoch == f->at.epoch || !world_.rec.restarts))
      return complain("an epoch gap without another epoch in " + f->channel);
    if (!conflates(f->channel) && !world_.rec.may_be_trimmed(f->channel, epoch, g.next - 1))
      complain("the gap in " + f->channel + " hides message " + std::to_string(g.next - 1) + ", which is retained");
    f->at = {epoch, g.next - 1, true};
  }
  void message(const hailwire::client_message& m) {
    if (!world_.calm && chance(2)) throw hiccup();  // it has not taken this one: it comes again
    follow* f = find(m.channel);
    if (!f) return complain("a message of " + std::string(m.channel) + ", which it does not follow");
    if (!m.offset) return;
    if (!f->at.known) began(*f, {std::string(m.epoch), m.offset - 1, true});
    if (m.epoch != f->at.epoch || (conflates(f->channel) ? m.offset <= f->at.offset : m.offset != f->at.offset + 1))
      return complain("message " + std::string(m.epoch) + '.' + std::to_string(m.offset) + " after " + f->at.text() +
                      " in " + f->channel);
    f->at.offset = m.offset;
    const auto fields = members(m.json, world_.rec.wrong);
    if (m.from != string_of(simulation::find(fields, "from")) || m.type != string_of(simulation::find(fields, "type")))
      complain("is told another sender or type than what came");
    if (m.erased) return world_.rec.received_erased(name_, f->channel, f->at);
    if (m.erases) return world_.rec.received_erasure(name_, f->channel, f->at, m.erases);
    std::string_view inner = m.binary ? m.bytes : m.data;
    inner.remove_prefix(std::min<std::size_t>(inner.size(), m.binary ? 1 : m.data.starts_with('"') ? 2 : 5));
    const std::uint64_t number = number_of(inner.substr(0, inner.find_first_of(", ")));
    std::string member = "\"data\":" + std::string(m.data);
    if (m.binary) {
      member = "\"bytes\":\"";
      hailwire::proto::append_base64(member, m.bytes);
      member += '"';
    }
    trace("reads " + std::to_string(number) + " at " + f->at.text() + " in " + f->channel);
    world_.rec.received(name_, f->channel, f->at, number, member, m.from, m.type, since_);
  }

  // ---- asking

  void follow_others() {
    const auto& c = world_.channels[below(world_.channels.size())];
    if (!find(c)) {
      trace("follows " + c);
      std::erase(taken_, c);
      begin_follow(c);
      machine_->follow(c, start_of(follows_.back()));
    } else if (follows_.size() > 1) {
      trace("leaves " + c);
      machine_->unfollow(c);
      std::erase_if(follows_, [&](const follow& f) { return f.channel == c; });
      std::erase_if(saved_, [&](const follow& f) { return f.channel == c; });
    }
  }
  void publish() {
    if (machine_->pending() > 20) return;
    using kind = hailwire::payload::kind;
    const auto& channel = world_.channels[below(world_.channels.size())];
    const auto number =
        world_.rec.begin(channel, name_, chance(20) ? "note" : "",
                         make_payload(random_, world_.rec.next_number(), world_.large,
                                      chance(70) ? kind::json : kind::binary));  // a command has no texts
    const auto& m = world_.rec.message(number);
    trace("publishes " + std::to_string(number) + " in " + channel);
    machine_->publish(
        channel, m.data, {.type = m.type},
        [this, number, channel, began = machine_->now()](const hailwire::client_error& e, std::string_view ok) {
          if (e) return failed(number, e, began);
          const auto p = hailwire::detail::read_position(ok);
          trace("has published " + std::to_string(number) + " at " + p.epoch + '.' + std::to_string(p.offset));
          world_.rec.acknowledged(number, p.epoch, p.offset);
          auto& last = last_[channel];
          if (last.known && last.epoch == p.epoch && p.offset <= last.offset)
            complain("message " + std::to_string(number) + " of " + channel +
                     " stands before what was published first");
          last = {p.epoch, p.offset, true};
        });
  }
  void failed(std::uint64_t number, const hailwire::client_error& e, std::int64_t began) {
    using hailwire::errc;
    trace("of " + std::to_string(number) + " hears: " + e.text());
    const bool stopped = e.code == hailwire::operation_aborted() &&
                         (ending_ || world_.rec.permits);  // it has stopped for want of tokens
    // A key lives for five minutes, of which the client leaves ten seconds for the way.
    const bool late = e.code == errc::timeout && machine_->now() - began >= 290'000;
    const bool storage =
        world_.rec.failures && (e.code == errc::internal || e.code == errc::timeout || e.code == errc::bad_request);
    if (!stopped && !late && !storage && !(world_.rec.permits && e.code == errc::unauthenticated))
      complain("message " + std::to_string(number) + " was not published: " + e.text());
  }
  void ask() {
    const auto& channel = world_.channels[below(world_.channels.size())];
    std::string body = "{\"channel\":";
    json::append_quoted(body, channel);
    body += ",\"limit\":" + std::to_string(1 + below(20)) + '}';
    machine_->request(hailwire::detail::client_command::kind::question, "history", body, {},
                      [this, channel](const hailwire::client_error& e, std::string_view ok) {
                        if (e && (ending_ || world_.rec.failures || world_.rec.permits)) return;
                        if (e) return complain("history of " + channel + " failed: " + e.text());
                        auto m = members(ok, world_.rec.wrong);
                        place at{string_of(simulation::find(m, "epoch")), 0, true};
                        for (const auto& v : elements(simulation::find(m, "messages"), world_.rec.wrong)) {
                          const auto offset = number_of(simulation::find(members(v.text, world_.rec.wrong), "offset"));
                          if (at.offset && offset != at.offset + 1) complain("history has a hole in " + channel);
                          at.offset = offset;
                        }
                      });
  }

  world& world_;
  std::string name_;
  dice random_;
  std::vector<follow> follows_, saved_;
  std::vector<std::string> taken_;     // channels that a failing storage could not begin
  std::map<std::string, place> last_;  // of each channel, where the newest of its own stands
  std::uint64_t since_ = 0;            // what was taken back when its connection began
  std::int64_t ahead_ = 0;             // its clock's, of the server's
  bool ending_ = false;
  ladder ladder_;
  std::unique_ptr<machine> machine_;
};

}  // namespace simulation
