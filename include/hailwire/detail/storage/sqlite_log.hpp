// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because the writer and the reader of a log are two sides of one schema.
//
// What is done to the file of sqlite_file.hpp: `sqlite_writer` appends, trims and forgets keys, inside transactions
// that its caller begins and ends; `sqlite_reader` reads. Each belongs to one thread and one connection.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/storage/fingerprint.hpp"
#include "hailwire/detail/storage/sqlite_file.hpp"
#include "hailwire/detail/storage/sqlite_members.hpp"

namespace hailwire::detail {

inline constexpr std::int64_t no_limit = INT64_MAX;

/// How much of a channel is kept; `age` in milliseconds.
struct sqlite_bounds {
  std::int64_t messages = no_limit, bytes = no_limit, age = no_limit;
};

struct sqlite_limits : sqlite_bounds {
  std::uint64_t channels = 0, keys = 0, marks = 0, tokens = 0;
  std::int64_t key_lifetime = 0;  // milliseconds
};

inline std::int64_t first_row(std::int64_t number) noexcept { return number << sqlite_file::offset_bits; }
inline std::uint64_t offset_of(std::int64_t row) noexcept {
  return static_cast<std::uint64_t>(row) & ((std::uint64_t{1} << sqlite_file::offset_bits) - 1);
}
inline std::int64_t row_of(std::int64_t number, std::uint64_t offset) noexcept {
  return first_row(number) + static_cast<std::int64_t>(offset);
}
inline constexpr std::uint64_t last_offset = (std::uint64_t{1} << sqlite_file::offset_bits) - 1;

inline std::string sqlite_epoch(const bits128& secret, std::string_view channel) {
  return epoch_for(sqlite_statement::blob(secret).bytes, channel);
}

// Added to the kind of a message whose data is cut in two, and of one that has a row among the notes.
inline constexpr std::int64_t has_tail = 4, has_note = 8;

/// How much of `size` bytes goes into the message's own row. A row of a page of 4096 bytes that takes between a half
/// and two thirds of it leaves the rest empty, up to half the file; three rows of 1320 bytes fill a page.
inline std::size_t head_size(std::size_t size, std::size_t beside) noexcept {
  std::size_t row = size + beside + 30;
  return row > 2030 && row < 2830 && size > 1320 ? 1320 : size;
}

class sqlite_writer {
 public:
  sqlite_member_writer members;

  sqlite_writer(sqlite_file& file, const sqlite_limits& limits)
      : members(file.writer, limits.marks, limits.tokens),
        connection_(&file.writer),
        epoch_secret_(file.epoch_secret),
        key_secret_(file.key_secret),
        limits_(limits) {
    auto& c = file.writer;
    find_ = c.prepare("SELECT number, head, keep_messages, keep_bytes, keep_age FROM channels WHERE name = ?");
    make_ = c.prepare("INSERT INTO channels(name, number, head) VALUES(?, ?, 0)");
    keep_ = c.prepare("UPDATE channels SET keep_messages = ?, keep_bytes = ?, keep_age = ? WHERE name = ?");
    count_ = c.prepare("UPDATE meta SET channels = ?");
    keep_head_ = c.prepare("UPDATE channels SET head = ? WHERE name = ?");
    newest_ = c.prepare(
        "SELECT id, before + length(data) + ifnull((SELECT length(data) FROM tails WHERE tails.id = messages.id), 0), "
        "at"
        " FROM messages WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1");
    oldest_ = c.prepare("SELECT id, before, at FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 2");
    insert_ = c.prepare("INSERT INTO messages VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    insert_tail_ = c.prepare("INSERT INTO tails VALUES(?, ?)");
    kept_ = c.prepare(
        "SELECT id FROM messages WHERE id BETWEEN ? AND ? AND at >= ? AND (id = ? OR (id >= ? AND ? - before <= ?))"
        " ORDER BY id LIMIT 1");
    too_old_ = c.prepare("SELECT id FROM messages WHERE id BETWEEN ? AND ? AND at < ? ORDER BY id LIMIT 1");
    drop_ = c.prepare("DELETE FROM messages WHERE id BETWEEN ? AND ?");
    drop_tails_ = c.prepare("DELETE FROM tails WHERE id BETWEEN ? AND ?");
    drop_notes_ = c.prepare("DELETE FROM notes WHERE id BETWEEN ? AND ?");
    note_ = c.prepare("SELECT erases, erased_by FROM notes WHERE id = ?");
    insert_note_ = c.prepare("INSERT OR REPLACE INTO notes VALUES(?, ?, ?, ?, ?, ?)");
    there_ = c.prepare("SELECT kind FROM messages WHERE id = ?");
    blank_ = c.prepare("UPDATE messages SET kind = ?, type = NULL, media = NULL, data = zeroblob(0) WHERE id = ?");
    key_ = c.prepare("SELECT print, offset, at FROM keys WHERE hash = ?");
    keep_key_ = c.prepare("INSERT OR REPLACE INTO keys VALUES(?, ?, ?, ?)");
    forget_keys_ = c.prepare("DELETE FROM keys WHERE hash IN (SELECT hash FROM keys WHERE at < ? ORDER BY at LIMIT ?)");
    sweep_ = c.prepare(
        "SELECT name, number, head, keep_messages, keep_bytes, keep_age FROM channels WHERE name > ifnull(?, '')"
        " ORDER BY name LIMIT 256");
    used_before_ = c.integer("SELECT max(at) FROM keys");
    reload();
  }

  /// What follows happens now: `unix_ms` is what messages age by, `used` for how long the file has been in use, which
  /// keys age by; both in milliseconds. The time of use goes on where the newest key has it from, so that a clock that
  /// is set ends no key, and the time between two uses none either.
  void at(std::int64_t unix_ms, std::int64_t used) noexcept {
    now_ = unix_ms;
    used_ = used_before_ + used;
  }

  /// What is remembered of the file, read anew: at the start, and after a transaction that was rolled back.
  void reload() {
    logs_.clear();
    due_.clear();
    channels_ = connection_->integer("SELECT channels FROM meta");
    ages_ = connection_->integer("SELECT ages FROM meta") != 0;
    members.reload();
    keys_ = static_cast<std::uint64_t>(connection_->integer("SELECT count(*) FROM keys"));
  }

  append_result append(std::string_view channel, const draft& d) {
    bits128 hash, print;
    bool kept = false;  // under this key, though its time is over
    if (!d.key.empty()) {
      hash = keyed_hash(key_secret_).add(channel.size()).add(channel).add(d.key).finish();
      print = fingerprint(key_secret_, d);
      if (key_(sqlite_statement::blob(hash)).step()) {
        bool same = key_.bytes(0) == sqlite_statement::blob(print).bytes;
        append_result r(position{sqlite_epoch(epoch_secret_, channel), key_.number(1)});
        kept = key_.integer(2) < used_ - limits_.key_lifetime;
        key_.reset();
        r.duplicate = true;
        if (!kept) return same ? r : append_result(errc::conflict);
      } else if (keys_ >= limits_.keys) {
        return errc::overloaded;
      }
    }
    log* l = find_or_make(channel);
    if (!l || l->head == last_offset) return errc::overloaded;
    position p = store(channel, *l, d, 0);
    if (!d.key.empty()) {
      keep_key_(sqlite_statement::blob(hash), sqlite_statement::blob(print), l->head, used_).run();
      keys_ += !kept;
    }
    return p;
  }

  /// Takes a message back. What its payload counted for retention by bytes it goes on counting until it is trimmed.
  append_result erase(std::string_view channel, const position& at, const draft& d) {
    const std::uint64_t offset = at.offset;
    log* l = find(channel);
    if (!l || at.epoch != epoch_of(channel, *l) || offset < l->oldest || offset > l->head) return errc::not_found;
    if (l->head == last_offset) return errc::overloaded;
    const std::int64_t row = row_of(l->number, offset);
    if (!there_(row).step()) return errc::not_found;  // removed by hand
    const std::int64_t kind = there_.integer(0);
    there_.reset();
    std::uint64_t erases = 0, erased_by = 0;
    if ((kind & has_note) && note_(row).step()) {
      erases = note_.number(0);
      erased_by = note_.number(1);
      note_.reset();
    }
    if (erases) return errc::not_found;
    if (erased_by) {
      append_result first(position{epoch_of(channel, *l), erased_by});
      first.duplicate = true;
      return first;
    }
    // What leaves a page is written over with zeros (secure_delete); in the -wal it stands until that is written over.
    blank_(has_note, row).run();
    if (kind & has_tail) drop_tails_(row, row).run();
    insert_note_(row, 0, l->head + 1, nullptr, 0, nullptr).run();
    erased_ = true;
    draft bare;
    bare.at = d.at;
    bare.from = d.from;
    bare.keep = d.keep;
    return store(channel, *l, bare, offset);
  }
  /// Raises a watermark; a channel that was never published to has none above 0.
  mark_result mark(std::string_view channel, const watermark& m) {
    if (m.epoch != sqlite_epoch(epoch_secret_, channel)) return errc::not_found;
    watermark_levels levels;
    raise(levels, m.levels);
    log* l = find(channel);
    if (levels.received > (l ? l->head : 0)) return errc::bad_request;
    if (!l) l = find_or_make(channel);
    if (!l) return errc::overloaded;
    return members.mark(l->number, m);
  }
  /// Whether anything was erased since this was asked last.
  bool take_erased() noexcept { return std::exchange(erased_, false); }

  /// Drops up to `rows` messages of channels that are past a limit. True: there is more to drop.
  bool trim(std::int64_t rows) {
    while (!due_.empty() && rows > 0) {
      log* l = find(due_.front());
      std::int64_t dropped = l ? drop(due_.front(), *l, rows) : 0;
      rows -= dropped;
      if (dropped > 0 && over(*l)) continue;
      if (l) l->due = false;
      due_.pop_front();
    }
    return !due_.empty();
  }

  /// Looks at the next 256 channels, in the order of their names, for those that are past a limit though nobody
  /// publishes there: by age, or because the limits were other ones when they were published to. False: those were the
  /// last.
  bool sweep() {
    std::size_t seen = 0;
    sweep_(std::string_view(swept_));
    while (sweep_.step()) {
      ++seen;
      swept_ = sweep_.bytes(0);
      if (over(load(sweep_.integer(1), sweep_.number(2), keep_in(sweep_, 3)))) due_.push_back(swept_);
    }
    if (seen == 0) swept_.clear();
    return seen > 0;
  }

  /// Forgets keys that have lived their time, before `come` others are kept: more of them than come, so that they never
  /// pile up, however few transactions a slow disk has time for; and as many as take room that is needed. True: there
  /// may be more.
  bool forget_keys(std::uint64_t come) {
    if (keys_ == 0) return false;
    std::uint64_t over = keys_ + come > limits_.keys ? keys_ + come - limits_.keys : 0, most = 2 * come + 256 + over;
    forget_keys_(used_ - limits_.key_lifetime, most).run();
    auto gone = static_cast<std::uint64_t>(connection_->changes());
    keys_ -= std::min(keys_, gone);
    return gone == most;
  }

  bool any_keys() const noexcept { return keys_ > 0; }
  /// Whether a channel goes by an age of its own.
  bool any_ages() const noexcept { return ages_; }

 private:
  struct log {
    explicit log(std::int64_t n) : number(n) {}
    std::int64_t number;
    retention keep;  // its own
    std::uint64_t head = 0, oldest = 1;
    std::int64_t before = 0, total = 0;  // payload bytes before the oldest and up to the head
    std::int64_t newest_at = 0;
    std::int64_t earliest = 0;  // the least time that a message is known to have; not the oldest's where clocks differ
    bool due = false;           // in `due_`
    std::string epoch;          // empty: not asked for yet
  };

  log* find(std::string_view channel) {
    if (auto known = logs_.find(std::string(channel)); known != logs_.end()) return &known->second;
    // About 250 bytes each. Whoever publishes to more channels than this in turn reads their ends from the file again.
    if (logs_.size() >= 65'536) logs_.clear();
    if (!find_(channel).step()) return nullptr;
    std::int64_t number = find_.integer(0);
    std::uint64_t head = find_.number(1);
    retention keep = keep_in(find_, 2);
    find_.reset();
    return &logs_.try_emplace(std::string(channel), load(number, head, keep)).first->second;
  }
  /// Null when there are too many.
  log* find_or_make(std::string_view channel) {
    if (log* known = find(channel)) return known;
    if (static_cast<std::uint64_t>(channels_) >= std::min(limits_.channels, sqlite_file::max_channels)) return nullptr;
    make_(channel, ++channels_).run();
    count_(channels_).run();
    return &logs_.try_emplace(std::string(channel), log(channels_)).first->second;
  }
  const std::string& epoch_of(std::string_view channel, log& l) {
    if (l.epoch.empty()) l.epoch = sqlite_epoch(epoch_secret_, channel);
    return l.epoch;
  }

  static retention keep_in(sqlite_statement& row, int column) {
    retention keep;
    keep.messages = row.number(column);
    keep.bytes = row.number(column + 1);
    keep.age = std::chrono::seconds(row.integer(column + 2));
    return keep;
  }
  position store(std::string_view channel, log& l, const draft& d, std::uint64_t erases) {
    if (l.keep != d.keep) {
      auto number = [](std::uint64_t n) { return std::min<std::uint64_t>(n, INT64_MAX / 4); };
      l.keep = d.keep;
      keep_(number(d.keep.messages), number(d.keep.bytes), std::int64_t{d.keep.age.count()}, channel).run();
      if (d.keep.age.count() > 0 && !ages_) connection_->run("UPDATE meta SET ages = 1");
      ages_ |= d.keep.age.count() > 0;
    }
    insert(l, d, erases);
    if (!l.due && over(l)) {
      l.due = true;
      due_.emplace_back(channel);
    }
    return position{epoch_of(channel, l), l.head};
  }
  sqlite_bounds bounds_of(const log& l) const noexcept {
    sqlite_bounds out = limits_;
    auto own = [](std::uint64_t n) { return static_cast<std::int64_t>(std::min<std::uint64_t>(n, INT64_MAX / 4)); };
    if (l.keep.messages) out.messages = own(l.keep.messages);
    if (l.keep.bytes) out.bytes = own(l.keep.bytes);
    if (l.keep.age.count() > 0) out.age = std::min<std::int64_t>(l.keep.age.count(), INT64_MAX / 4000) * 1000;
    return out;
  }
  log load(std::int64_t number, std::uint64_t head, const retention& keep) {
    log l(number);
    l.head = head;
    l.keep = keep;
    if (newest_(first_row(number), row_of(number, last_offset)).step()) {
      l.head = offset_of(newest_.integer(0));
      l.total = newest_.integer(1);
      l.newest_at = newest_.integer(2);
      newest_.reset();
    }
    read_oldest(l);
    return l;
  }
  void read_oldest(log& l) {
    if (oldest_(row_of(l.number, l.oldest), row_of(l.number, last_offset)).step()) {
      l.oldest = offset_of(oldest_.integer(0));
      l.before = oldest_.integer(1);
      l.earliest = std::min(oldest_.integer(2), l.newest_at);
      if (oldest_.step()) l.earliest = std::min(l.earliest, oldest_.integer(2));
      oldest_.reset();
    } else {
      l.oldest = l.head + 1;
      l.before = l.total;
    }
  }

  void insert(log& l, const draft& d, std::uint64_t erases) {
    std::string_view bytes = d.data.bytes(), media = d.data.content_type();
    payload::kind kind = d.data.type();
    if (media == payload_media(kind)) media = {};
    if (erases) bytes = {};  // it has no payload
    const bool noted = erases || d.content;
    std::size_t head = head_size(bytes.size(), d.from.size() + d.type.size() + media.size());
    auto row = row_of(l.number, l.head + 1);
    auto stored = static_cast<std::int64_t>(kind) + (head < bytes.size() ? has_tail : 0) + (noted ? has_note : 0);
    insert_(row, d.at, stored, l.total, std::string_view(d.from), std::string_view(d.type), media,
            sqlite_statement::blob(bytes.substr(0, head)))
        .run();
    if (head < bytes.size()) insert_tail_(row, sqlite_statement::blob(bytes.substr(head))).run();
    if (noted) {
      static const content_reference none;
      const content_reference& c = d.content ? *d.content : none;
      insert_note_(row, erases, 0, std::string_view(c.id), c.size, std::string_view(c.type)).run();
    }
    ++l.head;
    l.total += static_cast<std::int64_t>(bytes.size());
    l.newest_at = d.at;
    l.earliest = l.oldest == l.head ? d.at : std::min(l.earliest, d.at);
  }

  // A limit may be passed by a little before it is worth a step, so that a step drops many messages, not one each time.
  bool over(const log& l) const noexcept {
    if (l.oldest > l.head) return false;
    const sqlite_bounds most = bounds_of(l);
    auto past = [](std::int64_t n, std::int64_t limit, std::int64_t slack) {
      return limit != no_limit && n > limit + slack;
    };
    return past(static_cast<std::int64_t>(l.head - l.oldest + 1), most.messages,
                std::min<std::int64_t>(most.messages / 8, 64)) ||
           past(l.total - l.before, most.bytes, most.bytes / 8) ||
           (most.age != no_limit && l.earliest < now_ - most.age - most.age / 16);
  }

  /// Returns how many it dropped.
  std::int64_t drop(std::string_view channel, log& l, std::int64_t rows) {
    if (l.oldest > l.head) return 0;
    const sqlite_bounds most = bounds_of(l);
    std::int64_t first = row_of(l.number, l.oldest), head = row_of(l.number, l.head);
    std::int64_t last = std::min(first + rows - 1, head);
    std::int64_t by_count = most.messages == no_limit ? 0 : head - std::min(most.messages, head) + 1;
    std::int64_t young = most.age == no_limit ? INT64_MIN : now_ - most.age;
    std::int64_t cut = last + 1;
    if (kept_(first, last, young, head, by_count, l.total, most.bytes).step()) cut = kept_.integer(0);
    kept_.reset();
    // A log is cut at one place. A message whose clock was ahead would keep all those behind it past their age: what
    // came before one that is too old is too old itself, whatever it says.
    std::int64_t earliest = INT64_MAX;  // of those that this step does not reach
    if (cut == first && l.earliest < young && too_old_(first, head, young).step()) {
      if (too_old_.integer(0) > last) earliest = l.earliest;
      cut = std::min(too_old_.integer(0), last) + 1;
    }
    too_old_.reset();
    if (cut == first) return 0;
    if (cut > head) keep_head_(l.head, channel).run();
    drop_(first, cut - 1).run();
    drop_tails_(first, cut - 1).run();
    drop_notes_(first, cut - 1).run();
    l.oldest = offset_of(cut);
    read_oldest(l);
    l.earliest = std::min(l.earliest, earliest);
    return cut - first;
  }

  static std::string_view payload_media(payload::kind kind) noexcept {
    switch (kind) {
      case payload::kind::json:
        return "application/json";
      case payload::kind::text:
        return "text/plain;charset=utf-8";
      default:
        return "application/octet-stream";
    }
  }

  sqlite_connection* connection_;
  sqlite_statement find_, make_, count_, keep_head_, newest_, oldest_, insert_, insert_tail_, kept_, too_old_, drop_,
      drop_tails_, drop_notes_, keep_, note_, insert_note_, there_, blank_;
  sqlite_statement key_, keep_key_, forget_keys_, sweep_;
  bits128 epoch_secret_, key_secret_;
  sqlite_limits limits_;
  std::unordered_map<std::string, log, text_hash> logs_;
  std::int64_t channels_ = 0;
  std::uint64_t keys_ = 0;
  bool ages_ = false, erased_ = false;
  std::deque<std::string> due_;
  std::string swept_;
  std::int64_t now_ = 0, used_ = 0, used_before_ = 0;
};

class sqlite_reader {
 public:
  /// `current`: the file has this version's schema.
  sqlite_reader(sqlite_connection connection, const bits128& epoch_secret, bool current)
      : connection_(std::move(connection)), epoch_secret_(epoch_secret), current_(current) {
    begin_ = connection_.prepare("BEGIN");
    end_ = connection_.prepare("COMMIT");
    find_ = connection_.prepare("SELECT number, head FROM channels WHERE name = ?");
    oldest_ = connection_.prepare("SELECT id FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1");
    newest_ = connection_.prepare("SELECT id FROM messages WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1");
    range_ = connection_.prepare(
        "SELECT id, at, kind, sender, type, media, data FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?");
    tail_ = connection_.prepare("SELECT data FROM tails WHERE id = ?");
    if (!current_) return;
    note_ = connection_.prepare("SELECT erases, erased_by, content, size, media FROM notes WHERE id = ?");
    members_ = sqlite_members(connection_);
  }

  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    read_result r;
    try {
      begin_().run();
      fill(r, channel, since, limit);
      end_().run();
    } catch (const sqlite_failure& e) {
      give_up();
      return sqlite_error(e.code);
    } catch (...) {
      give_up();
      throw;
    }
    r.epoch = sqlite_epoch(epoch_secret_, channel);
    return r;
  }

  watermarks_result watermarks(std::string_view channel, const watermark_query& q) {
    if (!current_ || !find_(channel).step()) return {};
    const std::int64_t number = find_.integer(0);
    find_.reset();
    return members_.watermarks(number, q);
  }
  tokens_result tokens(std::string_view user) { return current_ ? members_.tokens(user) : tokens_result(); }

  /// Ends whatever a failure has left half done.
  void give_up() noexcept {
    for (auto* s : {&find_, &oldest_, &newest_, &range_, &tail_, &note_}) s->reset();
    members_.reset();
    connection_.roll_back();
  }

 private:
  void fill(read_result& r, std::string_view channel, std::uint64_t since, read_limit limit) {
    if (!find_(channel).step()) return;
    std::int64_t number = find_.integer(0), last = row_of(number, last_offset);
    r.head = find_.number(1);
    find_.reset();
    if (newest_(first_row(number), last).step()) r.head = offset_of(newest_.integer(0));
    newest_.reset();
    r.oldest = r.head + 1;
    if (oldest_(first_row(number), last).step()) r.oldest = offset_of(oldest_.integer(0));
    oldest_.reset();
    if (limit.messages == 0 || since >= r.head) return;

    std::uint64_t next = std::max(since + 1, r.oldest);
    std::uint64_t most = std::min<std::uint64_t>(limit.messages, r.head - next + 1);
    r.messages.reserve(std::min<std::uint64_t>(most, 1024));
    range_(row_of(number, next), row_of(number, r.head), most);
    for (std::size_t size = 0; range_.step(); ++next) {
      // Rows that were removed by hand leave a hole. A read ends before it; to one that begins in it, what is behind it
      // is the oldest there is.
      std::uint64_t offset = offset_of(range_.integer(0));
      if (offset != next && !r.messages.empty()) break;
      if (offset != next) r.oldest = next = offset;
      std::string_view data = range_.bytes(6), tail;
      std::int64_t kind = range_.integer(2);
      if (kind & has_tail) {
        if (!tail_(range_.integer(0)).step()) throw sqlite_failure{SQLITE_CORRUPT};
        tail = tail_.bytes(0);
      }
      size += data.size() + tail.size();
      if (size > limit.bytes && !r.messages.empty()) break;
      message& m = r.messages.emplace_back();
      m.offset = offset;
      m.at = range_.integer(1);
      m.from = range_.bytes(3);
      m.type = range_.bytes(4);
      std::string bytes;
      bytes.reserve(data.size() + tail.size());
      bytes.append(data).append(tail);
      if (kind & has_note) {
        if (!note_(range_.integer(0)).step()) throw sqlite_failure{SQLITE_CORRUPT};
        m.erases = note_.number(0);
        m.erased = note_.integer(1) != 0;
        if (auto id = note_.bytes(2); !id.empty()) {
          m.content = std::make_shared<const content_reference>(
              content_reference{std::string(id), note_.number(3), std::string(note_.bytes(4))});
        }
        note_.reset();
        if (m.erases || m.erased) continue;  // its payload is that of a new message
      }
      m.data = made(kind & ~(has_tail | has_note), bytes, range_.bytes(5));
    }
    range_.reset();
    tail_.reset();
  }

  static payload made(std::int64_t kind, std::string_view bytes, std::string_view media) {
    switch (static_cast<payload::kind>(kind)) {
      case payload::kind::json:
        return payload::json(bytes);
      case payload::kind::text:
        return payload::text(bytes, media);
      case payload::kind::binary:
        return payload::binary(bytes, media);
    }
    throw sqlite_failure{SQLITE_CORRUPT};
  }

  sqlite_connection connection_;
  sqlite_statement begin_, end_, find_, oldest_, newest_, range_, tail_, note_;
  sqlite_members members_;
  bits128 epoch_secret_;
  bool current_;
};

}  // namespace hailwire::detail
