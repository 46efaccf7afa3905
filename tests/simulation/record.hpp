// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the publishers know: each message has a number of its own inside its payload, and where it stands is what its
// acknowledgement said. Every client's reading is held against this, never against the server's idea of it.
//
// A message without an acknowledgement (its answer was lost, or it came from a raw client, which gets none) may stand
// anywhere, but at one place only: the first client that sees it settles where.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/proto/envelope.hpp"

namespace simulation {

/// The only source of chance: splitmix64 (public domain, Vigna), so that a seed means the same everywhere.
class dice {
 public:
  explicit dice(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  /// From 0 to n−1.
  std::size_t below(std::size_t n) noexcept { return static_cast<std::size_t>(next() % n); }
  std::size_t between(std::size_t least, std::size_t most) noexcept { return least + below(most - least + 1); }
  bool chance(unsigned percent) noexcept { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

struct place {
  std::string epoch;
  std::uint64_t offset = 0;
  bool known = false;

  std::string text() const { return known ? epoch + '.' + std::to_string(offset) : std::string("nowhere"); }
};

struct totals {
  std::uint64_t seeds = 0, published = 0, received = 0, connections = 0, reconnects = 0, lost_answers = 0, gaps = 0,
                repeats = 0, restarts = 0, renewals = 0, expiries = 0, revocations = 0, drains = 0, farewells = 0,
                erasures = 0;
};

class record {
 public:
  explicit record(std::size_t retention) : retention_(retention) {}

  /// The first thing that was found wrong; empty while all is well.
  std::string wrong;
  void complain(std::string what) {
    if (wrong.empty()) wrong = std::move(what);
  }
  bool keep_trace = false;
  std::vector<std::string> trace;
  totals count;
  /// Whether epochs may change, and whether reads may fail, in this seed.
  bool restarts = false, failures = false;
  /// A channel of which the newest message alone matters; empty: there is none.
  std::string last_value;
  /// Whether another program writes into the storage too. The server hears of that late, so that `latest` may be some
  /// messages ago.
  bool shared = false;
  /// Whether messages are taken back in this seed.
  bool erases = false;
  /// Whether permissions end in this seed, are renewed, or are taken away.
  bool permits = false;

  struct sent {
    std::string channel, from, type;
    hailwire::payload data;
    std::string member;  // what every reader of JSON must see
    std::vector<std::pair<std::string, std::uint64_t>> stands;
    bool on_its_way = true;
    std::uint64_t erases = 0;     // the number that it takes back
    std::uint64_t erased_by = 0;  // the number of the entry that takes it back, from when that was asked for
    std::uint64_t gone = 0;       // the moment at which that was acknowledged
  };

  /// A message that is about to be published.
  std::uint64_t begin(std::string channel, std::string from, std::string type, hailwire::payload p) {
    sent s{std::move(channel), std::move(from), std::move(type), std::move(p), {}, {}};
    std::string json(s.data.bytes());
    hailwire::proto::json::spaces_for_line_breaks(json);
    hailwire::proto::append_payload_member(
        s.member, s.data.type() == hailwire::payload::kind::json ? hailwire::payload::json(json) : s.data);
    ++logs_[s.channel].unsettled;
    messages_.push_back(std::move(s));
    ++count.published;
    return messages_.size();
  }
  /// The entry of an erasure that is about to be asked for.
  std::uint64_t begin_erase(std::uint64_t number) {
    const std::uint64_t entry = begin(message(number).channel, {}, {}, {});
    messages_[entry - 1].erases = number;
    messages_[number - 1].erased_by = entry;
    ++count.erasures;
    return entry;
  }
  void erased(std::uint64_t entry, const std::string& epoch, std::uint64_t offset) {
    acknowledged(entry, epoch, offset);
    messages_[message(entry).erases - 1].gone = ++moment;
  }
  /// It was not there any more.
  void not_erased(std::uint64_t entry) {
    sent& s = messages_[entry - 1];
    messages_[s.erases - 1].erased_by = 0;
    s.erases = 0;
    if (std::exchange(s.on_its_way, false)) --logs_[s.channel].unsettled;
  }
  /// Counts what was acknowledged as erased; a connection that began later is shown nothing of it.
  std::uint64_t moment = 0;
  /// Somebody's message that stands somewhere and was not taken back; 0: none was found.
  std::uint64_t any_standing(dice& d) const {
    for (int i = 0; i < 5 && !messages_.empty(); ++i) {
      const std::uint64_t n = messages_.size() - d.below(std::min<std::size_t>(messages_.size(), 30));
      const sent& s = message(n);
      if (!s.stands.empty() && !s.erases && !s.erased_by) return n;
    }
    return 0;
  }
  /// A client was shown that what stands at `at` was taken back, or that something was: what stood at `offset`.
  void received_erased(const std::string& who, const std::string& channel, const place& at) {
    ++count.received;
    const std::uint64_t n = standing(channel, at.epoch, at.offset);
    if (n && !message(n).erased_by) complain(who + " was shown message " + std::to_string(n) + " as taken back");
  }
  void received_erasure(const std::string& who, const std::string& channel, const place& at, std::uint64_t offset) {
    ++count.received;
    const std::uint64_t n = standing(channel, at.epoch, offset);
    if (!n || !message(n).erased_by)
      return complain(who + " was told that " + at.epoch + '.' + std::to_string(offset) + " was taken back");
    settle(message(n).erased_by, at.epoch, at.offset, who.c_str());
  }
  const sent& message(std::uint64_t number) const { return messages_[number - 1]; }
  std::uint64_t next_number() const noexcept { return messages_.size() + 1; }

  void acknowledged(std::uint64_t number, const std::string& epoch, std::uint64_t offset) {
    settle(number, epoch, offset, "acknowledged");
    auto& l = logs_[message(number).channel];
    if (!l.acknowledged.known || l.acknowledged.epoch != epoch || l.acknowledged.offset < offset)
      l.acknowledged = {epoch, offset, true};
  }
  /// A client read this at `at`: the number inside the payload and the member as it stood there.
  void received(const std::string& who, const std::string& channel, const place& at, std::uint64_t number,
                std::string_view member, std::string_view from, std::string_view type, std::uint64_t since) {
    ++count.received;
    if (number == 0 || number >= next_number()) return complain(who + " read a message that nobody sent");
    const sent& s = message(number);
    if (s.gone && s.gone <= since)
      return complain(who + " read message " + std::to_string(number) + ", which had been taken back");
    if (s.channel != channel) return complain(who + " read a message of " + s.channel + " in " + channel);
    if (!member.empty() && member != s.member)
      return complain(who + " read message " + std::to_string(number) + " with other bytes");
    if (!member.empty() && (from != s.from || type != s.type))
      return complain(who + " read message " + std::to_string(number) + " with another sender or type");
    settle(number, at.epoch, at.offset, who.c_str());
  }

  /// A storage has lost its newest messages: those up to `head` stand where they stood, in another epoch, and what was
  /// trimmed before `oldest` does not come back.
  void lost_newest(const std::string& channel, const std::string& before, const std::string& after,
                   std::uint64_t oldest, std::uint64_t head) {
    log& l = logs_[channel];
    auto kept = l.places[before];
    kept.resize(static_cast<std::size_t>(head));
    for (std::size_t i = 0; i < kept.size(); ++i)
      if (kept[i]) messages_[kept[i] - 1].stands.emplace_back(after, i + 1);
    l.places[after] = std::move(kept);
    l.floors[after] = oldest - 1;
  }

  /// Where the newest acknowledged message of a channel stands.
  const place& acknowledged_head(const std::string& channel) { return logs_[channel].acknowledged; }
  /// Whether the message at that offset may have been dropped by the retention by now.
  bool may_be_trimmed(const std::string& channel, const std::string& epoch, std::uint64_t offset) {
    auto& l = logs_[channel];
    return offset <= l.floors[epoch] || offset + retention_ <= l.places[epoch].size() + l.unsettled;
  }
  bool may_exist(const std::string& channel, const std::string& epoch, std::uint64_t offset) {
    auto& l = logs_[channel];
    return offset <= l.places[epoch].size() + l.unsettled;
  }
  /// How old an epoch is: the storage that begins new ones counts them, "E1", "E2", …
  static std::uint64_t age_of(std::string_view epoch) {
    return hailwire::proto::parse_decimal(epoch.substr(1)).value_or(0);
  }

 private:
  struct log {
    std::map<std::string, std::vector<std::uint64_t>>
        places;                                   // per epoch, the number that stands at offset − 1; 0: not known
    std::map<std::string, std::uint64_t> floors;  // per epoch, the newest offset that was never there to be read
    std::size_t unsettled = 0;
    place acknowledged;
  };

  std::uint64_t standing(const std::string& channel, const std::string& epoch, std::uint64_t offset) {
    const auto& places = logs_[channel].places[epoch];
    return offset == 0 || offset > places.size() ? 0 : places[static_cast<std::size_t>(offset - 1)];
  }

  void settle(std::uint64_t number, const std::string& epoch, std::uint64_t offset, const char* by) {
    sent& s = messages_[number - 1];
    log& l = logs_[s.channel];
    std::string what = "message " + std::to_string(number) + " of " + s.channel;
    if (offset == 0) return complain(what + " stands at 0");
    if (std::exchange(s.on_its_way, false)) --l.unsettled;
    auto& places = l.places[epoch];
    if (places.size() < offset) places.resize(static_cast<std::size_t>(offset));
    std::uint64_t& here = places[static_cast<std::size_t>(offset - 1)];
    std::string at = epoch + '.' + std::to_string(offset);
    if (here && here != number)
      return complain(what + " (" + by + ") stands at " + at + ", where message " + std::to_string(here) + " stands");
    here = number;
    for (auto& [e, o] : s.stands) {
      if (e == epoch && o != offset)
        return complain(what + " (" + by + ") stands at " + at + " and at " + std::to_string(o));
      if (e == epoch) return;
    }
    s.stands.emplace_back(epoch, offset);
    if (s.stands.size() > 1 && !restarts) complain(what + " (" + by + ") stands in two epochs");
  }

  std::size_t retention_;
  std::vector<sent> messages_;
  std::map<std::string, log> logs_;
};

}  // namespace simulation
