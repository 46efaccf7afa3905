// SPDX-License-Identifier: BSL-1.0
#pragma once

// The watermarks and device tokens in the file of sqlite_file.hpp: `sqlite_members` reads them, `sqlite_member_writer`
// changes them, inside transactions that its caller begins and ends. Each belongs to one connection.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/storage/sqlite_file.hpp"
#include "hailwire/storage_members.hpp"

namespace hailwire::detail {

class sqlite_members {
 public:
  sqlite_members() = default;
  explicit sqlite_members(sqlite_connection& c)
      : marks_(c.prepare(
            "SELECT user, device, epoch, received, read, public_read, at FROM marks WHERE channel = ? AND user >= ?"
            " ORDER BY user, device")),
        tokens_(c.prepare("SELECT device, service, token, extra, at FROM tokens WHERE user = ? ORDER BY device")) {}

  watermarks_result watermarks(std::int64_t channel, const watermark_query& q) {
    watermarks_result r;
    const bool all = q.user.empty();
    const std::string from = !all ? q.user : q.after.empty() ? std::string() : q.after + '\0';  // the next name
    std::size_t users = 0;
    marks_(channel, sqlite_statement::blob(from));
    while (marks_.step()) {
      const std::string_view user = marks_.bytes(0);
      if (!all && user != q.user) break;
      if (r.marks.empty() || r.marks.back().user != user) {
        r.more = all && users > 0 && users >= q.users;
        if (r.more) break;
        ++users;
      }
      watermark& m = r.marks.emplace_back();
      m.user = user;
      m.device = marks_.bytes(1);
      m.epoch = marks_.bytes(2);
      m.levels = {marks_.number(3), marks_.number(4), marks_.number(5)};
      m.at = marks_.integer(6);
    }
    marks_.reset();
    return r;
  }

  tokens_result tokens(std::string_view user) {
    tokens_result r;
    tokens_(sqlite_statement::blob(user));
    while (tokens_.step()) {
      device_token& t = r.tokens.emplace_back();
      t.user = user;
      t.device = tokens_.bytes(0);
      t.service = tokens_.bytes(1);
      t.token = tokens_.bytes(2);
      t.extra = tokens_.bytes(3);
      t.at = tokens_.integer(4);
    }
    return r;
  }

  /// Ends what a failure has left half read.
  void reset() noexcept {
    marks_.reset();
    tokens_.reset();
  }

 private:
  sqlite_statement marks_, tokens_;
};

class sqlite_member_writer : public sqlite_members {
 public:
  sqlite_member_writer(sqlite_connection& c, std::uint64_t marks, std::uint64_t tokens)
      : sqlite_members(c), connection_(&c), most_marks_(marks), most_tokens_(tokens) {
    keep_mark_ = c.prepare("INSERT OR REPLACE INTO marks VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    drop_mark_ = c.prepare("DELETE FROM marks WHERE channel = ? AND user = ? AND device = ?");
    named_ = c.prepare("SELECT user, device FROM tokens WHERE token = ? AND service = ?");
    keep_token_ = c.prepare("INSERT OR REPLACE INTO tokens VALUES(?, ?, ?, ?, ?, ?)");
    drop_token_ = c.prepare("DELETE FROM tokens WHERE user = ? AND device = ? AND (? IS NULL OR token = ?)");
  }

  /// How many there are, read anew: at the start, and after a transaction that was rolled back.
  void reload() {
    reset();
    marks_ = static_cast<std::uint64_t>(connection_->integer("SELECT count(*) FROM marks"));
    tokens_ = static_cast<std::uint64_t>(connection_->integer("SELECT count(*) FROM tokens"));
  }

  /// `m` is of the channel's epoch, and not above its head.
  mark_result mark(std::int64_t channel, const watermark& m) {
    watermark_query q;
    q.user = m.user;
    const auto known = watermarks(channel, q).marks;
    mark_result r;
    r.before = highest(known, m.epoch);
    watermark next = m;
    next.levels = {};
    auto own = std::find_if(known.begin(), known.end(), [&](const watermark& k) { return k.device == m.device; });
    if (own == known.end()) {
      std::vector<std::int64_t> seen;
      for (const watermark& k : known) seen.push_back(k.at);
      const std::size_t old = gives_way(seen, m.at);
      if (old == none_gives_way) return errc::conflict;
      if (old == known.size() && marks_ >= most_marks_) return errc::overloaded;
      if (old < known.size()) {
        drop_mark_(channel, sqlite_statement::blob(m.user), sqlite_statement::blob(known[old].device)).run();
      } else {
        ++marks_;
      }
    } else {
      next.at = std::max(next.at, own->at);
      if (own->epoch == m.epoch) next.levels = own->levels;
    }
    raise(next.levels, m.levels);
    keep_mark_(channel, sqlite_statement::blob(m.user), sqlite_statement::blob(m.device), std::string_view(m.epoch),
               next.levels.received, next.levels.read, next.levels.public_read, next.at)
        .run();
    r.after = r.before;
    raise(r.after, next.levels);
    return r;
  }

  tokens_result keep_token(const device_token& t) {
    const auto known = tokens(t.user).tokens;
    auto own = std::find_if(known.begin(), known.end(), [&](const device_token& k) { return k.device == t.device; });
    if (own == known.end()) {
      std::vector<std::int64_t> seen;
      for (const device_token& k : known) seen.push_back(k.at);
      const std::size_t old = gives_way(seen, t.at);
      if (old == none_gives_way) return errc::conflict;
      if (old == known.size() && tokens_ >= most_tokens_) return errc::overloaded;
      if (old < known.size()) drop(t.user, known[old].device, {});
    } else {
      drop(t.user, t.device, {});
    }
    if (named_(sqlite_statement::blob(t.token), sqlite_statement::blob(t.service)).step()) {
      const std::string user(named_.bytes(0)), device(named_.bytes(1));
      named_.reset();
      drop(user, device, {});
    }
    keep_token_(sqlite_statement::blob(t.user), sqlite_statement::blob(t.device), sqlite_statement::blob(t.service),
                sqlite_statement::blob(t.token), sqlite_statement::blob(t.extra), t.at)
        .run();
    ++tokens_;
    return {};
  }

  tokens_result forget_token(std::string_view user, std::string_view device, std::string_view token) {
    drop(user, device, token);
    return {};
  }

 private:
  void drop(std::string_view user, std::string_view device, std::string_view token) {
    auto bound = [&](auto only) {
      drop_token_(sqlite_statement::blob(user), sqlite_statement::blob(device), only, only).run();
    };
    token.empty() ? bound(nullptr) : bound(sqlite_statement::blob(token));
    tokens_ -= static_cast<std::uint64_t>(connection_->changes());
  }

  sqlite_connection* connection_;
  sqlite_statement keep_mark_, drop_mark_, named_, keep_token_, drop_token_;
  std::uint64_t most_marks_, most_tokens_, marks_ = 0, tokens_ = 0;
};

}  // namespace hailwire::detail
