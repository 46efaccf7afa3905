// SPDX-License-Identifier: BSL-1.0
#pragma once

// A client that hops between the transports with nothing but what it has seen, publishes by every way there is, reads
// slowly, loses answers and connections, and checks each byte that it believes. Per followed channel it knows its
// place; every message must be the next one, or a gap must have said why not.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../chunks.hpp"
#include "hailwire/testing/memory_connection.hpp"
#include "record.hpp"
#include "wire.hpp"

namespace simulation {

struct world {
  std::unique_ptr<hailwire::detail::server_state>& gate;  // another one takes over when it was drained
  dice& random;
  record& rec;
  std::vector<std::string> channels;
  bool large = false;        // payloads of many pages
  bool calm = false;         // nobody misbehaves any more: the time to catch up
  bool stood_still = false;  // the server did, just now: it cannot know who is silent
  bool draining = false;     // the server sends everybody away
  std::vector<std::shared_ptr<hailwire::testing::memory_connection>> broken = {};  // until the server has noticed

  /// Breaks a connection, as a driver sees it: the object lives until the server has closed it.
  void cut(std::shared_ptr<hailwire::testing::memory_connection>& c) {
    if (!c) return;
    c->reset();
    if (!c->closed) broken.push_back(std::move(c));
    c.reset();
  }
};

enum class way { none, websocket, raw, sse, ndjson, long_poll, short_poll };
inline constexpr const char* way_names[] = {"none", "websocket", "raw", "sse", "ndjson", "long poll", "short poll"};

class client {
 public:
  client(world& w, std::string name) : world_(w), name_(std::move(name)) {
    for (const auto& c : w.channels)
      if (follows_.empty() || chance(40)) follows_.push_back({c, {}, {}});
    if (follows_.size() > 3) follows_.resize(3);
    hasty_ = chance(70);
  }
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  /// One thing that a client does.
  void act();
  /// Takes what the server has sent, and answers what must be answered.
  void read();
  /// Reads all there is to read.
  void hear() {
    if (connection_) connection_->open_window(std::numeric_limits<std::size_t>::max());
    read();
  }
  /// A reader whose system takes little: begins to be one, if it has a stream that nothing but its reading can end.
  bool narrow() {
    if (!connection_ || !head_read_ || !opened_ || leaving_ || way_ == way::long_poll || way_ == way::short_poll)
      return false;
    if (world_.rec.failures || world_.rec.permits || world_.rec.restarts || !taken_away_.empty()) return false;
    if (connection_->waiting) return false;  // it stands still already
    connection_->withholds = true;
    connection_->room = 500;
    return true;
  }
  bool waits() const { return connection_ && connection_->waiting && !connection_->closed; }
  void take_little() {
    if (!connection_ || ended_) return;
    if (connection_->closed) return complain("is let go, though it never stood still");
    connection_->acknowledge(1);
  }
  void widen() {
    if (!connection_) return;
    connection_->withholds = false;
    connection_->acknowledge(std::numeric_limits<std::uint64_t>::max());
    hear();
  }
  /// Does only what leads to the head.
  void catch_up();
  void disconnect(const char* why);
  /// Looks whether what the connection was allowed is over: what is written to it from then on holds no more messages.
  void look_at_permission();
  /// Has the host take away one of the channels that it follows by an open stream. False when there is none.
  bool lose_channel();

  /// Whether everything that it published or commanded is answered.
  bool settled() const { return outbox_.empty() && !posting_ && busy_.empty(); }
  /// Whether everything up to `heads` has been read.
  bool caught_up(const std::map<std::string, place>& heads) const {
    for (const auto& f : follows_) {
      auto found = heads.find(f.channel);
      if (found == heads.end()) return false;
      const place& head = found->second;
      if (!f.at.known || f.at.epoch != head.epoch || f.at.offset < head.offset) return false;
    }
    return true;
  }
  std::string state() const {
    std::string out = name_ + " by " + way_names[static_cast<int>(way_)];
    for (const auto& f : follows_) out += ", in " + f.channel + " at " + f.at.text();
    if (!outbox_.empty()) out += ", " + std::to_string(outbox_.size()) + " to publish";
    if (!busy_.empty()) out += ", " + std::to_string(busy_.size()) + " commands unanswered";
    return out;
  }

 private:
  struct follow {
    std::string channel;
    place at;    // where the connection stands
    place seen;  // where this client stands: further on when it came back with an older cursor
    bool asked = false, gap_due = false;
    bool from_word = false;  // it stands somewhere before a gap, and was never told where
    bool earliest = false;   // how it asked when it knew no place
    place least = {};        // what was acknowledged when it asked
    bool gone = false;       // the host has taken it away: it comes back by a new connection
  };
  struct command {
    enum { publish, subscribe, unsubscribe, history, renew, ping } what;
    std::uint64_t number = 0;  // of the message
    std::string channel;
    bool first_try = false;
    std::int64_t until = 0;  // of a renewal
  };
  struct letter {
    std::uint64_t number;
    bool by_post;
    bool tried = false;
  };

  /// Whether its stream is the body of an answer.
  bool by_body() const { return way_ == way::sse || way_ == way::ndjson; }
  bool chance(unsigned percent) { return world_.random.chance(percent); }
  std::size_t below(std::size_t n) { return world_.random.below(n); }
  void complain(const std::string& what) {
    world_.rec.complain(name_ + " (" + way_names[static_cast<int>(way_)] + "): " + what);
  }
  void trace(const std::string& what) {
    if (world_.rec.keep_trace && world_.rec.wrong.empty()) world_.rec.trace.push_back(name_ + ": " + what);
  }
  // A storage that fails, or a notice of what was taken away that does not fit any more.
  bool may_be_overloaded() const { return world_.rec.failures || !taken_away_.empty(); }
  follow* find_follow(std::string_view channel) {
    for (auto& f : follows_)
      if (f.channel == channel) return &f;
    return nullptr;
  }

  // Following
  void connect(way w);
  void ask(std::string more = {});
  std::string cursor_text() const;
  void begin_follow(follow& f);
  bool take_place(std::string_view text, place& p);
  void take_bytes(std::string_view bytes);
  void check_cursor(std::string_view text, const char* where);
  void began(follow& f, std::string_view entry);
  void message(std::string_view text);
  bool conflates(const std::string& channel) const { return channel == world_.rec.last_value; }
  void gap(std::string_view text);
  void moved(follow& f);
  void notice(std::string_view name, std::string_view content);
  void object(std::string_view text);
  void reply(std::string_view id, std::string_view ok, std::string_view error);
  void poll_answer(const http_answer& a);
  void raw_message(bool binary, std::string_view bytes);
  void closed_frame(std::string_view payload);
  void refused(const http_answer& a);
  void send_frame(hailwire::proto::ws_opcode what, std::string_view bytes) {
    std::string out;
    hailwire::proto::append_masked_frame(out, what, bytes, static_cast<std::uint32_t>(world_.random.next()));
    connection_->send(out);
  }

  // Permission
  std::int64_t now() const { return world_.gate->messages.loop().unix_time(); }
  std::string token(std::int64_t& until);
  bool permitted(std::int64_t until) const { return !world_.rec.permits || now() < until; }

  // Publishing
  void write_letter();
  void send_letter();
  void post();
  void read_post();
  void send_command(command c);

  world& world_;
  std::string name_;
  std::vector<follow> follows_;
  std::uint64_t since_ = 0;  // what was gone when its connection began
  bool hasty_ = true, joined_ = false;

  std::shared_ptr<hailwire::testing::memory_connection> connection_;
  way way_ = way::none;
  std::string in_;  // what came and was not read yet; of a body what its chunks hold
  chunk_reader chunks_;
  bool head_read_ = false, opened_ = false, asked_ = false, ended_ = false;
  bool leaving_ = false;    // it has sent its end
  bool trust_ids_ = false;  // comes back with the last id of its stream, not with what it has seen
  std::vector<std::pair<std::string, place>> ids_;
  std::string polled_;  // the tag of the last answer
  std::uint64_t next_command_ = 1;
  std::map<std::uint64_t, command> busy_;

  // When the permission of the connection ends, by what is known and by what may have been renewed already; how much of
  // `in_` was written before that, or before a channel was taken away.
  std::int64_t until_ = 0, perhaps_until_ = 0, post_until_ = 0;
  bool ended_token_ = false, ended_post_token_ = false;
  std::optional<std::size_t> timely_;
  std::map<std::string, std::size_t> taken_away_;
  std::string session_;

  std::vector<letter> outbox_;  // not acknowledged, and not under way
  std::shared_ptr<hailwire::testing::memory_connection> poster_;
  std::string post_in_;
  std::vector<std::uint64_t> posted_;  // what the POST under way carries
  bool posting_ = false, batch_ = false;
};

// ---- connecting

inline std::string client::cursor_text() const {
  std::string out;
  for (const auto& f : follows_) {
    if (!out.empty()) out += ',';
    if (f.at.known) {
      out += f.at.text();
    } else {
      out += f.earliest ? "earliest" : "latest";
    }
  }
  return out;
}

inline void client::begin_follow(follow& f) {
  f.asked = true;
  f.gap_due = f.gone = false;
  if (!f.at.known) f.earliest = chance(50);
  f.least = world_.rec.acknowledged_head(f.channel);
}

inline void client::connect(way w) {
  disconnect("hops");
  if (!world_.calm && chance(10)) {  // follow other channels from now on; the places in those that go are forgotten
    const auto& c = world_.channels[below(world_.channels.size())];
    if (!find_follow(c)) {
      follows_.push_back({c, {}, {}});
    } else if (follows_.size() > 1) {
      std::erase_if(follows_, [&](const follow& f) { return f.channel == c; });
    }
  }
  for (std::size_t i = follows_.size(); i > 1; --i) std::swap(follows_[i - 1], follows_[below(i)]);
  // A raw client counts what it gets, so it knows no place where some of it is passed over.
  if (w == way::raw &&
      (follows_.size() != 1 || !follows_[0].at.known || conflates(follows_[0].channel) || world_.rec.erases))
    w = way::websocket;
  way_ = w;
  since_ = world_.rec.moment;
  connection_ = hailwire::testing::memory_connection::open(*world_.gate);
  ++world_.rec.count.connections;
  if (std::exchange(joined_, true)) ++world_.rec.count.reconnects;
  if (!world_.calm && chance(35)) connection_->room = below(world_.large ? 100'000 : 3000);
  opened_ = head_read_ = asked_ = ended_ = leaving_ = false;
  polled_.clear();
  in_.clear();
  chunks_ = {};
  session_.clear();
  taken_away_.clear();
  timely_.reset();
  if (w != way::long_poll && w != way::short_poll) ask();
}

inline void client::ask(std::string more) {
  for (auto& f : follows_) begin_follow(f);
  std::string target = "/live?user=" + name_ + token(until_);
  perhaps_until_ = until_;
  ended_token_ = !permitted(until_);
  timely_.reset();
  for (const auto& f : follows_) target += "&channel=" + escaped(f.channel);
  std::string fields = "Host: sim\r\n", cursor = cursor_text();
  bool plain = std::none_of(follows_.begin(), follows_.end(), [](const follow& f) { return f.at.known || f.earliest; });
  switch (way_) {
    case way::sse:
      fields += "Accept: text/event-stream\r\n";
      break;
    case way::ndjson:
      fields += "Accept: application/x-ndjson\r\n";
      break;
    case way::raw:
      fields += "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n";
      [[fallthrough]];
    case way::websocket:
      fields +=
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
          "dGhlIHNhbXBsZSBub25jZQ==\r\n";
      break;
    case way::long_poll:
      if (chance(50)) {
        target += "&wait=" + std::to_string(below(30));
      } else {
        fields += "Prefer: wait=" + std::to_string(1 + below(30)) + "\r\n";
      }
      break;
    default:
      break;
  }
  bool tagged = false;
  if (plain && chance(50)) {
    // nothing said at all: latest
  } else if (by_body() && chance(60)) {
    fields += "Last-Event-ID: " + cursor + "\r\n";
  } else if (cursor == polled_ && chance(70)) {
    fields += "If-None-Match: \"" + cursor + "\"\r\n";
    tagged = true;
  } else {
    target += "&since=" + cursor;
  }
  if (!tagged) polled_.clear();
  trace(std::string("asks by ") + way_names[static_cast<int>(way_)] + " since " + cursor);
  asked_ = true;
  connection_->send("GET " + target + " HTTP/1.1\r\n" + fields + more + "\r\n");
}

inline void client::disconnect(const char* why) {
  if (!connection_) return;
  trace(std::string("disconnects: ") + why);
  world_.cut(connection_);
  if (trust_ids_ && way_ == way::sse) {
    for (auto& [channel, p] : ids_)
      if (follow* f = find_follow(channel); f && p.known) f->at = p;
  }
  trust_ids_ = false;
  ids_.clear();
  for (auto& [id, c] : busy_)
    if (c.what == command::publish)
      outbox_.push_back(
          {c.number, world_.rec.message(c.number).data.type() != hailwire::payload::kind::json || chance(30), true});
  busy_.clear();
  for (auto& f : follows_) f.asked = false;
  way_ = way::none;
}

// ---- reading

inline bool client::take_place(std::string_view text, place& p) {
  auto dot = text.find('.');
  if (dot == text.npos || !hailwire::valid_epoch(text.substr(0, dot))) return false;
  p = {std::string(text.substr(0, dot)), number_of(text.substr(dot + 1)), true};
  return true;
}

// A cursor given by the server must say exactly what this connection has delivered.
inline void client::check_cursor(std::string_view text, const char* where) {
  ids_.clear();
  for (auto& f : follows_) {
    auto part = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    place p;
    if (!take_place(part, p)) return complain(std::string(where) + " is not a cursor");
    // Where the newest message alone matters, a cursor may have passed over others before that has come.
    if (conflates(f.channel) && p.epoch == f.at.epoch && p.offset > f.at.offset) {
      f.at = p;
      moved(f);
    }
    if (p.epoch != f.at.epoch || p.offset != f.at.offset) {
      return complain(std::string(where) + " says " + p.text() + " in " + f.channel + ", delivered was " + f.at.text());
    }
    ids_.emplace_back(f.channel, p);
  }
  if (!text.empty()) complain(std::string(where) + " is too long");
}

// The connection stands somewhere new by a start or a gap.
inline void client::moved(follow& f) {
  if (!f.seen.known || f.seen.epoch != f.at.epoch || f.seen.offset < f.at.offset) f.seen = f.at;
}

// `{"epoch":…,"offset":…,"recovered":…}` in `open` or in the answer to `subscribe`.
inline void client::began(follow& f, std::string_view entry) {
  auto m = members(entry, world_.rec.wrong);
  place p{string_of(simulation::find(m, "epoch")), number_of(simulation::find(m, "offset")), true};
  bool recovered = simulation::find(m, "recovered") == "true";
  trace("begins in " + f.channel + " at " + p.text() + (recovered ? "" : ", with a gap"));
  const bool conflated = conflates(f.channel);
  if ((simulation::find(m, "conflated") == "true") != conflated)
    complain(f.channel + (conflated ? " is not said to be conflated" : " is said to be conflated"));
  if (conflated && (!f.at.known || (recovered && p.epoch == f.at.epoch && p.offset >= f.at.offset))) {
    f.at = p;
    moved(f);
    return;
  }
  if (!f.at.known) {
    f.at = p;
    moved(f);
    if (!recovered) return complain("a start at a word was not recovered in " + f.channel);
    if (f.earliest ? !world_.rec.may_be_trimmed(f.channel, p.epoch, p.offset)
                   : (!world_.rec.shared && f.least.known && f.least.epoch == p.epoch && p.offset < f.least.offset) ||
                         !world_.rec.may_exist(f.channel, p.epoch, p.offset)) {
      complain(std::string(f.earliest ? "earliest" : "latest") + " began at " + p.text() + " in " + f.channel);
    }
  } else if (recovered) {
    if (p.epoch != f.at.epoch || p.offset != f.at.offset)
      complain("recovered at " + p.text() + " in " + f.channel + " instead of " + f.at.text());
  } else {
    f.gap_due = true;
  }
}

inline void client::gap(std::string_view text) {
  auto m = members(text, world_.rec.wrong);
  std::string channel = string_of(simulation::find(m, "channel")), reason = string_of(simulation::find(m, "reason")),
              epoch = string_of(simulation::find(m, "epoch"));
  std::uint64_t next = number_of(simulation::find(m, "next"));
  trace("is told of a gap (" + reason + ") in " + channel + " before " + epoch + "." + std::to_string(next));
  ++world_.rec.count.gaps;
  follow* f = find_follow(channel);
  if (!f || !f->asked || !f->at.known)
    return complain("a gap in " + channel + ", which it does not follow from a place");
  if (next == 0) return complain("a gap before nothing");
  if (std::exchange(f->from_word, false)) {
    f->at.epoch = epoch;
  } else if (reason == "trimmed") {
    if (conflates(channel)) return complain("a trimmed gap in " + channel + ", of which the newest message matters");
    if (epoch != f->at.epoch) return complain("a trimmed gap into another epoch in " + channel);
    if (next <= f->at.offset + 1) return complain("a gap of nothing in " + channel + " at " + f->at.text());
  } else if (reason == "epoch") {
    if (epoch == f->at.epoch) return complain("an epoch gap within the epoch in " + channel);
    if (!world_.rec.restarts) return complain("an epoch gap without a restart in " + channel);
    if (record::age_of(epoch) < record::age_of(f->at.epoch)) return complain("an epoch gap back in time in " + channel);
  } else {
    return complain("a gap without a reason");
  }
  if (!conflates(channel) && !world_.rec.may_be_trimmed(channel, epoch, next - 1))
    complain("the gap in " + channel + " hides message " + std::to_string(next - 1) + ", which is retained");
  f->at = {epoch, next - 1, true};
  f->gap_due = false;
  moved(*f);
}

inline void client::message(std::string_view text) {
  auto m = members(text, world_.rec.wrong);
  std::string channel = string_of(simulation::find(m, "channel"));
  if (timely_ && *timely_ == 0) return complain("a message of " + channel + " after its permission had ended");
  if (auto taken = taken_away_.find(channel); taken != taken_away_.end() && taken->second == 0)
    return complain("a message of " + channel + ", which had been taken away");
  std::uint64_t offset = number_of(simulation::find(m, "offset"));
  follow* f = find_follow(channel);
  if (!f || !f->asked) return complain("a message of " + channel + ", which it does not follow");
  if (f->gap_due) return complain("a message before the gap that was announced in " + channel);
  if (!f->at.known) return complain("a message before its start in " + channel);
  if (conflates(channel) ? offset <= f->at.offset : offset != f->at.offset + 1)
    return complain("message " + std::to_string(offset) + " after " + f->at.text() + " in " + channel);
  f->at.offset = offset;
  auto seen = [&] {
    if (f->seen.epoch == f->at.epoch && offset <= f->seen.offset) {
      ++world_.rec.count.repeats;  // it had come back with an older cursor, and drops what it has seen
    } else {
      f->seen = f->at;
    }
  };
  std::string_view data = simulation::find(m, "data"), bytes = simulation::find(m, "bytes");
  const bool erased = simulation::find(m, "erased") == "true";
  if (std::string_view erases = simulation::find(m, "erases"); erased || !erases.empty()) {
    trace("reads of an erasure at " + f->at.text() + " in " + channel);
    seen();
    if (!data.empty() || !bytes.empty() || !simulation::find(m, "type").empty())
      return complain("what was taken back has a payload or a type");
    return erased ? world_.rec.received_erased(name_, channel, f->at)
                  : world_.rec.received_erasure(name_, channel, f->at, number_of(erases));
  }
  std::uint64_t number = 0;
  if (data.starts_with("{\"n\":")) {
    number = number_of(data.substr(5, data.find(',') - 5));
  } else if (data.starts_with("\"n")) {
    number = number_of(data.substr(2, data.find(' ') - 2));
  } else if (bytes.size() > 33) {
    std::string start = hailwire::proto::decode_base64(bytes.substr(1, 32)).value_or("");
    if (start.starts_with('n')) number = number_of(std::string_view(start).substr(1, start.find(' ') - 1));
  }
  std::string member = data.empty() ? "\"bytes\":" + std::string(bytes) : "\"data\":" + std::string(data);
  trace("reads " + std::to_string(number) + " at " + f->at.text() + " in " + channel);
  for (auto& [id, c] : busy_)
    if (c.what == command::publish && c.number == number && c.first_try)
      complain("its own message " + std::to_string(number) + " came before the answer");
  seen();
  world_.rec.received(name_, channel, f->at, number, member, string_of(simulation::find(m, "from")),
                      string_of(simulation::find(m, "type")), since_);
}

inline void client::notice(std::string_view name, std::string_view content) {
  if (name == "gap") {
    gap(content);
  } else if (name == "open") {
    if (std::exchange(opened_, true)) return complain("open came twice");
    if (ended_token_) return complain("a permission that had ended opened a stream");
    auto m = members(content, world_.rec.wrong);
    session_ = string_of(simulation::find(m, "session"));
    auto channels = members(simulation::find(m, "channels"), world_.rec.wrong);
    if (channels.size() != follows_.size()) return complain("open names other channels");
    for (auto& f : follows_) {
      std::string quoted;
      json::append_quoted(quoted, f.channel);
      auto entry = simulation::find(channels, std::string_view(quoted).substr(1, quoted.size() - 2));
      if (entry.empty()) return complain("open does not name " + f.channel);
      began(f, entry);
    }
  } else if (name == "expiring" && world_.rec.permits) {
    trace("is told that its permission ends");
    if (way_ == way::websocket && chance(70)) send_command({command::renew, 0, {}});
  } else if (name == "closed" && world_.rec.permits) {
    std::string channel = string_of(simulation::find(members(content, world_.rec.wrong), "channel"));
    follow* f = find_follow(channel);
    if (!f || !taken_away_.count(channel))
      return complain("told that " + channel + " was taken away, which it was not");
    f->gone = true;
  } else if (name == "bye" && world_.draining) {
    trace("is sent away");
    ++world_.rec.count.farewells;
    const std::string code = string_of(simulation::find(members(content, world_.rec.wrong), "code"));
    if (code != "draining" && !(code == "overloaded" && may_be_overloaded()))
      complain("a bye of a draining server is not draining");
  } else if (name == "bye" && may_be_overloaded()) {
    trace("is told to come back later");
  } else if (name != "ping") {
    complain("an unexpected notice: " + std::string(name));
  }
}

// What a WebSocket frame or a line holds.
inline void client::object(std::string_view text) {
  auto m = members(text, world_.rec.wrong);
  if (m.empty()) return complain("an empty object");
  if (m[0].name == "reply") return reply(m[0].content.text, simulation::find(m, "ok"), simulation::find(m, "error"));
  if (m.size() == 1) return notice(m[0].name, m[0].content.text);
  if (!opened_) return complain("a message before open");
  message(text);
}

inline void client::poll_answer(const http_answer& a) {
  if (a.status == 304) {
    if (polled_.empty()) return complain("304 without being asked");
    check_cursor(polled_, "the cursor of the 304");
    return;
  }
  if (ended_token_) return complain("a permission that had ended was answered");
  auto m = members(a.body, world_.rec.wrong);
  std::string cursor = string_of(simulation::find(m, "cursor"));
  trace("is answered with cursor " + cursor);
  auto messages = elements(simulation::find(m, "messages"), world_.rec.wrong);
  auto notices = elements(simulation::find(m, "notices"), world_.rec.wrong);
  // Where a word stood, the messages and the cursor tell together where following began.
  std::string_view rest = cursor;
  for (auto& f : follows_) {
    auto part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    if (f.at.known) continue;
    place p;
    if (!take_place(part, p)) return complain("the cursor of the answer cannot be read");
    for (const auto& v : messages) {
      auto fields = members(v.text, world_.rec.wrong);
      if (string_of(simulation::find(fields, "channel")) != f.channel) continue;
      p.offset = number_of(simulation::find(fields, "offset")) - 1;
      break;
    }
    bool trimmed = false;  // after it began and before this answer: then it began somewhere before the gap
    for (const auto& v : notices) {
      auto n = members(v.text, world_.rec.wrong);
      auto fields = n.size() == 1 && n[0].name == "gap" ? members(n[0].content.text, world_.rec.wrong) : n;
      trimmed = trimmed || (n.size() == 1 && string_of(simulation::find(fields, "channel")) == f.channel);
    }
    if (trimmed) {
      f.at = {p.epoch, 0, true};
      f.from_word = true;
    } else {
      began(f, "{\"epoch\":\"" + p.epoch + "\",\"offset\":" + std::to_string(p.offset) +
                   (conflates(f.channel) ? ",\"recovered\":true,\"conflated\":true}" : ",\"recovered\":true}"));
    }
  }
  for (const auto& v : notices) {
    auto n = members(v.text, world_.rec.wrong);
    if (n.size() == 1) notice(n[0].name, n[0].content.text);
  }
  for (const auto& v : messages) message(v.text);
  if (messages.size() > world_.gate->settings.poll_messages) complain("too many messages in one answer");
  check_cursor(cursor, "the cursor of the answer");
  polled_ = cursor;
  auto tag = a.fields.find("etag");
  if (tag == a.fields.end() || tag->second != '"' + cursor + '"') complain("the tag is not the cursor");
}

// A raw client knows where it began and counts; which message it read is settled with everybody else.
inline void client::raw_message(bool binary, std::string_view bytes) {
  follow& f = follows_[0];
  if (timely_ && *timely_ == 0) return complain("a raw message after its permission had ended");
  ++f.at.offset;
  std::uint64_t number = 0;
  if (bytes.starts_with("{\"n\":")) {
    number = number_of(bytes.substr(5, bytes.find(',') - 5));
  } else if (bytes.starts_with('n')) {
    number = number_of(bytes.substr(1, bytes.find(' ') - 1));
  }
  f.seen = f.at;
  trace("reads " + std::to_string(number) + " raw at " + f.at.text());
  world_.rec.received(name_, f.channel, f.at, number, {}, {}, {}, since_);
  if (number == 0 || number >= world_.rec.next_number()) return;
  const auto& sent = world_.rec.message(number);
  std::string expected(sent.data.bytes());
  if (sent.data.type() == hailwire::payload::kind::json) json::spaces_for_line_breaks(expected);
  if (bytes != expected || binary != (sent.data.type() == hailwire::payload::kind::binary))
    complain("message " + std::to_string(number) + " has other bytes");
}

inline void client::closed_frame(std::string_view payload) {
  unsigned code = payload.size() < 2 ? 1005
                                     : static_cast<unsigned>(static_cast<unsigned char>(payload[0])) << 8 |
                                           static_cast<unsigned char>(payload[1]);
  trace("is closed with " + std::to_string(code));
  bool expected = code == 1000 || code == 1005 || (code == 4408 && !world_.stood_still) ||
                  ((code == 1011 || code == 1008 || code == 1013) && world_.rec.failures) ||
                  (code == 4401 && !permitted(until_)) || (code == 1012 && world_.draining) ||
                  (code == 1013 && !taken_away_.empty());  // could not be told of it
  if (code == 4401) ++world_.rec.count.expiries;
  if (code == 4410 && way_ == way::raw) {
    const follow& f = follows_[0];
    expected = world_.rec.restarts || world_.rec.may_be_trimmed(f.channel, f.at.epoch, f.at.offset + 1);
    ++world_.rec.count.gaps;
  }
  if (!expected)
    complain("closed with " + std::to_string(code) + ' ' +
             std::string(payload.substr(std::min<std::size_t>(2, payload.size()))));
  ended_ = true;
}

inline void client::refused(const http_answer& a) {
  trace("is refused with " + std::to_string(a.status));
  bool expected = ((a.status == 500 || a.status == 503) && world_.rec.failures) || a.status == 408 ||
                  (a.status == 401 && !permitted(until_)) || (a.status == 503 && world_.draining);
  if (a.status == 401) ++world_.rec.count.expiries;
  if (!expected) complain("refused with " + std::to_string(a.status) + ": " + a.body);
  ended_ = true;
}

inline void client::take_bytes(std::string_view bytes) {
  if (!by_body()) {
    in_ += bytes;
    return;
  }
  try {
    in_ += chunks_.read(bytes);
  } catch (const std::exception& e) {
    complain(e.what());
  }
}

inline void client::read() {
  read_post();
  if (!connection_) return;
  connection_->deliver();
  std::string& broken = world_.rec.wrong;
  take_bytes(connection_->take());
  bool over = connection_->ended_by_server || connection_->closed;
  std::size_t left = in_.size();
  auto passed = [&] {  // so much of what was timely has been read
    std::size_t n = left - in_.size();
    left = in_.size();
    if (timely_) *timely_ -= std::min(n, *timely_);
    for (auto& [channel, rest] : taken_away_) rest -= std::min(n, rest);
  };
  for (; !ended_ && broken.empty(); passed()) {
    if (way_ == way::long_poll || way_ == way::short_poll) {
      http_answer a;
      if (!asked_ || !a.take(in_, false, broken)) break;
      asked_ = false;
      if (a.status == 200 || a.status == 304) {
        poll_answer(a);
        if (a.fields["connection"] == "close") ended_ = true;
      } else {
        refused(a);
      }
    } else if (!head_read_) {
      http_answer a;
      std::string copy = in_;
      if (!a.take(copy, true, broken)) break;
      if (a.status != (by_body() ? 200 : 101)) {
        if (!a.take(in_, false, broken)) break;
        refused(a);
        break;
      }
      in_ = std::move(copy);
      head_read_ = true;
    } else if (way_ == way::sse) {
      sse_event e;
      if (!e.take(in_, broken)) break;
      if (e.name.empty()) {
        if (!opened_) complain("a message before open");
        message(e.data);
      } else {
        auto m = members(e.data, broken);
        if (m.size() != 1 || m[0].name != e.name) return complain("an event that is not named after its member");
        notice(m[0].name, m[0].content.text);
      }
      if (follows_.size() == 1 && e.name.empty() && !e.has_id) complain("a message without an id");
      // The id passes a gap with the gap's own event alone: cut before it, the client would never hear of the gap.
      if (e.has_id) check_cursor(e.id, "the id of an event");
    } else if (way_ == way::ndjson) {
      const auto end = in_.find('\n');
      if (end == in_.npos) break;
      const std::string line = in_.substr(0, end);
      in_.erase(0, end + 1);
      if (line.empty()) return complain("a blank line");
      object(line);
    } else {
      ws_message f;
      if (!f.take(in_, broken)) break;
      using op = hailwire::proto::ws_opcode;
      switch (f.what) {
        case op::ping:
          send_frame(op::pong, f.payload);
          break;
        case op::pong:
          break;
        case op::close:
          closed_frame(f.payload);
          break;
        case op::text:
        case op::binary:
          if (way_ == way::raw) {
            raw_message(f.what == op::binary, f.payload);
          } else if (f.what == op::binary) {
            complain("a binary frame");
          } else {
            object(f.payload);
          }
          break;
        default:
          complain("an unexpected frame");
      }
    }
  }
  if (ended_ || over) disconnect("the server ended it");
}

// ---- commands

inline void client::send_command(command c) {
  std::uint64_t id = next_command_++;
  std::string text = "{\"id\":" + std::to_string(id), channel;
  json::append_quoted(channel, c.channel);
  follow* f = find_follow(c.channel);
  switch (c.what) {
    case command::publish: {
      const auto& m = world_.rec.message(c.number);
      text += ",\"publish\":{\"channel\":" + channel;
      if (m.data.type() == hailwire::payload::kind::binary) {
        text += ",\"bytes\":\"";
        hailwire::proto::append_base64(text, m.data.bytes());
        text += '"';
      } else {
        text += ",\"data\":";
        text += m.data.bytes();
      }
      if (!m.type.empty()) text += ",\"type\":\"" + m.type + '"';
      text += ",\"key\":\"k" + std::to_string(c.number) + "\"}}";
      break;
    }
    case command::subscribe:
      f->earliest = chance(50);
      text += ",\"subscribe\":{\"channel\":" + channel + ",\"since\":\"" +
              (f->at.known   ? f->at.text()
               : f->earliest ? "earliest"
                             : "latest") +
              "\"}}";
      f->least = world_.rec.acknowledged_head(c.channel);
      break;
    case command::unsubscribe:
      text += ",\"unsubscribe\":{\"channel\":" + channel + "}}";
      break;
    case command::history:
      text += ",\"history\":{\"channel\":" + channel + ",\"limit\":" + std::to_string(1 + below(20)) + "}}";
      break;
    case command::renew: {
      std::string fresh = token(c.until);
      if (permitted(c.until)) perhaps_until_ = std::max(perhaps_until_, c.until);
      text += ",\"renew\":{\"token\":\"" + fresh + "\"}}";
      break;
    }
    case command::ping:
      text += ",\"ping\":{}}";
      break;
  }
  trace("commands " + text.substr(0, 100));
  busy_.emplace(id, std::move(c));
  send_frame(hailwire::proto::ws_opcode::text, text);
}

inline void client::reply(std::string_view id, std::string_view ok, std::string_view error) {
  auto found = busy_.find(number_of(id));
  if (found == busy_.end()) return complain("an answer to no command: " + std::string(id) + ' ' + std::string(error));
  if (found != busy_.begin()) return complain("answers out of order");
  command c = std::move(found->second);
  busy_.erase(found);
  trace("is answered " + std::string(ok.empty() ? error : ok).substr(0, 100));
  auto m = members(ok.empty() ? error : ok, world_.rec.wrong);
  if (ok.empty()) {
    std::string code = string_of(simulation::find(m, "code"));
    bool late = code == "unauthenticated" && (!permitted(until_) || (c.what == command::renew && !permitted(c.until)));
    bool gone = code == "forbidden" && taken_away_.count(c.channel);
    if (!late && !gone && !((code == "internal" || code == "overloaded") && world_.rec.failures))
      return complain("a command failed with " + code);
    if (c.what == command::publish) outbox_.push_back({c.number, false, true});
    if (c.what == command::subscribe) std::erase_if(follows_, [&](const follow& f) { return f.channel == c.channel; });
    return;
  }
  switch (c.what) {
    case command::publish:
      world_.rec.acknowledged(c.number, string_of(simulation::find(m, "epoch")),
                              number_of(simulation::find(m, "offset")));
      break;
    case command::subscribe:
      if (follow* f = find_follow(c.channel)) f->asked = true, f->gap_due = false, began(*f, ok);
      break;
    case command::unsubscribe:
      std::erase_if(follows_, [&](const follow& f) { return f.channel == c.channel; });
      break;
    case command::history: {
      place at{string_of(simulation::find(m, "epoch")), 0, true};
      for (const auto& v : elements(simulation::find(m, "messages"), world_.rec.wrong)) {
        auto fields = members(v.text, world_.rec.wrong);
        std::uint64_t offset = number_of(simulation::find(fields, "offset"));
        if (at.offset && offset != at.offset + 1) complain("history has a hole in " + c.channel);
        at.offset = offset;
      }
      if (const place& head = world_.rec.acknowledged_head(c.channel);
          !world_.rec.may_exist(c.channel, at.epoch, at.offset)) {
        complain("history ends at " + at.text() + ", acknowledged is " + head.text());
      }
      break;
    }
    case command::renew: {
      ++world_.rec.count.renewals;
      until_ = c.until;
      perhaps_until_ = std::max(until_, perhaps_until_);
      std::int64_t most = 3'600'000;
      if (static_cast<std::int64_t>(number_of(simulation::find(m, "expires"))) * 1000 > most)
        complain("a renewal for longer than was asked");
      break;
    }
    case command::ping:
      break;
  }
}

// ---- permission

// What whoever gives tokens gives it: the query, and the token, that say until when. Now and then it uses one that has
// ended.
inline std::string client::token(std::int64_t& until) {
  until = std::numeric_limits<std::int64_t>::max();
  if (!world_.rec.permits) return {};
  until = now() + (world_.calm ? 3'000'000
                   : chance(8) ? -1 - static_cast<std::int64_t>(below(5000))
                               : 300 + static_cast<std::int64_t>(below(chance(50) ? 3000 : 15'000)));
  return "&until=" + std::to_string(until);
}

inline void client::look_at_permission() {
  constexpr std::int64_t precision = 200;  // two steps of the hub's wheel
  if (!world_.rec.permits || !connection_ || timely_ || now() < std::max(until_, perhaps_until_) + precision) return;
  // A poll's answer is one piece: with a narrow window nobody can see from here whether it was made in time.
  if ((way_ == way::long_poll || way_ == way::short_poll) && connection_->room < 1'000'000'000) return;
  trace("its permission has ended");
  take_bytes(connection_->take());
  timely_ = in_.size() + chunks_.inside();
}

inline bool client::lose_channel() {
  if (!connection_ || !opened_ || way_ == way::raw || !busy_.empty() || session_.empty()) return false;
  for (auto* s : world_.gate->messages.find(name_)) {
    if (s->id() != session_) continue;
    auto& f = follows_[below(follows_.size())];
    if (!f.asked || f.gone) return false;
    trace("loses " + f.channel);
    ++world_.rec.count.revocations;
    take_bytes(connection_->take());
    taken_away_[f.channel] = in_.size() + chunks_.inside();
    s->revoke(f.channel);
    return true;
  }
  return false;
}

// ---- publishing

/// A payload that carries its number.
inline hailwire::payload make_payload(dice& d, std::uint64_t number, bool large, hailwire::payload::kind kind) {
  std::size_t size = large ? d.between(20'000, 150'000) : d.chance(5) ? d.below(6000) : d.below(120);
  std::string pad(size, static_cast<char>('a' + number % 26));
  if (d.chance(20)) pad += "\xE2\x82\xAC";
  std::string n = std::to_string(number);
  switch (kind) {
    case hailwire::payload::kind::json:
      return hailwire::payload::json("{\"n\":" + n + (d.chance(20) ? ",\r\n\"pad\":\"" : ",\"pad\":\"") + pad + "\"}");
    case hailwire::payload::kind::text:
      return hailwire::payload::text("n" + n + ' ' + pad + (d.chance(20) ? "\n\"x\\\"" : ""));
    default:
      return hailwire::payload::binary("n" + n + " 0123456789abcdef0123456789" + pad + '\0' + "\xFF");
  }
}

inline void client::write_letter() {
  if (outbox_.size() > 20) return;
  using kind = hailwire::payload::kind;
  kind k = chance(70) ? kind::json : chance(50) ? kind::text : kind::binary;
  const auto& channel = world_.channels[below(world_.channels.size())];
  auto number = world_.rec.begin(channel, name_, k == kind::json && chance(20) ? "note" : "",
                                 make_payload(world_.random, world_.rec.next_number(), world_.large, k));
  outbox_.push_back({number, k == kind::text || chance(50)});
}

inline void client::send_letter() {
  for (auto it = outbox_.begin(); it != outbox_.end(); ++it) {
    const auto& m = world_.rec.message(it->number);
    bool text = m.data.type() == hailwire::payload::kind::text;
    // A message with a type cannot be a plain POST, a text cannot be a command: each keeps to one form over all its
    // attempts.
    if (way_ == way::websocket && opened_ && !text && !it->by_post) {
      auto number = it->number;
      std::string channel = m.channel;
      bool tried = it->tried;
      outbox_.erase(it);
      return send_command({command::publish, number, std::move(channel), !tried});
    }
  }
  if (!outbox_.empty() && !posting_) post();
}

inline void client::post() {
  if (poster_ && (poster_->closed || poster_->ended_by_server || chance(20))) {
    world_.cut(poster_);
  }
  if (!poster_) {
    poster_ = hailwire::testing::memory_connection::open(*world_.gate);
    post_in_.clear();
  }
  posted_.clear();
  const auto& first = world_.rec.message(outbox_[0].number);
  batch_ = first.type.size() || (first.data.type() == hailwire::payload::kind::json && chance(50));
  std::string body, request, fields, allowed = token(post_until_);
  ended_post_token_ = !permitted(post_until_);
  if (batch_) {
    body = "[";
    for (auto& l : outbox_) {
      const auto& m = world_.rec.message(l.number);
      if (m.data.type() != hailwire::payload::kind::json || posted_.size() == 5) continue;
      std::string channel;
      json::append_quoted(channel, m.channel);
      if (!posted_.empty()) body += ',';
      body += "{\"id\":" + std::to_string(l.number) + ",\"publish\":{\"channel\":" + channel +
              ",\"data\":" + std::string(m.data.bytes());
      if (!m.type.empty()) body += ",\"type\":\"" + m.type + '"';
      body += ",\"key\":\"k" + std::to_string(l.number) + "\"}}";
      posted_.push_back(l.number);
    }
    body += ']';
    request = "POST /live?user=" + name_ + allowed;
    fields = "Content-Type: application/json\r\n";
  } else {
    static constexpr const char* types[] = {"application/json", "text/plain", "application/octet-stream"};
    posted_.push_back(outbox_[0].number);
    body = first.data.bytes();
    request = "POST /live?user=" + name_ + allowed + "&channel=" + escaped(first.channel);
    fields = "Content-Type: " + std::string(types[static_cast<int>(first.data.type())]) + "\r\nIdempotency-Key: \"k" +
             std::to_string(posted_[0]) + "\"\r\n";
  }
  for (auto& l : outbox_) l.tried = l.tried || std::find(posted_.begin(), posted_.end(), l.number) != posted_.end();
  trace("posts " + std::to_string(posted_.size()) + " from " + std::to_string(posted_[0]));
  posting_ = true;
  poster_->send(request + " HTTP/1.1\r\nHost: sim\r\n" + fields + "Content-Length: " + std::to_string(body.size()) +
                "\r\n\r\n" + body);
}

inline void client::read_post() {
  if (!poster_) return;
  poster_->deliver();
  post_in_ += poster_->take();
  http_answer a;
  if (posting_ && a.take(post_in_, false, world_.rec.wrong)) {
    posting_ = false;
    if (!world_.calm &&
        chance(10)) {  // the answer is lost: what it said is not known, and is asked again with the same key
      ++world_.rec.count.lost_answers;
      world_.cut(poster_);
      return;
    }
    auto done = [&](std::uint64_t number, std::string_view ok) {
      if (ended_post_token_) complain("a permission that had ended published");
      auto m = members(ok, world_.rec.wrong);
      world_.rec.acknowledged(number, string_of(simulation::find(m, "epoch")),
                              number_of(simulation::find(m, "offset")));
      std::erase_if(outbox_, [&](const letter& l) { return l.number == number; });
    };
    if (a.status == 201 && !batch_) {
      done(posted_[0], a.body);
    } else if (a.status == 200 && batch_) {
      auto replies = elements(a.body, world_.rec.wrong);
      if (replies.size() != posted_.size()) return complain("a batch of other answers");
      for (std::size_t i = 0; i < replies.size(); ++i) {
        auto m = members(replies[i].text, world_.rec.wrong);
        if (number_of(simulation::find(m, "reply")) != posted_[i]) return complain("a batch out of order");
        if (auto ok = simulation::find(m, "ok"); !ok.empty()) {
          done(posted_[i], ok);
        } else if (!world_.rec.failures && permitted(post_until_)) {
          complain("a publish failed: " + std::string(replies[i].text));
        }
      }
    } else if (!((a.status == 500 || a.status == 503) && world_.rec.failures) &&
               !(a.status == 401 && !permitted(post_until_))) {
      complain("a POST was answered " + std::to_string(a.status) + ": " + a.body);
    }
  }
  if (poster_ && (poster_->closed || poster_->ended_by_server)) {
    world_.cut(poster_);
    posting_ = false;
  }
}

// ---- what it does

inline void client::act() {
  if (connection_) connection_->deliver();
  if (connection_ && connection_->room < 1'000'000) connection_->open_window(below(world_.large ? 60'000 : 800));
  if (chance(12)) write_letter();
  if (chance(30)) send_letter();
  if (posting_ && chance(4)) {  // cut while the answer is on its way
    ++world_.rec.count.lost_answers;
    world_.cut(poster_);
    posting_ = false;
  }
  if (!connection_) {
    if (chance(hasty_ ? 50 : 15)) connect(static_cast<way>(1 + below(6)));
    return;
  }
  if (chance(hasty_ ? 80 : 20)) read();
  if (!connection_) return;
  bool poll = way_ == way::long_poll || way_ == way::short_poll;
  if (poll && !asked_ && chance(50)) return ask();
  if (poll && asked_ && chance(6)) {  // the answer, if there is one, is lost
    ++world_.rec.count.lost_answers;
    return disconnect("loses an answer");
  }
  if (chance(4)) {  // the connection breaks, somewhere in the middle of what was on its way
    std::string last = connection_->take();
    take_bytes(last.substr(0, below(last.size() + 1)));
    connection_->received.clear();
    if (chance(50)) {
      trust_ids_ = way_ == way::sse;
      read();
    }
    return disconnect("breaks");
  }
  if (chance(3)) {
    leaving_ = true;
    if (way_ == way::websocket || way_ == way::raw) {
      if (head_read_) return send_frame(hailwire::proto::ws_opcode::close, hailwire::proto::close_payload(1000));
    } else {
      return connection_->send_end();
    }
  }
  if (way_ == way::websocket && opened_ && busy_.size() < 4) {
    auto& c = world_.channels[below(world_.channels.size())];
    switch (below(25)) {
      case 0:
        return send_command({command::ping, 0, {}});
      case 1:
        return send_command({command::history, 0, c});
      case 2:
        if (find_follow(c)) return;
        follows_.push_back({c, {}, {}});
        return send_command({command::subscribe, 0, c});
      case 3:
        if (follows_.size() < 2 || !find_follow(c) || find_follow(c)->gone || taken_away_.count(c) || !busy_.empty())
          return;
        return send_command({command::unsubscribe, 0, c});
      default:
        break;
    }
  }
  if (way_ == way::raw && head_read_ && chance(15)) {
    using kind = hailwire::payload::kind;
    kind k = chance(50) ? kind::text : kind::binary;
    auto p = make_payload(world_.random, world_.rec.next_number(), world_.large, k);
    std::string bytes(p.bytes());
    world_.rec.begin(follows_[0].channel, name_, {}, std::move(p));
    send_frame(k == kind::text ? hailwire::proto::ws_opcode::text : hailwire::proto::ws_opcode::binary, bytes);
  }
}

inline void client::catch_up() {
  if (connection_) connection_->open_window(std::numeric_limits<std::size_t>::max());
  read();
  if (std::any_of(follows_.begin(), follows_.end(), [](const follow& f) { return f.gone; }))
    disconnect("comes back for what was taken away");
  if (!connection_) connect(static_cast<way>(1 + below(6)));
  if ((way_ == way::long_poll || way_ == way::short_poll) && !asked_) ask();
  send_letter();
  read();
}

}  // namespace simulation
