// SPDX-License-Identifier: BSL-1.0
// The storage and the broker of examples/postgres_storage.hpp, against a PostgreSQL that with_postgres has started.
#include "../../examples/postgres_storage.hpp"

#include <sys/socket.h>
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <thread>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "hailwire/storage/blocking.hpp"
#include "hailwire/testing/broker_contract.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "hailwire/threads.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using testing::outcome;

namespace {

postgres_detail::result ask(const std::string& statement, ExecStatusType expected = PGRES_COMMAND_OK) {
  postgres_detail::connection c(::PQconnectdb(""));
  ::PQsetNoticeProcessor(c.get(), [](void*, const char*) {}, nullptr);
  postgres_detail::result r(::PQexec(c.get(), statement.c_str()));
  INFO(statement << ": " << ::PQerrorMessage(c.get()));
  REQUIRE(::PQresultStatus(r.get()) == expected);
  return r;
}
void forget() { ask("DROP TABLE IF EXISTS hailwire_log, hailwire_channel, hailwire_message, hailwire_key"); }
void control(const char* what) {
  REQUIRE(std::system((std::string(std::getenv("POSTGRES_CONTROL")) + ' ' + what).c_str()) == 0);
}
/// Ends every connection but the one that says so, as a network does.
void cut() {
  ask("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
      "'postgres'",
      PGRES_TUPLES_OK);
}

/// A storage of another process on the same database, which is asked over a pair of sockets.
class storage_of_another_process {
 public:
  static constexpr bool keeps_keys = true;

  storage_of_another_process() {
    int both[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both)) throw std::runtime_error("no sockets");
    process_ = ::fork();
    if (process_ == 0) {
      ::close(both[0]);
      descriptor_ = both[1];
      ::_exit(serve());
    }
    ::close(both[1]);
    descriptor_ = both[0];
    if (process_ < 0) throw std::runtime_error("no process");
  }
  ~storage_of_another_process() {
    ::close(descriptor_);
    ::waitpid(process_, nullptr, 0);
  }
  storage_of_another_process(const storage_of_another_process&) = delete;
  storage_of_another_process& operator=(const storage_of_another_process&) = delete;

  append_result append(std::string_view channel, const draft& d) {
    fields said = ask({"append", std::string(channel), std::to_string(d.at), d.from, d.type,
                       std::to_string(static_cast<int>(d.data.type())), std::string(d.data.content_type()),
                       std::string(d.data.bytes()), d.key});
    if (said.at(0) != "0") return append_result(static_cast<errc>(std::stoi(said[0])));
    append_result r(position{said.at(1), std::stoull(said.at(2))});
    r.duplicate = said.at(3) == "1";
    return r;
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    fields said = ask({"read", std::string(channel), std::to_string(since), std::to_string(limit.messages),
                       std::to_string(limit.bytes)});
    if (said.at(0) != "0") return read_result(make_error_code(static_cast<errc>(std::stoi(said[0]))));
    read_result r;
    r.epoch = said.at(1), r.oldest = std::stoull(said.at(2)), r.head = std::stoull(said.at(3));
    for (std::size_t i = 4; i < said.size(); i += 7)
      r.messages.push_back({std::stoull(said[i]), std::stoll(said[i + 1]), said[i + 2], said[i + 3],
                            payload_of(said[i + 4], said[i + 5], said[i + 6])});
    return r;
  }

 private:
  using fields = std::vector<std::string>;

  static payload payload_of(const std::string& kind, const std::string& media, const std::string& bytes) {
    return kind == "0"   ? payload::json(bytes)
           : kind == "1" ? payload::text(bytes, media)
                         : payload::binary(bytes, media);
  }
  // The size of all, and each field behind its own.
  bool say(const fields& all) const {
    std::string text;
    for (const auto& f : all) text += std::to_string(f.size()) + ':' + f;
    text = std::to_string(text.size()) + '\n' + text;
    for (std::size_t at = 0; at < text.size();) {
      const auto n = ::send(descriptor_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return false;
      at += static_cast<std::size_t>(n);
    }
    return true;
  }
  fields hear() const {
    std::size_t size = 0;
    for (char c = '0'; c != '\n'; size = c == '\n' ? size : size * 10 + static_cast<std::size_t>(c - '0'))
      if (::recv(descriptor_, &c, 1, 0) != 1) return {};
    std::string in(size, ' ');
    if (::recv(descriptor_, in.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) return {};
    fields out;
    for (std::size_t at = 0; at < in.size();) {
      const std::size_t colon = in.find(':', at), bytes = std::stoull(in.substr(at, colon - at));
      out.push_back(in.substr(colon + 1, bytes));
      at = colon + 1 + bytes;
    }
    return out;
  }
  fields ask(const fields& what) const {
    std::lock_guard lock(mutex_);
    fields said = say(what) ? hear() : fields();
    if (said.empty()) throw std::runtime_error("the other process does not answer");
    return said;
  }
  int serve() const {
    try {
      postgres_storage s;
      for (fields asked = hear(); !asked.empty(); asked = hear()) {
        fields answer{"0"};
        if (asked[0] == "append") {
          draft d{std::stoll(asked[2]), asked[3], asked[4], payload_of(asked[5], asked[6], asked[7]), asked[8]};
          append_result r = s.append(asked[1], d);
          answer[0] = std::to_string(r.error.value());
          answer.insert(answer.end(), {r.epoch, std::to_string(r.offset), r.duplicate ? "1" : "0"});
        } else {
          read_result r = s.read(asked[1], std::stoull(asked[2]), {std::stoull(asked[3]), std::stoull(asked[4])});
          answer[0] = std::to_string(r.error.value());
          answer.insert(answer.end(), {r.epoch, std::to_string(r.oldest), std::to_string(r.head)});
          for (const message& m : r.messages)
            answer.insert(answer.end(), {std::to_string(m.offset), std::to_string(m.at), m.from, m.type,
                                         std::to_string(static_cast<int>(m.data.type())),
                                         std::string(m.data.content_type()), std::string(m.data.bytes())});
        }
        if (!say(answer)) return 1;
      }
      return 0;
    } catch (...) {
      return 1;
    }
  }

  mutable std::mutex mutex_;
  int descriptor_ = -1;
  ::pid_t process_ = -1;
};

struct fixture {
  std::unique_ptr<storage_of_another_process> share() { return std::make_unique<storage_of_another_process>(); }
  std::unique_ptr<postgres_storage> open() {
    forget();
    return std::make_unique<postgres_storage>();
  }
  std::unique_ptr<postgres_storage> reopen() {
    control("restart");
    return std::make_unique<postgres_storage>();
  }
};
struct fixture_off_loop {
  using storage = blocking_storage<postgres_storage>;
  std::unique_ptr<postgres_storage> share() { return std::make_unique<postgres_storage>(); }
  std::unique_ptr<storage> open() {
    forget();
    return std::make_unique<storage>(blocking_options{}, postgres_options{});
  }
  std::unique_ptr<storage> reopen() { return std::make_unique<storage>(blocking_options{}, postgres_options{}); }
};

draft text(std::string bytes, std::string key = {}) {
  return {1, "", "", payload::text(std::move(bytes)), std::move(key)};
}

/// What a hub has heard from the broker.
struct heard {
  std::mutex mutex;
  std::condition_variable came;
  std::vector<std::string> all;
  broker_receiver receiver() {
    return [this](const broker_event& e) {
      std::lock_guard lock(mutex);
      all.push_back(std::string(e.channel) + ' ' +
                    (e.stored ? std::to_string(e.stored->offset) + ' ' + std::string(e.stored->data.bytes())
                              : std::string("live")));
      came.notify_all();
    };
  }
  bool wait_for(const std::string& what) {
    std::unique_lock lock(mutex);
    return came.wait_for(lock, std::chrono::seconds(20),
                         [&] { return std::find(all.begin(), all.end(), what) != all.end(); });
  }
};

}  // namespace

TEST_CASE("PostgreSQL keeps the storage contract, from two processes and through a restart of the database") {
  auto outcomes = testing::storage_contract(fixture());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  for (const auto& o : outcomes)
    if (o.name.find("two handles") != o.name.npos) CHECK(o.what == testing::verdict::passed);
}

TEST_CASE("the whole contract holds for a storage that is another process's") {
  struct other {
    std::unique_ptr<storage_of_another_process> open() {
      forget();
      return std::make_unique<storage_of_another_process>();
    }
    std::unique_ptr<storage_of_another_process> reopen() { return std::make_unique<storage_of_another_process>(); }
    std::unique_ptr<postgres_storage> share() { return std::make_unique<postgres_storage>(); }
  };
  auto outcomes = testing::storage_contract(other());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

TEST_CASE("PostgreSQL keeps the storage contract off the loop, filled with what waits") {
  auto outcomes = testing::storage_contract(fixture_off_loop());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

namespace {
struct own_storage {
  postgres_storage storage;
};
struct own_broker : own_storage, postgres_broker {
  own_broker() : postgres_broker(storage) {}
};
struct broker_fixture {
  static constexpr bool announces = true;
  std::unique_ptr<own_broker> open() { return std::make_unique<own_broker>(); }
  std::unique_ptr<own_broker> join() { return open(); }
};
}  // namespace

TEST_CASE("the broker over LISTEN and NOTIFY keeps the contract of brokers, within a process and between two") {
  forget();
  broker_fixture two;
  auto outcomes = testing::broker_contract(two);
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

TEST_CASE("storages that append in turn, and at the same time, give one channel's offsets without a hole") {
  forget();
  postgres_storage a, b;
  for (std::uint64_t i = 1; i <= 20; ++i) CHECK((i % 2 ? a : b).append("c", text("x")).offset == i);
  auto many = [](postgres_storage& s, int seed) {
    int errors = 0;
    for (int i = 0; i < 30; ++i) {
      std::vector<draft> drafts(10, text("y"));
      std::vector<channel_draft> all;
      // Two channels in either order: neither call locks the other one out.
      for (std::size_t n = 0; n < drafts.size(); ++n)
        all.push_back({(n + static_cast<std::size_t>(seed)) % 2 ? "c" : "d", drafts[n]});
      for (const auto& r : s.append_all(all)) errors += bool(r.error);
    }
    return errors;
  };
  auto other = std::async(std::launch::async, [&] { return many(b, 1); });
  CHECK(many(a, 0) == 0);
  CHECK(other.get() == 0);
  auto c = a.read("c", 0, {1000, 1 << 20}), d = b.read("d", 0, {1000, 1 << 20});
  CHECK(c.head == 320);
  CHECK(d.head == 300);
  CHECK(c.messages.size() == 320);
  CHECK(c.epoch == b.read("c", 0, {}).epoch);
}

TEST_CASE("one call appends to many channels, and answers each for itself") {
  forget();
  postgres_storage s;
  const draft drafts[] = {text("1", "k"), text("2"), text("1", "k"), text("other", "k"), text("3")};
  const channel_draft all[] = {
      {"b", drafts[0]}, {"a", drafts[1]}, {"b", drafts[2]}, {"b", drafts[3]}, {"b", drafts[4]}};
  auto r = s.append_all(all);
  REQUIRE(r.size() == 5);
  CHECK(r[0].offset == 1);
  CHECK(r[1].offset == 1);
  CHECK((r[2].duplicate && r[2].offset == 1));
  CHECK(r[3].error == errc::conflict);
  CHECK(r[4].offset == 2);
}

TEST_CASE("so many messages are kept of each channel, and no fewer") {
  forget();
  postgres_storage s({.messages = 3});
  for (int i = 0; i < 3; ++i) s.append("c", text("x"));
  CHECK(s.read("c", 0, {}).oldest == 1);
  s.append("c", text("x"));
  auto r = s.read("c", 0, {});
  CHECK(r.oldest == 2);
  CHECK(r.messages.size() == 3);
}

TEST_CASE("a connection that breaks while it is idle is not noticed; without a database it is overloaded") {
  forget();
  postgres_storage s;
  s.append("c", text("1"));
  cut();
  CHECK(s.append("c", text("2")).offset == 2);
  cut();
  CHECK(s.read("c", 0, {}).head == 2);
  control("stop");
  CHECK(s.append("c", text("3")).error == errc::overloaded);
  CHECK(s.read("c", 0, {}).error == errc::overloaded);
  control("start");
  CHECK(s.append("c", text("3")).offset == 3);
}

TEST_CASE("a connection that breaks behind a request leaves it unknown, and its key tells") {
  forget();
  postgres_storage s;
  s.append("c", text("1"));
  // The channel's row is locked, so the append waits in the database, and is cut off there.
  postgres_detail::connection locks(::PQconnectdb(""));
  postgres_detail::result locked(::PQexec(locks.get(), "BEGIN; SELECT * FROM hailwire_channel FOR UPDATE"));
  auto waits = std::async(std::launch::async, [&] { return s.append("c", text("2", "key")); });
  while (::PQntuples(ask("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", PGRES_TUPLES_OK).get()) ==
         0) {
  }
  cut();
  CHECK(waits.get().error == errc::timeout);
  auto again = s.append("c", text("2", "key"));
  CHECK((again.offset == 2 && !again.duplicate));
  CHECK(s.append("c", text("2", "key")).duplicate);
}

TEST_CASE("hubs of other processes hear what was appended, also when their connection was lost meanwhile") {
  forget();
  postgres_storage here, there;
  postgres_broker broker(there);
  heard h;
  auto hub = broker.attach(h.receiver());
  broker.subscribe(hub, "c");
  here.append("other", text("nobody follows it"));
  // Until the broker listens, nobody hears: it is then told the newest.
  here.append("c", text("one"));
  CHECK(h.wait_for("c 1 one"));
  here.append("c", text("two"));
  CHECK(h.wait_for("c 2 two"));
  cut();
  here.append("c", text("three"));
  here.append("c", text("four"));
  CHECK(h.wait_for("c 4 four"));
  control("restart");
  here.append("c", text("five"));
  CHECK(h.wait_for("c 5 five"));
  there.append("c", text("its own"));  // the hub has stored that itself
  here.append("c", text("seven"));
  CHECK(h.wait_for("c 7 seven"));
  for (const auto& one : h.all) CHECK(one.substr(0, 2) == "c ");
  broker.unsubscribe(hub, "c");
  broker.detach(hub);
}

TEST_CASE("each thread of two servers on one database hears each of the other's, while connections are lost") {
  using namespace hailwire::test;
  forget();
  struct node {
    node() {
      live.join(broker);
      live.each([](auto& part) { part.authorize([](const request&) { return grant{.follow = channel_set::all()}; }); });
      port = live.listen("127.0.0.1", 0);
      thread = std::thread([this] { live.run(); });
    }
    ~node() {
      live.quit();
      thread.join();
    }
    postgres_storage storage;
    postgres_broker broker{storage};
    blocking_storage<postgres_storage&> off_loop{{}, storage};
    threaded_server<sse> live{2, off_loop};
    std::uint16_t port = 0;
    std::thread thread;
  } nodes[2];
  std::vector<wire> followers;
  for (node& n : nodes)
    for (int i = 0; i < 4; ++i) {
      followers.emplace_back(n.port).send(event_stream("?channel=c"));
      followers.back().until("\n\n");
    }
  constexpr int all = 30;
  auto publish = [&](node& n, int i) {  // as a publisher does who was told to try again
    for (;;) {
      std::promise<std::error_code> told;
      std::error_code now = n.live.publish("c", payload::json(std::to_string(i)), {.key = std::to_string(i)},
                                           [&](std::error_code ec, position) { told.set_value(ec); });
      if (!now) now = told.get_future().get();
      if (!now) return;
      REQUIRE((now == errc::overloaded || now == errc::timeout));
    }
  };
  for (int i = 1; i <= all; ++i) {
    if (i % 10 == 0) cut();
    publish(nodes[i % 2], i);
  }
  for (wire& f : followers)
    for (int i = 1; i <= all; ++i) {
      const std::string event = f.until("\n\n");
      CHECK(event.find("\"offset\":" + std::to_string(i) + ',') != event.npos);
      CHECK(event.find("\"data\":" + std::to_string(i) + '}') != event.npos);
    }
}

TEST_CASE("with a commit that takes five milliseconds, what waits is stored at least twenty times as fast") {
  control("stop");
  // Waits so long before each commit, as a disk or a copy elsewhere would.
  control("-o '-c commit_delay=5000 -c commit_siblings=0' start");
  forget();
  postgres_storage s;
  using clock = std::chrono::steady_clock;
  auto rate = [](int n, clock::time_point since) {
    return n / std::chrono::duration<double>(clock::now() - since).count();
  };
  auto began = clock::now();
  for (int i = 0; i < 100; ++i) REQUIRE_FALSE(s.append("one" + std::to_string(i % 10), text("x")).error);
  const double alone = rate(100, began);

  constexpr int all = 8000;
  blocking_storage off_loop({}, s);
  std::atomic<int> stored = 0, failed = 0;
  std::promise<void> done;
  began = clock::now();
  for (int i = 0; i < all; ++i)
    off_loop.async_append("c" + std::to_string(i % 10), text("x"), [&](append_result r) {
      failed += bool(r.error);
      if (++stored == all) done.set_value();
    });
  done.get_future().wait();
  const double filled = rate(all, began);
  WARN("appends a second: " << alone << " one at a time, " << filled << " filled");
  CHECK(failed == 0);
  CHECK(filled > 20 * alone);
  control("restart");
}
