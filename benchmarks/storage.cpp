// SPDX-License-Identifier: BSL-1.0

// What a SQLite file costs beneath the hub, one figure a run, as JSON: `storage WORK MEDIUM FILE`. Payloads have 128
// bytes. MEDIUM is memory, normal, full or off. `benchmarks/storage` runs these in turns and draws the ratios.
//
//   rows_256, rows_1  SQLite alone in a plain loop, so many rows a transaction: nothing can be faster
//   publish           a host's own publishes through the hub, 256 of them unanswered at any time
//   websocket         publishes of 256 clients over loopback, each waiting for its answer before the next
//   select            SQLite alone reading all columns of a channel of 100,000 messages
//   read              the storage alone reading it, page by page
//   replay            one client that follows from the earliest on, over loopback: WebSocket, payloads without envelope
//   catch_up          1,000 clients at once that each read 1,000 messages as server-sent events
//   size              bytes of the closed file for each message, over its payload and 40 bytes; the figure is that
//   ratio

#include <netinet/in.h>
#include <sqlite3.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "hailwire/hailwire.hpp"
#include "hailwire/storage/sqlite.hpp"

namespace {

using live_server = hailwire::server<hailwire::websocket, hailwire::sse>;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t outstanding = 256;
constexpr int replayed = 100'000;
const std::string payload(128, 'x');

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "storage: %s\n", what);
  std::exit(1);
}
void need(bool fine, const char* what) {
  if (!fine) fail(what);
}

std::unique_ptr<hailwire::sqlite_storage> open_file(const std::string& path, std::string_view medium) {
  hailwire::sqlite_options o;
  o.durability = medium == "full"  ? hailwire::durability::full
                 : medium == "off" ? hailwire::durability::off
                                   : hailwire::durability::normal;
  auto file = hailwire::sqlite_storage::open(path, o);
  if (!file) fail(std::string(file.error().text()).c_str());
  return std::move(*file);
}
std::unique_ptr<live_server> make_server(const std::string& path, std::string_view medium) {
  hailwire::options o;
  o.max_sessions = 10'000;
  hailwire::memory_options all{.messages = 2 * replayed, .bytes = 256u << 20};
  auto live = medium == "memory" ? std::make_unique<live_server>(hailwire::own_thread,
                                                                 std::make_unique<hailwire::memory_storage>(all), o)
                                 : std::make_unique<live_server>(hailwire::own_thread, open_file(path, medium), o);
  live->authorize([](const hailwire::request&) {
    return hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  return live;
}

/// A server that runs on a thread of its own until this ends.
struct running {
  running(const std::string& path, std::string_view medium)
      : live(make_server(path, medium)), port(live->listen("127.0.0.1", 0)) {
    thread = std::thread([this] { live->run(); });
  }
  ~running() {
    live->quit();
    thread.join();
  }
  /// Publishes so many, the host's way, with `outstanding` of them unanswered.
  void publish(int count) {
    std::promise<void> over;
    int left = count, unsent = count;
    auto data = hailwire::payload::text(payload);
    bool filling = false;  // a storage that answers at once answers within publish
    std::function<void()> fill = [&] {
      if (std::exchange(filling, true)) return;
      while (unsent > 0 && left - unsent < static_cast<int>(outstanding)) {
        --unsent;
        auto refused = live->publish("chat", data, [&](std::error_code ec, hailwire::position) {
          need(!ec, "a publish failed");
          if (--left > 0) return fill();
          live->post([&] { over.set_value(); });  // when `fill` is over too
        });
        need(!refused, "a publish was refused");
      }
      filling = false;
    };
    live->post([&] { fill(); });
    over.get_future().wait();
  }
  std::unique_ptr<live_server> live;
  std::uint16_t port;
  std::thread thread;
};

int connected(std::uint16_t port, const std::string& request) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  need(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0, "cannot connect");
  need(::send(fd, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size()), "cannot send");
  return fd;
}
std::string upgrade(const std::string& query, const std::string& protocol) {
  return "GET /live" + query +
         " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n";
}
/// Reads what there is; the answer's head is dropped.
struct socket_reader {
  int fd;
  std::string bytes;
  bool head = true;
  void more(std::size_t most = 256 * 1024) {
    std::size_t before = bytes.size();
    bytes.resize(before + most);
    auto n = ::recv(fd, bytes.data() + before, most, 0);
    need(n > 0, "the connection ended");
    bytes.resize(before + static_cast<std::size_t>(n));
    if (!head) return;
    auto end = bytes.find("\r\n\r\n");
    if (end == bytes.npos) return;
    need(bytes.compare(0, 12, "HTTP/1.1 101") == 0, "no WebSocket");
    bytes.erase(0, end + 4);
    head = false;
  }
};

double since(clock_type::time_point start) { return std::chrono::duration<double>(clock_type::now() - start).count(); }

// ---- SQLite alone

struct plain_file {
  explicit plain_file(const std::string& path) { need(sqlite3_open(path.c_str(), &db) == SQLITE_OK, "cannot open"); }
  ~plain_file() { sqlite3_close(db); }
  void run(const std::string& sql) {
    need(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK, sql.c_str());
  }
  sqlite3_stmt* prepare(const char* sql) {
    sqlite3_stmt* s = nullptr;
    need(sqlite3_prepare_v2(db, sql, -1, &s, nullptr) == SQLITE_OK, sql);
    return s;
  }
  sqlite3* db = nullptr;
};

double rows(const std::string& path, std::string_view medium, int each, int count) {
  plain_file f(path);
  f.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = " + std::string(medium));
  f.run(
      "CREATE TABLE messages(id INTEGER PRIMARY KEY, channel TEXT NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL)");
  auto* insert = f.prepare("INSERT INTO messages(channel, at, data) VALUES(?, ?, ?)");
  auto start = clock_type::now();
  for (int i = 0; i < count;) {
    f.run("BEGIN");
    for (int k = 0; k < each && i < count; ++k, ++i) {
      sqlite3_bind_text(insert, 1, "chat", 4, SQLITE_STATIC);
      sqlite3_bind_int64(insert, 2, i);
      sqlite3_bind_blob(insert, 3, payload.data(), static_cast<int>(payload.size()), SQLITE_STATIC);
      need(sqlite3_step(insert) == SQLITE_DONE, "insert");
      sqlite3_reset(insert);
    }
    f.run("COMMIT");
  }
  double seconds = since(start);
  sqlite3_finalize(insert);
  return count / seconds;
}

double select(const std::string& path) {
  plain_file f(path);
  auto* all = f.prepare("SELECT id, at, kind, sender, type, media, data FROM messages ORDER BY id");
  std::size_t bytes = 0;
  int count = 0;
  auto start = clock_type::now();
  for (; sqlite3_step(all) == SQLITE_ROW; ++count) {
    bytes += static_cast<std::size_t>(sqlite3_column_int64(all, 0) & sqlite3_column_int64(all, 1) &
                                      sqlite3_column_int64(all, 2) & 1);
    for (int text : {3, 4, 5}) bytes += sqlite3_column_text(all, text) != nullptr;
    auto* data = static_cast<const char*>(sqlite3_column_blob(all, 6));
    bytes += std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(all, 6))).size();
  }
  double seconds = since(start);
  sqlite3_finalize(all);
  need(count == replayed && bytes >= replayed * payload.size(), "not everything was read");
  return count / seconds;
}

// ---- hailwire

double publish(const std::string& path, std::string_view medium, int count) {
  running r(path, medium);
  r.publish(static_cast<int>(outstanding));  // the file and the channel are made
  auto start = clock_type::now();
  r.publish(count);
  return count / since(start);
}

double websocket(const std::string& path, std::string_view medium, int count) {
  running r(path, medium);
  std::string command;
  hailwire::proto::append_masked_frame(command, hailwire::proto::ws_opcode::text,
                                       R"({"id":1,"publish":{"channel":"chat","data":")" + payload + "\"}}",
                                       0x5AC3F00D);
  int poll = ::epoll_create1(0), sent = 0, answered = 0;
  std::vector<socket_reader> clients;
  for (std::size_t i = 0; i < outstanding; ++i) {
    auto& c = clients.emplace_back(socket_reader{connected(r.port, upgrade("", "hailwire.v1")), {}});
    while (c.bytes.find("\"open\"") == c.bytes.npos) c.more(1024);
    c.bytes.clear();
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u64 = i;
    ::epoll_ctl(poll, EPOLL_CTL_ADD, c.fd, &e);
  }
  auto say = [&](socket_reader& c) {
    if (sent++ < count)
      need(::send(c.fd, command.data(), command.size(), 0) == static_cast<ssize_t>(command.size()), "cannot send");
  };
  auto start = clock_type::now();
  for (auto& c : clients) say(c);
  while (answered < count) {
    epoll_event events[64];
    int n = ::epoll_wait(poll, events, 64, 20'000);
    need(n > 0, "clients wait in vain");
    for (int i = 0; i < n; ++i) {
      socket_reader& c = clients[events[i].data.u64];
      c.more(1024);
      if (c.bytes.find("}}") == c.bytes.npos) continue;  // {"reply":1,"ok":{…}}
      need(c.bytes.find("\"ok\":") != c.bytes.npos, "a publish was refused");
      c.bytes.clear();
      ++answered;
      say(c);
    }
  }
  double seconds = since(start);
  for (auto& c : clients) ::close(c.fd);
  ::close(poll);
  return count / seconds;
}

double read(const std::string& path, std::string_view medium) {
  auto file = open_file(path, medium);
  std::uint64_t at = 0;
  auto start = clock_type::now();
  while (at < replayed) {
    std::promise<hailwire::read_result> answer;
    auto arrived = answer.get_future();
    file->async_read("chat", at, {},
                     [p = std::move(answer)](hailwire::read_result r) mutable { p.set_value(std::move(r)); });
    auto page = arrived.get();
    need(!page.error && !page.messages.empty() && page.messages.front().offset == at + 1, "a page is missing");
    at = page.messages.back().offset;
  }
  return replayed / since(start);
}

double replay(const std::string& path, std::string_view medium) {
  running r(path, medium);
  if (medium == "memory") r.publish(replayed);
  auto start = clock_type::now();
  socket_reader in{connected(r.port, upgrade("?channel=chat&since=earliest", "hailwire.v1.raw")), {}};
  std::size_t frames = 0, whole = payload.size() + 4;  // RFC 6455, section 5.2: two bytes and a length of 16 bits
  while (frames < replayed) {
    in.more();
    if (in.head) continue;
    std::size_t there = in.bytes.size() / whole;
    for (std::size_t i = 0; i < there; ++i)
      need(in.bytes.compare(i * whole + 4, payload.size(), payload) == 0, "another message");
    in.bytes.erase(0, there * whole);
    frames += there;
  }
  double seconds = since(start);
  ::close(in.fd);
  return replayed / seconds;
}

double catch_up(const std::string& path, std::string_view medium) {
  constexpr int clients = 1000, messages = 1000;
  running r(path, medium);
  r.publish(messages);
  int poll = ::epoll_create1(0);
  std::vector<std::string> tails(clients);
  std::vector<int> sockets;
  auto start = clock_type::now();
  for (int i = 0; i < clients; ++i) {
    sockets.push_back(connected(
        r.port, "GET /live?channel=chat&since=earliest HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"));
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u32 = static_cast<std::uint32_t>(i);
    ::epoll_ctl(poll, EPOLL_CTL_ADD, sockets.back(), &e);
  }
  const std::string last = "\"offset\":" + std::to_string(messages) + ",\"at\"";
  std::vector<char> buffer(256 * 1024);
  for (int left = clients; left > 0;) {
    epoll_event events[64];
    int n = ::epoll_wait(poll, events, 64, 20'000);
    need(n > 0, "clients wait in vain");
    for (int i = 0; i < n; ++i) {
      auto c = events[i].data.u32;
      auto got = ::recv(sockets[c], buffer.data(), buffer.size(), 0);
      need(got > 0, "a connection ended");
      tails[c].append(buffer.data(), static_cast<std::size_t>(got));
      if (tails[c].size() > 1024) tails[c].erase(0, tails[c].size() - 1024);
      if (tails[c].find(last) == std::string::npos) continue;
      --left;
      ::epoll_ctl(poll, EPOLL_CTL_DEL, sockets[c], nullptr);
    }
  }
  double seconds = since(start);
  for (int fd : sockets) ::close(fd);
  ::close(poll);
  return clients * messages / seconds;
}

void fill(const std::string& path) {
  running r(path, "off");
  r.publish(replayed);
}

}  // namespace

int main(int count, char** words) {
  std::string_view work = count > 1 ? words[1] : "", medium = count > 2 ? words[2] : "";
  bool known = false;
  for (std::string_view m : {"memory", "normal", "full", "off"}) known |= m == medium;
  if (count != 4 || !known)
    return std::fputs("usage: storage WORK memory|normal|full|off FILE (the works stand at the top of storage.cpp)\n",
                      stderr),
           2;
  std::string path = words[3];
  bool slow = medium == "full";
  for (const char* with : {"", "-wal", "-shm", "-lock"}) std::filesystem::remove(path + with);
  if (work == "select" || work == "read" || (work == "replay" && medium != "memory") || work == "size") fill(path);
  double figure = work == "rows_256"    ? rows(path, medium, 256, slow ? 50'000 : 200'000)
                  : work == "rows_1"    ? rows(path, medium, 1, slow ? 500 : 20'000)
                  : work == "publish"   ? publish(path, medium, slow ? 50'000 : 200'000)
                  : work == "websocket" ? websocket(path, medium, 50'000)
                  : work == "select"    ? select(path)
                  : work == "read"      ? read(path, medium)
                  : work == "replay"    ? replay(path, medium)
                  : work == "catch_up"  ? catch_up(path, medium)
                  : work == "size"      ? static_cast<double>(std::filesystem::file_size(path)) /
                                         static_cast<double>(replayed * (payload.size() + 40))
                                   : -1;
  if (figure < 0) return std::fputs("storage: no such work\n", stderr), 2;
  std::printf("{\"figure\": %.3f}\n", figure);
}
