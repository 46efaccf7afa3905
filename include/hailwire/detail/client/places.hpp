// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/client/answers.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

/// The channels that a client follows, in the order in which its URL names them, and where it stands in each. One
/// thread.
class client_places {
 public:
  struct place {
    std::string name, epoch;  ///< no epoch: `word` says where it begins
    std::uint64_t offset = 0;
    hailwire::start::word word = hailwire::start::word::latest;
    /// It was asked for by a command that is unanswered: what comes of the channel is of an earlier following.
    bool awaited = false;
    std::uint32_t serial = 0;  ///< of this following: what is answered to an earlier one of the channel is not for it
  };

  /// Null where it is not followed.
  place* find(std::string_view channel) noexcept {
    for (auto& c : all_)
      if (proto::same_bytes(c.name, channel)) return &c;
    return nullptr;
  }
  /// Precondition: the name is a channel's, and not there yet.
  void add(std::string_view channel, hailwire::start since) {
    auto& c = all_.emplace_back();
    c.name = channel;
    c.word = since.from;
    c.serial = ++serials_;
    if (since.from != hailwire::start::word::at) return;
    c.epoch = std::move(since.at.epoch);
    c.offset = since.at.offset;
  }
  void erase(std::string_view channel) {
    std::erase_if(all_, [&](const place& c) { return c.name == channel; });
  }

  /// Takes a position from the server. Within an epoch only a gap takes it `back`: what was seen stays seen.
  void move(place& at, std::string_view epoch, std::uint64_t offset, bool back = false) {
    if (!back && at.epoch == epoch && offset <= at.offset) return;
    at.epoch = epoch;
    at.offset = offset;
    moved_ = true;
  }
  /// The entry of a channel, as `open` and the answer to `subscribe` have it. One that is not `recovered` stands behind
  /// a gap that follows at once: the place moves with the gap, so that a cut between the two does not hide it.
  void take_entry(place& at, std::string_view entry) {
    position p;
    bool recovered = true;
    each_member(entry, [&](std::string_view name, const proto::json::value& v) {
      if (name == "epoch") p.epoch = text_in(v);
      if (name == "offset") p.offset = number_in(v);
      if (name == "recovered") recovered = v.text != "false";
    });
    if (recovered && valid_epoch(p.epoch)) move(at, p.epoch, p.offset);
  }
  /// An object of entries by name. Names that are not followed are passed over.
  void take_entries(std::string_view json) {
    each_member(json, [&](std::string_view name, const proto::json::value& v) {
      if (auto* at = find(name)) take_entry(*at, v.text);
    });
  }

  /// One element of a cursor (PROTOCOL.md, "Words").
  static std::string element(const place& c) {
    static constexpr const char* words[] = {"latest", "latest", "earliest", "received"};
    if (c.epoch.empty()) return words[static_cast<int>(c.word)];
    std::string out;
    append_position(out, c.epoch, c.offset);
    return out;
  }
  /// The whole cursor, but for channels for which `instead` knows another place.
  template <class F>
  std::string cursor(F instead) const {
    std::string out;
    for (auto& c : all_) {
      if (!out.empty()) out += ',';
      if (const std::optional<position> at = instead(c.name)) {
        append_position(out, at->epoch, at->offset);
      } else {
        out += element(c);
      }
    }
    return out;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (auto& c : all_) out.push_back(c.name);
    return out;
  }
  /// A link has begun that names them all: nothing is awaited.
  void named() noexcept {
    for (auto& c : all_) c.awaited = false;
  }
  /// The newest. Precondition: there is one.
  place& back() noexcept { return all_.back(); }
  const std::vector<place>& all() const noexcept { return all_; }
  bool empty() const noexcept { return all_.empty(); }
  std::size_t size() const noexcept { return all_.size(); }
  /// Whether a place has moved, or is to be told as if it had, since this was taken back.
  bool moved() const noexcept { return moved_; }
  void moved(bool yes) noexcept { moved_ = yes; }

 private:
  std::vector<place> all_;
  std::uint32_t serials_ = 0;
  bool moved_ = false;
};

}  // namespace hailwire::detail
