// SPDX-License-Identifier: BSL-1.0

// People with several devices on one hub, or on four, each with a loop of its own as on a thread, on a clock that is
// turned by hand. They publish, say how far they have received and read, type, take back, come, go and come back with
// nothing but `since=received`, while hubs crash, the storage begins new epochs, and what is live-only is lost or late
// between hubs. What each is told is held against what the others know:
//
// - watermarks never fall, and nobody is told "read" before "received", or more than was said, or what is private;
// - a device that comes back stands behind its own newest watermark, or is told of a gap, and sees each message once;
// - what is ephemeral arrives once, live or not at all, and not where it came from;
// - what was taken back is shown to nobody who came later;
// - who is present is what joins, leaves and answers say, and in the end everybody agrees.
//
//   crowd [--seeds N] [--first S] [--careless] [--verbose]
//
// With `--careless` what is live-only is lost or late between hubs, too.
//
// On a failure: the seed, what was wrong and the last steps; exit code 1.

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "crowd_world.hpp"
#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/testing/memory_connection.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#include "wire.hpp"

namespace crowd {

using simulation::elements;
using simulation::escaped;
using simulation::find;
using simulation::members;
using simulation::number_of;
using simulation::string_of;
namespace json = hailwire::proto::json;

constexpr std::size_t most_devices = 16;  // PROTOCOL.md, "Who may"; the library's own constant is what is tested

/// A hub with what serves its clients; again and again, as it crashes.
struct node {
  testing::manual_loop loop;
  std::unique_ptr<detail::server_state> gate;
  std::shared_ptr<bool> crashed;
  std::uint64_t seat = 0, life = 0;
};

struct city {
  city(std::uint64_t seed, bool verbose, bool careless)
      : random(seed), known(random), broker(random), storage(retention()) {
    known.verbose = verbose;  // else the last steps alone are kept
    o.channels = {{.pattern = "room", .presence = true, .ephemeral = true, .receipts = true},
                  {.pattern = "quiet", .ephemeral = true}};
    if (random.chance(30)) o.presence_names = 3;
    o.commands_per_second = o.newcomers_per_second = 0;
    broker.loses = random.chance(40) ? static_cast<unsigned>(random.between(2, 10)) : 0;
    broker.delays = !broker.loses && random.chance(60) ? static_cast<unsigned>(random.between(5, 40)) : 0;
    if (!careless) broker.loses = broker.delays = 0;
    crashes = random.chance(60);
    restarts = random.chance(40);
    later = random.chance(50);
    for (std::size_t i = 0, n = random.chance(30) ? 1 : 4; i < n; ++i) nodes.push_back(std::make_unique<node>());
    for (auto& n : nodes) begin(*n);
  }
  std::size_t retention() { return random.chance(30) ? random.between(200, 400) : random.between(5, 40); }
  std::int64_t now() const { return nodes[0]->loop.now(); }
  void begin(node& n) {
    static constexpr auto& linked = detail::linked<transport::websocket, transport::sse>;
    n.crashed = std::make_shared<bool>(false);
    n.gate = std::make_unique<detail::server_state>(
        n.loop, std::make_unique<storage_of_hub>(storage, n.loop, n.crashed, later), o, linked);
    n.gate->host.authorize = [](const request& r, authorize_reply reply) {
      grant g;
      g.user = r.param("user");
      g.follow = g.publish = channel_set::all();
      reply(std::move(g));
    };
    n.gate->host.on_erase = [](session&, std::string_view, const message&) { return true; };
    n.life = ++lives;
    if (nodes.size() > 1) n.gate->messages.join(detail::erase_broker(broker));
    n.seat = broker.newest;
    last_crash = now();
  }
  /// Nothing that the hub does from now on is seen by anybody.
  void crash(node& n) {
    *n.crashed = true;
    if (nodes.size() > 1) broker.crash(n.seat);
    known.crashed(n.life);
    n.gate->messages.stop();
    n.gate->destroy_all();
    n.loop.run();
    n.gate.reset();
    n.loop.run();
    n.loop.alarm(detail::event_loop::no_alarm);
    last_crash = now();
  }
  void run_all() {
    for (bool more = true; more;) {
      more = false;
      for (auto& n : nodes) more = n->loop.run() > 0 || more;
    }
    ++known.moment;
    for (auto& w : known.words)
      if (w.answered && !w.over) w.over = known.moment;
  }
  void advance(std::int64_t ms) {
    for (auto& n : nodes) n->loop.advance(ms);
    known.time_is(now());
  }
  void trace(std::string what) {
    if (!known.wrong.empty()) return;
    known.trace.push_back(std::move(what));
    if (!known.verbose && known.trace.size() > 80) known.trace.pop_front();
  }

  dice random;
  knowledge known;
  careless_broker broker;
  common_storage storage;
  options o;
  bool crashes, restarts, later;
  std::uint64_t lives = 0;
  std::int64_t last_crash = 0;
  std::vector<std::unique_ptr<node>> nodes;
};

/// What a client has sent a command for.
struct command {
  enum kind { publish, mark, word, presence, receipts, erase, other } what = other;
  std::string channel, epoch = {}, device = {};
  std::uint64_t number = 0;
  levels to = {};
  std::string expected = {};  // the code of an error; empty: none, or one that `may` has
  std::string may = {};
  std::map<std::string, levels> kept = {};  // users' levels that were known when it was asked
  std::uint64_t life = 0;                   // of the hub that was asked
};

class client {
 public:
  client(city& c, std::string user, std::size_t devices, std::size_t number)
      : in_(c), user_(std::move(user)), devices_(devices), number_(number) {}

  const std::string& user() const noexcept { return user_; }
  std::string state() const {
    return name() + (websocket_ ? " (websocket" : " (sse") + ", at hub " + std::to_string(at_ ? at_->life : 0) +
           (stream_ && stream_->waiting ? ", does not take its bytes" : "") +
           (stream_ && stream_->closed ? ", closed" : "") + ", has of a block: \"" + bytes_.substr(0, 60) + "\")";
  }
  bool follows_room() const noexcept { return stream_ && opened_ && find_follow("room"); }
  node* at() const noexcept { return at_; }

  void act();
  void connect(bool calm);
  void disconnect(const char* why) {
    trace(why);
    if (stream_) stream_->reset();
    forget();
  }
  /// Its hub crashes: what has arrived has, or has not.
  void crash(node& n) {
    if (at_ == &n) {
      if (stream_ && in_.random.chance(50)) read();
      forget();
    }
    std::erase_if(posts_, [&](const post& p) { return p.at == &n; });
  }
  void read();
  void keep_alive() {
    if (!stream_ || !websocket_ || !opened_ || in_.now() < pinged_ + 10'000) return;
    pinged_ = in_.now();
    send({command::other, {}}, "\"ping\":{}");
  }
  void take(std::size_t bytes) {
    if (stream_) stream_->open_window(bytes);
  }
  void ask_presence() {
    if (websocket_ && opened_) send({command::presence, "room"}, "\"presence\":{\"channel\":\"room\"}");
  }
  void type(const std::string& channel);
  void publish(const std::string& channel);
  void mark_head();
  /// In the end: everybody who was asked for agrees on this.
  void agree(const std::map<std::string, std::size_t>& there, std::size_t anonymous, bool counting);
  bool heard_word(std::uint64_t n) const { return words_.contains(n); }

 private:
  struct follow {
    std::string channel, epoch = {};
    std::uint64_t offset = 0, asked = 0;  // `asked`: the moment
    bool began = false, gap_due = false;
    knowledge::device then = {};  // what was known of this device when it asked to follow
    bool by_received = false;
  };
  struct post {
    std::shared_ptr<testing::memory_connection> c;
    command what;
    node* at;
    std::string in = {};
  };
  void trace(const std::string& what) { in_.trace(name() + ' ' + what); }
  std::string name() const {
    return (user_.empty() ? "nobody" : user_ + '/' + device_) + '#' + std::to_string(number_);
  }
  void complain(const std::string& what) {
    if (in_.known.wrong.empty()) trace("complains: " + what);
    in_.known.complain(name() + (websocket_ ? " (websocket) " : " (sse) ") + what);
  }
  follow* find_follow(std::string_view channel) {
    for (auto& f : follows_)
      if (f.channel == channel) return f.began ? &f : nullptr;
    return nullptr;
  }
  const follow* find_follow(std::string_view channel) const { return const_cast<client*>(this)->find_follow(channel); }
  void forget() {
    stream_.reset();
    at_ = nullptr;
    opened_ = headed_ = false;
    bytes_.clear();
    follows_.clear();
    told_.clear();
    asked_.clear();
    there_.clear();
    gone_.clear();
    words_.clear();  // which come once in a session: another hub may be behind with them
    valid_ = counted_ = false;
  }
  void send(command c, const std::string& body);
  void begin(follow& f, std::string_view entry);
  void took(std::string_view object);
  void message_came(const hailwire::detail::vector<json::member>& m);
  void receipt_came(std::string_view text);
  void answered(command c, std::string_view ok, std::string_view error);
  void held(const std::string& channel, const std::string& epoch, const std::string& user, const levels& l, bool own);
  void mark();
  void take_back();

  city& in_;
  const std::string user_;
  const std::size_t devices_, number_;
  std::string device_, session_;
  std::shared_ptr<testing::memory_connection> stream_;
  node* at_ = nullptr;
  bool websocket_ = false, opened_ = false, headed_ = false;
  std::string bytes_;
  std::vector<follow> follows_;
  std::map<std::string, std::string> old_epochs_;                             // by channel: one that is over
  std::map<std::tuple<std::string, std::string, std::string>, levels> told_;  // by channel, epoch, user; this session
  std::map<std::uint64_t, command> asked_;
  std::vector<post> posts_;
  std::uint64_t ids_ = 0;
  std::int64_t pinged_ = 0;
  std::map<std::string, std::size_t> there_;  // who is in the room, as far as this client was told
  bool valid_ = false, counted_ = false;
  std::set<std::string> gone_;  // channels that it has left: what was on its way still comes
  std::size_t count_ = 0;
  std::set<std::uint64_t> words_;
};

inline void client::connect(bool calm) {
  std::vector<node*> up;
  for (auto& n : in_.nodes)
    if (n->gate) up.push_back(n.get());
  if (up.empty()) return;
  forget();
  dice& d = in_.random;
  at_ = up[d.below(up.size())];
  websocket_ = d.chance(70);
  device_ = user_.empty() || d.chance(5) ? "" : "d" + std::to_string(d.below(devices_));
  const bool received = d.chance(75);
  std::string query = "?user=" + user_ + (device_.empty() ? "" : "&device=" + device_);
  if (received) query += "&since=received";
  for (const std::string& channel : {std::string("room"), std::string("quiet"), '@' + user_}) {
    if ((channel == "@") || (channel != "room" && d.chance(30)) || (channel == "room" && !calm && d.chance(10)))
      continue;
    follow f{channel};
    f.by_received = received;
    f.asked = in_.known.moment;
    f.then = in_.known.devices[{channel, user_, device_}];
    follows_.push_back(std::move(f));
    query += "&channel=" + escaped(channel);
  }
  if (follows_.empty()) return forget();
  trace("connects to " + std::to_string(at_->life) + ' ' + query);
  stream_ = testing::memory_connection::open(*at_->gate);
  // HTTP/1.0: an event stream without chunks.
  stream_->send("GET /live" + query +
                (websocket_ ? " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                            : " HTTP/1.0\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"));
  pinged_ = in_.now();
  if (!websocket_ && !calm && d.chance(50)) stream_->room = 400;  // a slow reader, which falls behind
}

// A command of an event stream's client is a POST, which any hub may serve.
inline void client::send(command c, const std::string& body) {
  const std::uint64_t id = ++ids_;
  c.device = device_;
  const std::string text = "{\"id\":" + std::to_string(id) + ',' + body + '}';
  trace("says " + text.substr(0, 120));
  if (websocket_) {
    c.life = at_->life;
    asked_.emplace(id, std::move(c));
    std::string frame;
    proto::append_masked_frame(frame, proto::ws_opcode::text, text, 0x3d21fa37);
    return stream_->send(frame);
  }
  std::vector<node*> up;
  for (auto& n : in_.nodes)
    if (n->gate) up.push_back(n.get());
  if (posts_.size() > 4) return;
  node* to = up[in_.random.below(up.size())];
  c.life = to->life;
  if (c.expected == "not_found") c.may = "not_found,", c.expected.clear();  // another hub may not know yet
  posts_.push_back({testing::memory_connection::open(*to->gate), std::move(c), to});
  posts_.back().c->send("POST /live?user=" + user_ + (device_.empty() ? "" : "&device=" + device_) +
                        "&session=" + session_ + " HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" +
                        "Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
}

inline void client::read() {
  for (std::size_t i = 0; i < posts_.size();) {
    post& p = posts_[i];
    p.c->deliver();
    p.in += p.c->take();
    simulation::http_answer a;
    if (!a.take(p.in, false, in_.known.wrong)) {
      ++i;
      continue;
    }
    auto m = members(a.body, in_.known.wrong);
    const std::string body = a.body, code = string_of(find(m, "code"));
    const command c = std::move(p.what);
    posts_[i].c->reset();
    posts_.erase(posts_.begin() + static_cast<std::ptrdiff_t>(i));
    // An answer to one command: its reply, or its error as the whole answer.
    if (a.status == 200) {
      answered(c, find(m, "ok"), find(m, "error"));
    } else {
      answered(c, {}, body);
    }
  }
  if (!stream_) return;
  stream_->deliver();
  if (stream_->closed && stream_->received.empty()) return disconnect("was let go");
  bytes_ += stream_->take();
  if (!headed_) {
    simulation::http_answer a;
    if (!a.take(bytes_, true, in_.known.wrong)) return;
    if (a.status != (websocket_ ? 101 : 200)) return complain("is answered " + std::to_string(a.status));
    headed_ = true;
  }
  if (websocket_) {
    simulation::ws_message m;
    while (stream_ && m.take(bytes_, in_.known.wrong)) {
      if (m.what == proto::ws_opcode::close) return complain("is closed: " + m.payload.substr(2));
      if (m.what == proto::ws_opcode::text) took(m.payload);
    }
  } else {
    simulation::sse_event e;
    while (stream_ && e.take(bytes_, in_.known.wrong)) took(e.data);
  }
}

inline void client::begin(follow& f, std::string_view entry) {
  auto m = members(entry, in_.known.wrong);
  f.epoch = string_of(find(m, "epoch"));
  f.offset = number_of(find(m, "offset"));
  f.began = true;
  f.gap_due = find(m, "recovered") == "false";
  if (!f.by_received) return;
  const knowledge::device& now = in_.known.devices[{f.channel, user_, device_}];
  const std::string stands = f.epoch + '.' + std::to_string(f.offset);
  if (user_.empty() || now.epoch.empty()) {
    if (f.offset && !f.gap_due) complain("has no watermark in " + f.channel + " and begins at " + stands);
    return;
  }
  if (f.gap_due) {
    // A gap is right where the epoch has changed, or what lay behind the watermark was trimmed.
    if (now.epoch == f.epoch && f.then.sure_epoch == f.epoch && f.offset < f.then.sure.received)
      complain("is told of a gap before its watermark in " + f.channel);
    return;
  }
  if (f.then.sure_epoch == f.epoch) {
    if (f.offset < f.then.sure.received)
      complain("comes back at " + stands + " in " + f.channel + ", and had received " +
               std::to_string(f.then.sure.received));
  } else if (!f.then.sure_epoch.empty() && now.epoch != f.epoch &&
             knowledge::age(f.epoch) > knowledge::age(now.epoch)) {
    complain("has a watermark of " + now.epoch + " in " + f.channel + ", begins at " + stands + " and is told nothing");
  }
  if (now.epoch == f.epoch && f.offset > now.sent.received)
    complain("comes back at " + stands + " in " + f.channel + ", and never said more than " +
             std::to_string(now.sent.received));
}

inline void client::took(std::string_view object) {
  auto m = members(object, in_.known.wrong);
  trace("is told " + std::string(object.substr(0, 160)));
  if (!find(m, "channel").empty()) return message_came(m);
  if (auto open = find(m, "open"); !open.empty()) {
    opened_ = true;
    auto fields = members(open, in_.known.wrong);
    session_ = string_of(find(fields, "session"));
    auto channels = members(find(fields, "channels"), in_.known.wrong);
    for (auto& f : follows_) begin(f, find(channels, f.channel));
    if (find_follow("room")) ask_presence();
  } else if (auto gap = find(m, "gap"); !gap.empty()) {
    auto fields = members(gap, in_.known.wrong);
    const std::string channel = string_of(find(fields, "channel")), epoch = string_of(find(fields, "epoch"));
    const std::uint64_t next = number_of(find(fields, "next"));
    follow* f = find_follow(channel);
    if (!f) return;
    if (f->epoch != epoch) old_epochs_[channel] = f->epoch;
    f->epoch = epoch;
    f->offset = next - 1;
    f->gap_due = false;
    auto& log = in_.storage.of(channel);
    if (log.epoch == epoch && next > log.oldest()) complain("the gap in " + channel + " hides what is retained");
  } else if (auto receipt = find(m, "receipt"); !receipt.empty()) {
    receipt_came(receipt);
  } else if (auto reply = find(m, "reply"); !reply.empty()) {
    auto at = asked_.find(number_of(reply));
    if (at == asked_.end()) return complain("an answer to nothing: " + std::string(object));
    command c = std::move(at->second);
    asked_.erase(at);
    answered(std::move(c), find(m, "ok"), find(m, "error"));
  } else if (auto join = find(m, "join"); !join.empty()) {
    const std::string who = string_of(find(members(join, in_.known.wrong), "user"));
    if (valid_ && !there_.try_emplace(who, 0).second) complain("is told that " + who + " joins, who was there");
  } else if (auto leave = find(m, "leave"); !leave.empty()) {
    const std::string who = string_of(find(members(leave, in_.known.wrong), "user"));
    if (valid_ && !there_.erase(who)) complain("is told that " + who + " leaves, who was not there");
  } else if (auto presence = find(m, "presence"); !presence.empty()) {
    valid_ = false;
    counted_ = true;
    count_ = static_cast<std::size_t>(number_of(find(members(presence, in_.known.wrong), "count")));
  } else if (auto missed = find(m, "missed"); !missed.empty()) {
    if (string_of(find(members(missed, in_.known.wrong), "channel")) != "room") return;
    valid_ = counted_ = false;
    if (find_follow("room")) ask_presence();
  }
}

inline void client::message_came(const hailwire::detail::vector<json::member>& m) {
  const std::string channel = string_of(find(m, "channel"));
  follow* f = find_follow(channel);
  if (!f && gone_.contains(channel)) return;
  if (!f) return complain("a message of " + channel + ", which is not followed");
  const std::uint64_t offset = number_of(find(m, "offset"));
  if (!offset) {  // what is ephemeral
    const std::uint64_t n = number_of(find(members(find(m, "data"), in_.known.wrong), "word"));
    if (!words_.insert(n).second) complain("word " + std::to_string(n) + " came twice");
    if (in_.known.words[static_cast<std::size_t>(n - 1)].session == session_ && !session_.empty())
      complain("its own word " + std::to_string(n) + " came back");
    if (const std::uint64_t over = in_.known.words[static_cast<std::size_t>(n - 1)].over; over && over <= f->asked)
      complain("word " + std::to_string(n) + " is replayed");
    return;
  }
  if (f->gap_due) return complain("a message before the gap in " + channel);
  if (offset != f->offset + 1)
    return complain("message " + std::to_string(offset) + " after " + std::to_string(f->offset) + " in " + channel);
  f->offset = offset;
  knowledge& k = in_.known;
  const std::uint64_t stands = k.at(channel, f->epoch, offset);
  if (auto of = find(m, "erases"); !of.empty()) {
    const std::uint64_t gone = k.at(channel, f->epoch, number_of(of));
    if (stands || (gone && !k.of(gone).taken_back)) complain("is told of an erasure that nobody asked for");
    return;
  }
  if (find(m, "erased") == "true") {
    if (stands && !k.of(stands).taken_back) complain("message " + std::to_string(stands) + " is shown as taken back");
    if (!find(m, "data").empty()) complain("a payload that was taken back");
    return;
  }
  const std::uint64_t n = number_of(find(members(find(m, "data"), k.wrong), "n"));
  k.settle(n, channel, f->epoch, offset);
  if (k.wrong.empty() && k.of(n).gone && k.of(n).gone <= f->asked)
    complain("message " + std::to_string(n) + ", which was taken back, is shown");
}

// What anybody is told of a user, by notice or answer.
inline void client::held(const std::string& channel, const std::string& epoch, const std::string& user, const levels& l,
                         bool own) {
  const levels said = in_.known.users[{channel, epoch, user}];
  const std::string what =
      channel + ' ' + epoch + ": " + user + ' ' + std::to_string(l.received) + '/' + std::to_string(l.read);
  if (l.read > l.received) complain("is told read before received: " + what);
  if (!own && channel != "room") complain("is told what is not its own: " + what);
  if (l.received > said.received || l.read > (own ? said.read : said.open_read))
    complain((l.read > said.open_read && l.read <= said.read ? "is told what is private: " : "is told too much: ") +
             what);
}

inline void client::receipt_came(std::string_view text) {
  auto m = members(text, in_.known.wrong);
  const std::string channel = string_of(find(m, "channel")), epoch = string_of(find(m, "epoch")),
                    user = string_of(find(m, "user"));
  const levels l{number_of(find(m, "received")), number_of(find(m, "read")), 0};
  held(channel, epoch, user, l, user == user_);
  levels& before = told_[{channel, epoch, user}];
  // One's own come with private reads and, as everybody's, without.
  if (l.received < before.received || (user != user_ && l.read < before.read))
    complain("is told that a watermark falls in " + channel + ": " + user + ' ' + std::to_string(l.received) + '/' +
             std::to_string(l.read) + " after " + std::to_string(before.received) + '/' + std::to_string(before.read));
  before.raise(l);
  levels public_part{l.received, 0, user == user_ ? 0 : l.read};
  in_.known.kept[{channel, epoch, user}].raise(public_part);  // stored before it was told
}

inline void client::answered(command c, std::string_view ok, std::string_view error) {
  knowledge& k = in_.known;
  auto m = members(ok.empty() ? error : ok, k.wrong);
  if (ok.empty()) {
    const std::string code = string_of(find(m, "code"));
    if (c.what == command::mark && code == "conflict") {
      std::set<std::string> others;
      for (const auto& [who, d] : k.devices)
        if (std::get<0>(who) == c.channel && std::get<1>(who) == user_ && !d.epoch.empty())
          others.insert(std::get<2>(who));
      if (others.size() <= most_devices) complain("a conflict, with " + std::to_string(others.size()) + " devices");
      return;
    }
    if (code != c.expected && c.may.find(code + ',') == c.may.npos)
      complain("is refused with " + std::string(error.substr(0, 200)) + " in " + c.channel);
    return;
  }
  if (!c.expected.empty()) return complain("is not refused with " + c.expected + " in " + c.channel);
  switch (c.what) {
    case command::publish:
      return k.settle(c.number, c.channel, string_of(find(m, "epoch")), number_of(find(m, "offset")));
    case command::mark: {
      auto& there = k.marked[{c.channel, user_}];
      there.insert(c.device);
      if (there.size() > most_devices) complain("a 17th device has a watermark in " + c.channel);
      if (c.epoch == in_.storage.of(c.channel).epoch)
        k.young.push_back({{c.channel, user_, c.device}, c.epoch, c.to, c.life, in_.now()});
      return;
    }
    case command::word:
      k.words[static_cast<std::size_t>(c.number - 1)].answered = true;
      return;
    case command::erase:
      k.of(c.number).gone = ++k.moment;
      return;
    case command::presence: {
      there_.clear();
      for (const auto& one : elements(find(m, "members"), k.wrong)) {
        auto fields = members(one.text, k.wrong);
        there_[string_of(find(fields, "user"))] = static_cast<std::size_t>(number_of(find(fields, "sessions")));
      }
      valid_ = find_follow("room") != nullptr;
      return;
    }
    case command::receipts: {
      const std::string epoch = string_of(find(m, "epoch"));
      std::map<std::string, levels> all;
      for (const auto& one : elements(find(m, "receipts"), k.wrong)) {
        auto fields = members(one.text, k.wrong);
        const std::string who = string_of(find(fields, "user"));
        all[who] = {number_of(find(fields, "received")), number_of(find(fields, "read")), 0};
        held(c.channel, epoch, who, all[who], who == user_);
      }
      if (epoch != c.epoch) return;
      for (const auto& [who, least] : c.kept) {
        if (c.channel != "room" && who != user_) continue;
        if (all[who].received < least.received || all[who].read < least.open_read)
          complain("a watermark of " + who + " has fallen in " + c.channel);
      }
      for (const auto& [who, l] : all)
        k.kept[{c.channel, epoch, who}].raise({l.received, 0, who == user_ ? 0 : l.read});
      return;
    }
    default:
      return;
  }
}

// ---- what it does

inline void client::mark() {
  dice& d = in_.random;
  follow& f = follows_[d.below(follows_.size())];
  if (!f.began || f.gap_due) return;
  command c{command::mark, f.channel, f.epoch};
  std::uint64_t offset = d.chance(70) ? f.offset : 1 + d.below(static_cast<std::size_t>(f.offset + 1));
  const std::size_t kind = d.below(20);
  bool read = false, hidden = false;
  if (user_.empty()) {
    c.expected = "forbidden";
  } else if (kind == 0) {
    offset += 1'000'000;
    c.expected = "bad_request";
    c.may = "not_found,";  // a new epoch, of which this client has not heard
    if (c.epoch != in_.storage.of(f.channel).epoch) c.expected = "not_found";
  } else if (auto old = old_epochs_.find(f.channel); kind < 4 && old != old_epochs_.end() && f.epoch != old->second) {
    c.epoch = old->second;
    c.expected = "not_found";
  } else {
    if (!offset || offset > f.offset) return;
    read = d.chance(50);
    hidden = read && d.chance(40);
    c.may = "not_found,";
    c.to = {offset, read ? offset : 0, read && !hidden ? offset : 0};
    knowledge::device& mine = in_.known.devices[{f.channel, user_, device_}];
    if (mine.epoch.empty() || knowledge::age(f.epoch) > knowledge::age(mine.epoch))
      mine.epoch = f.epoch, mine.sent = {};
    if (mine.epoch == f.epoch) mine.sent.raise(c.to);
    in_.known.users[{f.channel, f.epoch, user_}].raise(c.to);
  }
  std::string body = read ? "\"read\":{\"channel\":" : "\"received\":{\"channel\":";
  json::append_quoted(body, f.channel);
  body += ",\"epoch\":\"" + c.epoch + "\",\"offset\":" + std::to_string(std::max<std::uint64_t>(offset, 1));
  send(std::move(c), body + (hidden ? ",\"private\":true}" : "}"));
}

inline void client::mark_head() {
  follow* f = find_follow("room");
  if (!f || user_.empty() || !f->offset) return;
  command c{command::mark, "room", f->epoch};
  c.may = "not_found,";  // a new epoch, in which nothing has been published yet
  c.to = {f->offset, 0, 0};
  knowledge::device& mine = in_.known.devices[{"room", user_, device_}];
  if (mine.epoch.empty() || knowledge::age(f->epoch) > knowledge::age(mine.epoch))
    mine.epoch = f->epoch, mine.sent = {};
  mine.sent.raise(c.to);
  in_.known.users[{"room", f->epoch, user_}].raise(c.to);
  send(std::move(c), "\"received\":{\"channel\":\"room\",\"epoch\":\"" + f->epoch +
                         "\",\"offset\":" + std::to_string(f->offset) + '}');
}

inline void client::take_back() {
  knowledge& k = in_.known;
  if (k.things.empty()) return;
  const std::uint64_t n = k.things.size() - in_.random.below(std::min<std::size_t>(k.things.size(), 12));
  auto& thing = k.of(n);
  if (thing.stands.empty()) return;
  const auto newest = std::max_element(thing.stands.begin(), thing.stands.end(), [](const auto& a, const auto& b) {
    return knowledge::age(a.first) < knowledge::age(b.first);
  });
  command c{command::erase, thing.channel, newest->first};
  c.number = n;
  c.may = "not_found,";
  if (thing.from != user_ || user_.empty()) {
    c.expected = "forbidden";
  } else {
    thing.taken_back = true;
  }
  std::string body = "\"erase\":{\"channel\":";
  json::append_quoted(body, thing.channel);
  body += ",\"epoch\":\"" + newest->first + "\",\"offset\":" + std::to_string(newest->second) + '}';
  send(std::move(c), body);
}

inline void client::type(const std::string& channel) {
  if (!websocket_ && posts_.size() > 4) return;
  in_.known.words.push_back({session_});
  command c{command::word, channel};
  c.number = in_.known.words.size();
  send(std::move(c), "\"publish\":{\"channel\":\"" + channel +
                         "\",\"ephemeral\":true,\"data\":{\"word\":" + std::to_string(in_.known.words.size()) + "}}");
}

inline void client::publish(const std::string& channel) {
  if (!websocket_ && posts_.size() > 4) return;
  in_.known.things.push_back({channel, user_, {}});
  command c{command::publish, channel};
  c.number = in_.known.things.size();
  std::string body = "\"publish\":{\"channel\":";
  json::append_quoted(body, channel);
  send(std::move(c), body + ",\"data\":{\"n\":" + std::to_string(in_.known.things.size()) + "}}");
}

inline void client::act() {
  dice& d = in_.random;
  if (!stream_) {
    if (d.chance(40)) connect(false);
    return;
  }
  if (!websocket_) take(d.below(900));
  if (!opened_) return;
  switch (d.below(24)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: {  // into a channel, or somebody's inbox
      std::string channel = d.chance(60) ? "room" : d.chance(50) ? "quiet" : "@u" + std::to_string(d.below(3));
      return publish(channel);
    }
    case 5:
    case 6:
      return type(d.chance(70) ? "room" : "quiet");
    case 7:
      return take_back();
    case 8:
      return ask_presence();
    case 9: {
      const follow& f = follows_[d.below(follows_.size())];
      if (user_.empty() && f.channel != "room") return;
      command c{command::receipts, f.channel, f.epoch};
      for (const auto& [what, l] : in_.known.kept)
        if (std::get<0>(what) == f.channel && std::get<1>(what) == f.epoch) c.kept[std::get<2>(what)] = l;
      std::string body = "\"receipts\":{\"channel\":";
      json::append_quoted(body, f.channel);
      return send(std::move(c), body + '}');
    }
    case 10: {  // what is nobody's business
      command c{command::other, "@u9"};
      c.expected = "forbidden";
      static constexpr const char* bad[] = {R"("received":{"channel":"@u9","epoch":"E1","offset":1})",
                                            R"("receipts":{"channel":"@u9"})", R"("presence":{"channel":"@u9"})",
                                            R"("history":{"channel":"@u9"})"};
      return send(std::move(c), bad[d.below(4)]);
    }
    case 11: {
      command c{command::other, "quiet"};
      c.expected = "not_found";
      return send(std::move(c), R"("presence":{"channel":"quiet"})");
    }
    case 12:
      if (d.chance(50)) disconnect("breaks");
      return;
    case 13: {  // leaves the room for a while; the last session leaves at once
      if (!websocket_) return;
      for (std::size_t i = 0; i < follows_.size(); ++i) {
        if (follows_[i].channel != "room" || !follows_[i].began || d.chance(40)) continue;
        follows_.erase(follows_.begin() + static_cast<std::ptrdiff_t>(i));
        valid_ = counted_ = false;
        gone_.insert("room");
        send({command::other, "room"}, R"("unsubscribe":{"channel":"room"})");
        if (follows_.empty()) disconnect("has nothing left");
        return;
      }
      return;
    }
    default:
      return mark();
  }
}

inline void client::agree(const std::map<std::string, std::size_t>& there, std::size_t anonymous, bool counting) {
  static_cast<void>(anonymous);
  if (!follows_room() || !websocket_) return;
  auto text = [](const std::map<std::string, std::size_t>& m) {
    std::string out;
    for (const auto& [who, n] : m) out += who + ' ';
    return out;
  };
  if (counting) {
    if (counted_ && count_ != there.size())
      complain("was told that " + std::to_string(count_) + " are there, and " + std::to_string(there.size()) + " are");
    return;
  }
  if (!valid_) return complain("does not know who is there");
  if (text(there_) != text(there)) complain("knows of " + text(there_) + "in the room, where there are " + text(there));
}

std::string listed(const std::map<std::string, std::size_t>& members) {
  std::string out;
  for (const auto& [who, n] : members) out += who + ':' + std::to_string(n) + ' ';
  return out;
}

void step(city& c, std::vector<std::unique_ptr<client>>& clients) {
  dice& d = c.random;
  switch (d.below(16)) {
    case 0:
    case 1:
      c.run_all();
      break;
    case 2:
    case 3:
    case 4:
    case 5: {
      node& n = *c.nodes[d.below(c.nodes.size())];
      for (std::size_t i = d.below(6); i > 0; --i) n.loop.run_one();
      break;
    }
    case 6:
      c.nodes[d.below(c.nodes.size())]->loop.run();
      break;
    case 7:
      c.advance(static_cast<std::int64_t>(d.chance(90) ? d.below(700) : d.below(9'000)));
      break;
    case 8:
      c.broker.bring();
      break;
    case 9:
      if (d.chance(4) && c.crashes) {
        node& n = *c.nodes[d.below(c.nodes.size())];
        if (n.gate) {
          c.trace("a hub crashes");
          for (auto& one : clients) one->crash(n);
          c.crash(n);
        }
      }
      for (auto& n : c.nodes)
        if (!n->gate && d.chance(10)) c.trace("a hub is back"), c.begin(*n);
      if (c.restarts && d.chance(3)) {
        const std::string channel = d.chance(60) ? "room" : d.chance(50) ? "quiet" : "@u" + std::to_string(d.below(3));
        c.trace("the storage loses some of " + channel);
        std::erase_if(c.known.young, [&](const auto& a) { return std::get<0>(a.who) == channel; });
        c.storage.restart(channel, d.chance(30) ? 1'000'000 : d.below(8));
      }
      break;
    default:
      clients[d.below(clients.size())]->act();
  }
  for (auto& one : clients) {
    one->read();
    one->keep_alive();
  }
}

/// Nobody does anything more: everybody is there, and in the end agrees.
void settle(city& c, std::vector<std::unique_ptr<client>>& clients) {
  c.trace("---- everybody settles down");
  c.broker.loses = c.broker.delays = 0;
  for (auto& n : c.nodes)
    if (!n->gate) c.begin(*n);
  auto pass = [&](std::int64_t ms) {
    for (; ms > 0 && c.known.wrong.empty(); ms -= 500) {
      c.run_all();
      for (auto& one : clients) {
        one->take(1'000'000);
        one->read();
        one->keep_alive();
      }
      c.advance(500);
    }
  };
  pass(5'000);
  while (c.broker.bring()) pass(500);
  for (auto& one : clients)
    if (!one->at()) one->connect(true);
  // Crashed hubs are noticed after three heartbeats, sessions' ends after the grace time.
  pass(40'000);
  std::map<std::string, std::size_t> there;
  std::size_t anonymous = 0;
  for (auto& one : clients) {
    if (!one->follows_room()) continue;
    if (one->user().empty()) {
      ++anonymous;
    } else {
      ++there[one->user()];
    }
  }
  const bool counting = there.size() + anonymous > c.o.presence_names;
  for (auto& one : clients) one->agree(there, anonymous, counting);
  for (auto& n : c.nodes) {
    auto answered = std::make_shared<bool>(false);
    n->gate->messages.presence("room", [&c, there, anonymous, answered](presence_result r) {
      if (*c.nodes[0]->crashed || r.error) return;
      *answered = true;
      std::map<std::string, std::size_t> says;
      for (const auto& m : r.members) says[m.user] = m.sessions;
      if (says != there || r.anonymous != anonymous)
        c.known.complain("a hub says that " + std::to_string(says.size()) + '+' + std::to_string(r.anonymous) +
                         " are there, and " + std::to_string(there.size()) + '+' + std::to_string(anonymous) + " are");
    });
    pass(2'000);
    if (!*answered && c.known.wrong.empty()) c.known.complain("a hub does not say who is there");
  }
  // What is live-only arrives, at all hubs, where nothing is lost: behind a message, for other hubs hear of one that
  // was stored by a hub which crashed at once with the next one.
  for (auto& one : clients) {
    if (!one->follows_room() || !c.known.wrong.empty()) continue;
    one->publish("room");
    pass(2'000);
    break;
  }
  for (auto& one : clients) {
    if (!one->follows_room() || !c.known.wrong.empty()) continue;
    one->type("room");
    one->mark_head();
    const std::uint64_t word = c.known.words.size();
    pass(1'500);
    for (auto& other : clients)
      if (other->follows_room() && other != one && !other->heard_word(word))
        c.known.complain(other->state() + " has not heard the last word of " + one->state());
    break;
  }
}

struct sums {
  std::uint64_t messages = 0, words = 0, marks = 0, lives = 0;
};

bool run(std::uint64_t seed, bool verbose, bool careless, sums& all) {
  city c(seed, verbose, careless);
  std::vector<std::unique_ptr<client>> clients;
  for (std::size_t i = 0, n = c.random.between(4, 14); i < n; ++i) {
    const std::size_t user = c.random.below(5);
    const std::string name = user == 4 ? "" : "u" + std::to_string(user);
    clients.push_back(std::make_unique<client>(c, name, user == 0 ? 19 : 3, i));
  }
  for (int i = 0; i < 1500 && c.known.wrong.empty(); ++i) step(c, clients);
  if (c.known.wrong.empty()) settle(c, clients);
  all.messages += c.known.things.size();
  all.words += c.known.words.size();
  all.marks += c.known.devices.size();
  all.lives += c.lives;
  const std::string wrong = c.known.wrong;
  for (auto& n : c.nodes) {
    for (auto& one : clients) one->crash(*n);
    if (n->gate) c.crash(*n);
  }
  if (wrong.empty()) return true;
  std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), wrong.c_str());
  for (const std::string& line : c.known.trace) std::printf("  %s\n", line.c_str());
  return false;
}

}  // namespace crowd

int main(int argc, char** argv) {
  std::uint64_t seeds = 100, first = 1;
  bool verbose = false, careless = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--verbose") == 0) {
      verbose = true;
    } else if (std::strcmp(argv[i], "--careless") == 0) {
      careless = true;
    } else if (i + 1 < argc && std::strcmp(argv[i], "--seeds") == 0) {
      seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (i + 1 < argc && std::strcmp(argv[i], "--first") == 0) {
      first = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fputs("usage: crowd [--seeds N] [--first S] [--careless] [--verbose]\n", stderr);
      return 2;
    }
  }
  crowd::sums all;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    if (!crowd::run(seed, verbose, careless, all)) return 1;
  }
  std::printf("%llu seeds, %llu messages, %llu words, %llu devices, %llu lives of hubs\n",
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(all.messages),
              static_cast<unsigned long long>(all.words), static_cast<unsigned long long>(all.marks),
              static_cast<unsigned long long>(all.lives));
}
