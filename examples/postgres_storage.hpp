// SPDX-License-Identifier: BSL-1.0
#pragma once

// A storage in PostgreSQL, and a broker over its LISTEN and NOTIFY: the worked example of the guide to storages. Take
// it as it is, or as a pattern for another database. Needs libpq; PostgreSQL 11 or newer.
//
//     postgres_storage storage({.connection = "host=/run/postgresql dbname=chat"});
//     postgres_broker broker(storage);                            // outlives the servers
//     hailwire::blocking_storage off_loop({}, storage);
//     hailwire::server<hailwire::websocket, hailwire::sse> live(io, off_loop);
//     live.join(broker);
//
// How it keeps the obligations of a storage:
// - One row a channel holds its head; whoever appends holds that row's lock until the commit, so offsets have no holes,
//   however many processes append. A call locks its channels in the order of their names, so two calls never lock one
//   another out.
// - One call is one statement and one transaction. `append_all` therefore commits as many messages as wait at the price
// of
//   one, which `blocking_storage` makes use of.
// - A key is written in the transaction of its message, and found under the channel's lock.
// - The epochs belong to the database. Whoever restores it from a backup has lost messages that were acknowledged, and
//   says so: UPDATE hailwire_log SET epoch = md5(random()::text).
// - The append also tells the other processes (NOTIFY, which leaves with the commit). What they hear is which offsets
// are
//   new; the messages they read. A lost connection loses such calls, so a broker that connects anew looks at the head
//   of each channel that is followed.
//
// Errors: what failed before anything was sent, or was rolled back for want of room, is `overloaded`: try again. When a
// connection breaks behind the request nobody knows whether it was committed: `timeout`, and a publisher that repeats
// with its key learns it. All else is `internal`.

#include <hailwire/concepts.hpp>

#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

struct postgres_options {
  std::string connection = {};    ///< as libpq takes it; what it leaves out comes from the environment (PGHOST, …)
  std::uint64_t messages = 1000;  ///< kept of each channel
};

namespace postgres_detail {

struct finish {
  void operator()(PGconn* c) const noexcept { ::PQfinish(c); }
};
struct clear {
  void operator()(PGresult* r) const noexcept { ::PQclear(r); }
};
using connection = std::unique_ptr<PGconn, finish>;
using result = std::unique_ptr<PGresult, clear>;

// Numbers are big-endian on the wire (PostgreSQL's binary format).
template <class Number>
void append_number(std::string& out, Number n) {
  for (int shift = 8 * sizeof n - 8; shift >= 0; shift -= 8)
    out += static_cast<char>(static_cast<std::make_unsigned_t<Number>>(n) >> shift & 0xff);
}
inline std::int64_t number_of(const PGresult* r, int row, int column) {
  auto bytes = reinterpret_cast<const unsigned char*>(::PQgetvalue(r, row, column));
  std::uint64_t n = 0;
  for (int i = 0; i < ::PQgetlength(r, row, column); ++i) n = n << 8 | bytes[i];
  return static_cast<std::int64_t>(n);
}
inline std::string bytes_of(const PGresult* r, int row, int column) {
  return {::PQgetvalue(r, row, column), static_cast<std::size_t>(::PQgetlength(r, row, column))};
}

/// The parameters of a statement, in binary: bytes, 64-bit numbers, and arrays of either.
class parameters {
 public:
  static constexpr Oid bytes = 17, number = 20, bytes_array = 1001, number_array = 1016;  // of pg_type.dat

  void add(std::string_view b) { take(bytes, std::string(b)); }
  void add(std::int64_t n) {
    std::string b;
    append_number(b, n);
    take(number, std::move(b));
  }
  /// One dimension without nulls, counted from 1; `element(i)` is a view of bytes or a number.
  template <class F>
  void add_array(std::size_t count, F element) {
    constexpr bool numbers = std::is_same_v<decltype(element(0)), std::int64_t>;
    std::string b;
    for (std::uint32_t n : {std::uint32_t{1}, std::uint32_t{0}, numbers ? number : bytes,
                            static_cast<std::uint32_t>(count), std::uint32_t{1}})
      append_number(b, n);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (numbers) {
        append_number(b, std::uint32_t{8});
        append_number(b, element(i));
      } else {
        append_number(b, static_cast<std::uint32_t>(element(i).size()));
        b.append(element(i));
      }
    }
    take(numbers ? number_array : bytes_array, std::move(b));
  }

  result run(PGconn* c, const char* statement) const {
    std::vector<const char*> values;
    std::vector<int> sizes, formats(values_.size(), 1);
    for (const auto& v : values_) {
      values.push_back(v.data());
      sizes.push_back(static_cast<int>(v.size()));
    }
    return result(::PQexecParams(c, statement, static_cast<int>(values.size()), types_.data(), values.data(),
                                 sizes.data(), formats.data(), 1));
  }

 private:
  void take(Oid type, std::string v) {
    types_.push_back(type);
    values_.push_back(std::move(v));
  }
  std::vector<Oid> types_;
  std::vector<std::string> values_;
};

inline constexpr char schema[] = R"(
SELECT pg_advisory_xact_lock(7237125983);  -- two processes that start at once
CREATE TABLE IF NOT EXISTS hailwire_log (one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch text NOT NULL);
INSERT INTO hailwire_log (epoch) VALUES (md5(random()::text || clock_timestamp()::text)) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS hailwire_channel (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea UNIQUE NOT NULL, head bigint NOT NULL DEFAULT 0)
  WITH (fillfactor = 50);  -- rows that change all the time find room on their page
CREATE TABLE IF NOT EXISTS hailwire_message (
  channel bigint, place bigint, at bigint NOT NULL, sender bytea NOT NULL, type bytea NOT NULL, kind bigint NOT NULL,
  media bytea NOT NULL, data bytea NOT NULL, PRIMARY KEY (channel, place));
CREATE TABLE IF NOT EXISTS hailwire_key (
  channel bigint, key bytea, place bigint NOT NULL, print bytea NOT NULL, made timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (channel, key));
CREATE INDEX IF NOT EXISTS hailwire_key_made ON hailwire_key (made);

-- Every channel has an epoch of its own, by which nobody takes one channel's cursor for another's.
CREATE OR REPLACE FUNCTION hailwire_epoch(log_epoch text, name bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT convert_to(left(md5(convert_to(log_epoch, 'UTF8') || name), 16), 'UTF8')
$$;

-- Appends all, each to its channel; `outcome`: 0 stored, 1 its key was known, 2 its key is another payload's.
CREATE OR REPLACE FUNCTION hailwire_append(node bytea, keep bigint, channels bytea[], ats bigint[], senders bytea[],
    types bytea[], kinds bigint[], medias bytea[], datas bytea[], keys bytea[])
  RETURNS TABLE (nth bigint, place_of bigint, outcome bigint, epoch_of bytea) LANGUAGE plpgsql AS $$
DECLARE
  d record; known record; this bytea; id_of bigint; first bigint; newest bigint; sum_of bytea;
  log_epoch text;
BEGIN
  SELECT epoch INTO log_epoch FROM hailwire_log;
  FOR d IN SELECT * FROM unnest(channels, ats, senders, types, kinds, medias, datas, keys)
      WITH ORDINALITY AS u (channel, at, sender, type, kind, media, data, key, n) ORDER BY channel, n LOOP
    IF this IS DISTINCT FROM d.channel THEN
      PERFORM hailwire_close(node, keep, this, id_of, first, newest);
      this := d.channel;
      INSERT INTO hailwire_channel (name) VALUES (this) ON CONFLICT (name) DO UPDATE SET head = hailwire_channel.head
        RETURNING id, head INTO id_of, newest;
      first := newest;
      epoch_of := hailwire_epoch(log_epoch, this);
    END IF;
    nth := d.n;
    outcome := 0;
    IF length(d.key) > 0 THEN
      sum_of := sha256(int8send(d.kind) || int8send(length(d.media)::bigint) || d.media || d.data);
      SELECT k.place, k.print, k.made INTO known FROM hailwire_key k WHERE k.channel = id_of AND k.key = d.key;
      IF FOUND AND known.made > now() - interval '5 minutes' THEN
        place_of := known.place;
        outcome := CASE WHEN known.print = sum_of THEN 1 ELSE 2 END;
        RETURN NEXT;
        CONTINUE;
      END IF;
      INSERT INTO hailwire_key (channel, key, place, print) VALUES (id_of, d.key, newest + 1, sum_of)
        ON CONFLICT (channel, key) DO UPDATE SET place = EXCLUDED.place, print = EXCLUDED.print, made = now();
    END IF;
    newest := newest + 1;
    place_of := newest;
    INSERT INTO hailwire_message VALUES (id_of, newest, d.at, d.sender, d.type, d.kind, d.media, d.data);
    RETURN NEXT;
  END LOOP;
  PERFORM hailwire_close(node, keep, this, id_of, first, newest);
  DELETE FROM hailwire_key k USING (SELECT channel, key FROM hailwire_key WHERE made < now() - interval '10 minutes'
    LIMIT 100 FOR UPDATE SKIP LOCKED) old WHERE k.channel = old.channel AND k.key = old.key;
END $$;

-- A channel is done with: its head, its retention, and who is told.
CREATE OR REPLACE FUNCTION hailwire_close(node bytea, keep bigint, this bytea, id_of bigint, first bigint, newest bigint)
  RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF first < newest THEN
    UPDATE hailwire_channel SET head = newest WHERE id = id_of;
    DELETE FROM hailwire_message WHERE channel = id_of AND place <= newest - keep;
    PERFORM pg_notify('hailwire', concat_ws(' ', encode(node, 'hex'), encode(this, 'hex'), first, newest));
  END IF;
END $$;
)";

inline constexpr char append_statement[] = "SELECT * FROM hailwire_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

// One statement, so that messages, head and oldest are of one moment.
inline constexpr char read_statement[] = R"(
SELECT hailwire_epoch(l.epoch, $1), coalesce(c.head, 0),
  coalesce((SELECT min(o.place) FROM hailwire_message o WHERE o.channel = c.id), coalesce(c.head, 0) + 1),
  m.place, m.at, m.sender, m.type, m.kind, m.media, m.data
FROM hailwire_log l LEFT JOIN hailwire_channel c ON c.name = $1 LEFT JOIN LATERAL (
  SELECT *, sum(length(data)) OVER (ORDER BY place) AS bytes, row_number() OVER (ORDER BY place) AS n FROM (
    SELECT * FROM hailwire_message WHERE channel = c.id AND place > $2 ORDER BY place LIMIT $3) AS page) AS m
  ON m.bytes <= $4 OR m.n = 1
ORDER BY m.place)";

/// How a statement went that has no result.
inline hailwire::errc error_of(PGconn* c, const PGresult* r) {
  const char* state = r ? ::PQresultErrorField(r, PG_DIAG_SQLSTATE) : nullptr;
  std::string_view s = state ? state : "";
  if (s.empty() || s.starts_with("08") || s.starts_with("57P") || ::PQstatus(c) != CONNECTION_OK)
    return hailwire::errc::timeout;  // the connection broke, or is being closed, perhaps behind the commit
  // No room, a lock that was waited for in vain, a read-only server: rolled back.
  if (s.starts_with("53") || s.starts_with("40") || s.starts_with("55") || s == "25006" || s == "57014")
    return hailwire::errc::overloaded;
  return hailwire::errc::internal;
}

}  // namespace postgres_detail

/// Threads: safe to call from any; each call that runs has a connection of its own, and as many are kept as ran at
/// once.
class postgres_storage {
 public:
  static constexpr bool keeps_keys = true, thread_safe = true;
  static constexpr bool announces = true;  // an append notifies, with its commit

  /// Makes its tables where they are missing. Throws `std::runtime_error` with PostgreSQL's words.
  explicit postgres_storage(postgres_options o = {}) : options_(std::move(o)) {
    postgres_detail::connection c = connect();
    postgres_detail::result made(
        ::PQstatus(c.get()) == CONNECTION_OK
            ? ::PQexec(c.get(), postgres_detail::schema)  // several statements: one transaction
            : nullptr);
    if (!made || ::PQresultStatus(made.get()) != PGRES_COMMAND_OK) throw std::runtime_error(::PQerrorMessage(c.get()));
    postgres_detail::result node(::PQexec(c.get(), "SELECT md5(random()::text || clock_timestamp()::text)"));
    if (::PQresultStatus(node.get()) == PGRES_TUPLES_OK)
      node_ = postgres_detail::bytes_of(node.get(), 0, 0).substr(0, 16);
    idle_.push_back(std::move(c));
  }

  hailwire::append_result append(std::string_view channel, const hailwire::draft& d) {
    const hailwire::channel_draft one{channel, d};
    return append_all({&one, 1}).front();
  }

  std::vector<hailwire::append_result> append_all(std::span<const hailwire::channel_draft> all) {
    using hailwire::channel_draft;
    std::vector<hailwire::append_result> out(all.size(), hailwire::append_result(hailwire::errc::internal));
    const auto one = [&](std::size_t i) -> const hailwire::draft& { return all[i].message; };
    postgres_detail::parameters p;
    p.add(node_);
    p.add(static_cast<std::int64_t>(options_.messages));
    p.add_array(all.size(), [&](std::size_t i) { return all[i].channel; });
    p.add_array(all.size(), [&](std::size_t i) { return std::int64_t{one(i).at}; });
    p.add_array(all.size(), [&](std::size_t i) { return std::string_view(one(i).from); });
    p.add_array(all.size(), [&](std::size_t i) { return std::string_view(one(i).type); });
    p.add_array(all.size(), [&](std::size_t i) { return static_cast<std::int64_t>(one(i).data.type()); });
    p.add_array(all.size(), [&](std::size_t i) { return std::string_view(one(i).data.content_type()); });
    p.add_array(all.size(), [&](std::size_t i) { return one(i).data.bytes(); });
    p.add_array(all.size(), [&](std::size_t i) { return std::string_view(one(i).key); });

    lease c(*this);
    if (!c)
      return std::vector<hailwire::append_result>(all.size(), hailwire::append_result(hailwire::errc::overloaded));
    auto r = p.run(c.get(), postgres_detail::append_statement);
    if (::PQresultStatus(r.get()) != PGRES_TUPLES_OK) {
      auto why = postgres_detail::error_of(c.get(), r.get());
      return std::vector<hailwire::append_result>(all.size(), hailwire::append_result(why));
    }
    for (int row = 0; row < ::PQntuples(r.get()); ++row) {
      auto i = static_cast<std::size_t>(postgres_detail::number_of(r.get(), row, 0) - 1);
      auto outcome = postgres_detail::number_of(r.get(), row, 2);
      if (outcome == 2) {
        out[i] = hailwire::errc::conflict;
        continue;
      }
      out[i] = static_cast<std::uint64_t>(postgres_detail::number_of(r.get(), row, 1));
      out[i].duplicate = outcome == 1;
      out[i].epoch = postgres_detail::bytes_of(r.get(), row, 3);
    }
    return out;
  }

  /// A read that finds its connection broken is tried once more: it changes nothing.
  hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit) {
    postgres_detail::parameters p;
    p.add(channel);
    for (std::uint64_t n : {since, std::uint64_t{limit.messages}, std::uint64_t{limit.bytes}})
      p.add(static_cast<std::int64_t>(std::min(n, std::uint64_t{INT64_MAX})));
    hailwire::errc why = hailwire::errc::overloaded;
    for (int attempt = 0; attempt < 2; ++attempt) {
      lease c(*this);
      if (!c) continue;
      auto r = p.run(c.get(), postgres_detail::read_statement);
      if (::PQresultStatus(r.get()) == PGRES_TUPLES_OK) return messages_of(r.get());
      why = postgres_detail::error_of(c.get(), r.get());
    }
    return hailwire::read_result(make_error_code(why));
  }

  /// A further connection, such as the broker's. It may be a broken one: see PQstatus.
  postgres_detail::connection connect() const {
    // A server that has vanished is noticed; one that is merely busy is waited for.
    postgres_detail::connection c(::PQconnectdb(
        ("connect_timeout=5 tcp_user_timeout=10000 client_encoding=UTF8 " + options_.connection).c_str()));
    ::PQsetNoticeProcessor(c.get(), [](void*, const char*) {}, nullptr);  // libpq would print what is there already
    return c;
  }
  /// Names this storage in what it tells others.
  const std::string& node() const noexcept { return node_; }

 private:
  /// A connection that works as far as can be seen, for one call.
  class lease {
   public:
    explicit lease(postgres_storage& of) : of_(of) {
      {
        std::lock_guard lock(of_.mutex_);
        if (!of_.idle_.empty()) {
          c_ = std::move(of_.idle_.back());
          of_.idle_.pop_back();
        }
      }
      // One that the server has closed while it was idle shows that here, before anything is sent: its last words, and
      // then the end.
      pollfd input{c_ ? ::PQsocket(c_.get()) : -1, POLLIN, 0};
      while (c_ && ::poll(&input, 1, 0) == 1)
        if (!::PQconsumeInput(c_.get()) || ::PQstatus(c_.get()) != CONNECTION_OK) c_.reset();
      if (!c_) c_ = of_.connect();
      if (::PQstatus(c_.get()) != CONNECTION_OK) c_.reset();
    }
    ~lease() {
      if (!c_ || ::PQstatus(c_.get()) != CONNECTION_OK) return;
      std::lock_guard lock(of_.mutex_);
      of_.idle_.push_back(std::move(c_));
    }
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    explicit operator bool() const noexcept { return c_ != nullptr; }
    PGconn* get() const noexcept { return c_.get(); }

   private:
    postgres_storage& of_;
    postgres_detail::connection c_;
  };

  static hailwire::read_result messages_of(const PGresult* r) {
    using hailwire::payload;
    hailwire::read_result out;
    out.epoch = postgres_detail::bytes_of(r, 0, 0);
    out.head = static_cast<std::uint64_t>(postgres_detail::number_of(r, 0, 1));
    out.oldest = static_cast<std::uint64_t>(postgres_detail::number_of(r, 0, 2));
    for (int row = 0; row < ::PQntuples(r) && !::PQgetisnull(r, row, 3); ++row) {
      auto kind = static_cast<payload::kind>(postgres_detail::number_of(r, row, 7));
      auto media = postgres_detail::bytes_of(r, row, 8), data = postgres_detail::bytes_of(r, row, 9);
      out.messages.push_back({static_cast<std::uint64_t>(postgres_detail::number_of(r, row, 3)),
                              postgres_detail::number_of(r, row, 4), postgres_detail::bytes_of(r, row, 5),
                              postgres_detail::bytes_of(r, row, 6),
                              kind == payload::kind::json   ? payload::json(data)
                              : kind == payload::kind::text ? payload::text(data, media)
                                                            : payload::binary(data, media)});
    }
    return out;
  }

  postgres_options options_;
  std::string node_;
  std::mutex mutex_;
  std::vector<postgres_detail::connection> idle_;
};

/// Tells the hubs of this process what was appended in others. It has a thread and a connection of its own, and reads
/// by the storage. Must outlive the servers that join it, and the storage must outlive it. What is told live fits into
/// a NOTIFY or is dropped: its name and its bytes are together less than 3,900.
class postgres_broker {
 public:
  explicit postgres_broker(postgres_storage& s) : storage_(s), stop_(::eventfd(0, EFD_CLOEXEC)) {
    if (stop_ < 0) throw std::runtime_error("postgres_broker: no more descriptors");
    thread_ = std::thread([this] { run(); });
  }
  ~postgres_broker() {
    stopping_ = true;
    if (wake()) thread_.join();
    ::close(stop_);
  }
  postgres_broker(const postgres_broker&) = delete;
  postgres_broker& operator=(const postgres_broker&) = delete;

  std::uint64_t attach(hailwire::broker_receiver receiver) {
    std::lock_guard lock(mutex_);
    receivers_.emplace(++last_, std::move(receiver));
    return last_;
  }
  void detach(std::uint64_t hub) {
    std::lock_guard lock(mutex_);
    receivers_.erase(hub);
    for (auto at = followed_.begin(); at != followed_.end();)
      at = at->second.erase(hub) && at->second.empty() ? followed_.erase(at) : std::next(at);
  }
  void subscribe(std::uint64_t hub, std::string_view channel) {
    std::lock_guard lock(mutex_);
    followed_[std::string(channel)].insert(hub);
  }
  void unsubscribe(std::uint64_t hub, std::string_view channel) {
    std::lock_guard lock(mutex_);
    auto at = followed_.find(std::string(channel));
    if (at != followed_.end() && at->second.erase(hub) && at->second.empty()) followed_.erase(at);
  }
  /// The append has told everybody, with its commit.
  void publish(std::uint64_t, std::string_view, std::string_view, const hailwire::message&) {}
  /// To the hubs of this process at once, to others by a NOTIFY of its own.
  void tell(std::uint64_t hub, std::string_view channel, const hailwire::live_event& e) {
    std::lock_guard lock(mutex_);
    hand_live(hub, channel, e);
    std::string note = hex(storage_.node()) + ' ' + hex(channel) + ' ' + hex(e.epoch) + ' ' + std::to_string(e.after) +
                       ' ' + hex(e.bytes);
    if (note.size() >= 8000 || to_tell_.size() >= 1000) return;  // the most that a NOTIFY carries; a database is away
    to_tell_.push_back(std::move(note));
    if (to_tell_.size() == 1) wake();
  }

 private:
  bool wake() {
    const std::uint64_t one = 1;
    return ::write(stop_, &one, sizeof one) == sizeof one;
  }
  // With the mutex: no receiver is called once `detach` has returned.
  void hand_live(std::uint64_t from, std::string_view channel, const hailwire::live_event& e) {
    auto hubs = followed_.find(std::string(channel));
    if (hubs == followed_.end()) return;
    for (auto hub : hubs->second)
      if (hub != from) receivers_.at(hub)({channel, {}, nullptr, &e});
  }
  static std::string hex(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (unsigned char c : bytes) out.append({digits[c >> 4], digits[c & 15]});
    return out;
  }
  void notify_all(PGconn* c) {
    std::vector<std::string> all;
    {
      std::lock_guard lock(mutex_);
      all.swap(to_tell_);
    }
    for (const std::string& note : all) {
      postgres_detail::parameters p;
      p.add(note);
      auto r = p.run(c, "SELECT pg_notify('hailwire_live', convert_from($1, 'UTF8'))");
    }
  }
  struct stretch {
    std::uint64_t after, last;  // `last` 0: whatever is newest
  };

  void run() {
    postgres_detail::connection c;
    for (;;) {
      int wait = -1;
      if (!c || ::PQstatus(c.get()) != CONNECTION_OK) {
        c = storage_.connect();
        postgres_detail::result listens(::PQexec(c.get(), "LISTEN hailwire; LISTEN hailwire_live"));
        if (::PQresultStatus(listens.get()) == PGRES_COMMAND_OK) {
          miss_all();  // what was told before this
        } else {
          wait = 500;  // milliseconds
        }
      }
      if (wait < 0 && !tell_all()) wait = 200;  // the database did not answer: again, soon
      pollfd ready[] = {{stop_, POLLIN, 0}, {::PQsocket(c.get()), POLLIN, 0}};
      ::poll(ready, ::PQsocket(c.get()) < 0 ? 1 : 2, wait);
      if (stopping_) return;
      if (std::uint64_t n = 0; ready[0].revents && ::read(stop_, &n, sizeof n) == sizeof n) notify_all(c.get());
      if (!::PQconsumeInput(c.get())) continue;
      while (PGnotify* n = ::PQnotifies(c.get())) {
        std::string_view(n->relname) == "hailwire_live" ? note_live(n->extra) : note(n->extra);
        ::PQfreemem(n);
      }
    }
  }
  /// `node channel first newest`, the former two in hexadecimal.
  void note(std::string_view told) {
    std::string_view words[4];
    for (auto& w : words) {
      auto end = std::min(told.find(' '), told.size());
      w = told.substr(0, end);
      told.remove_prefix(std::min(end + 1, told.size()));
    }
    std::string node = unhex(words[0]), channel = unhex(words[1]);
    std::lock_guard lock(mutex_);
    if (node == storage_.node() && receivers_.size() < 2) return;  // the one hub here has stored it itself
    if (!followed_.contains(channel)) return;
    const stretch s{std::stoull(std::string(words[2])), std::stoull(std::string(words[3]))};
    auto [at, fresh] = missed_.emplace(std::move(channel), s);
    if (!fresh && at->second.last)
      at->second = {std::min(at->second.after, s.after), std::max(at->second.last, s.last)};
  }
  /// `node channel epoch after bytes`, all but the number in hexadecimal.
  void note_live(std::string_view told) {
    std::string_view words[5];
    for (auto& w : words) {
      auto end = std::min(told.find(' '), told.size());
      w = told.substr(0, end);
      told.remove_prefix(std::min(end + 1, told.size()));
    }
    if (unhex(words[0]) == storage_.node()) return;  // told already
    const std::string channel = unhex(words[1]), epoch = unhex(words[2]), bytes = unhex(words[4]);
    std::lock_guard lock(mutex_);
    hand_live(0, channel, {epoch, std::stoull(std::string(words[3])), bytes});
  }
  static std::string unhex(std::string_view digits) {
    std::string out;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
      out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
    return out;
  }
  void miss_all() {
    std::lock_guard lock(mutex_);
    for (const auto& [channel, hubs] : followed_) missed_[channel] = {0, 0};
  }

  /// Reads what is new and hands it on. Of a channel of which nobody knows what was missed it is the newest message: a
  /// hub sees the hole before it, and reads what is in it. False when a read failed, and is to be tried again.
  bool tell_all() {
    std::map<std::string, stretch> missed;
    {
      std::lock_guard lock(mutex_);
      missed.swap(missed_);
    }
    for (auto at = missed.begin(); at != missed.end(); at = missed.erase(at)) {
      auto& [channel, s] = *at;
      hailwire::read_result r;
      if (s.last == 0) {
        r = storage_.read(channel, 0, {0, 0});
        s.after = r.head ? r.head - 1 : 0;
        s.last = r.head;
      }
      while (!r.error && s.after < s.last) {
        r = storage_.read(channel, s.after, {});
        if (r.error || r.messages.empty()) break;
        std::lock_guard lock(mutex_);  // no receiver is called once `detach` has returned
        auto hubs = followed_.find(channel);
        if (hubs == followed_.end()) break;
        for (const auto& m : r.messages)
          for (auto hub : hubs->second) receivers_.at(hub)({channel, r.epoch, &m});
        s.after = r.messages.back().offset;
      }
      if (r.error) {
        std::lock_guard lock(mutex_);
        for (auto& [name, rest] : missed) missed_[name] = {0, 0};
        return false;
      }
    }
    return true;
  }

  postgres_storage& storage_;
  int stop_;  // wakes the thread: to stop, or to tell
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::vector<std::string> to_tell_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, hailwire::broker_receiver> receivers_;
  std::map<std::string, std::set<std::uint64_t>> followed_;
  std::map<std::string, stretch> missed_;
  std::thread thread_;
};
