// SPDX-License-Identifier: BSL-1.0
//
// A chat with rooms and history: five transports and the page that uses them, on one port.

#include <hailwire/hailwire.hpp>
#include <hailwire/transport/ndjson.hpp>
#ifdef CHAT_WITH_FMT  // {fmt} was found
#include <hailwire/metrics.hpp>
#endif
#ifdef CHAT_WITH_TLS  // OpenSSL was found
#include <hailwire/client_tls.hpp>
#include <hailwire/tls.hpp>
#endif
#ifdef CHAT_WITH_SQLITE  // SQLite was found
#include <hailwire/storage/sqlite.hpp>
#endif
#ifdef CHAT_WITH_REDIS  // hiredis was found
#include <hailwire/broker/redis.hpp>
#endif

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "web.hpp"  // web/index.html and web/hailwire.js as text, made by the build

using namespace std::chrono_literals;
using chat_server =
    hailwire::server<hailwire::websocket, hailwire::sse, hailwire::ndjson, hailwire::long_poll, hailwire::short_poll>;

constexpr char usage[] =
    "usage: chat [--host 127.0.0.1] [--port 8080] [--path /live] [--history 1000]\n"
    "            [--storage memory|sqlite:FILE|redis://HOST:PORT] [--node NAME] [--tickets FILE]\n"
    "            [--tls-cert chain.pem --tls-key key.pem]\n"
    "            [--tls-records openssl|own] [--driver embedded|own|portable] [--drain-seconds 5]\n"
    "  --host     IPv4 or IPv6 address to listen on\n"
    "  --port     0 has the system pick one\n"
    "  --path     where clients connect: letters, digits and /-_.~\n"
    "  --history  messages kept for each room\n"
    "  --storage  where they are kept: memory, a file that survives the chat and the machine's power, or a Redis that "
    "any\n"
    "             number of chats share, as nodes of one (also rediss://, redis-sentinel://, redis-cluster://)\n"
    "  --node     what the page calls this one of several\n"
    "  --tickets  the key that lets clients come back before newcomers, made if it is not there: one file for all "
    "nodes;\n"
    "             beside a SQLite file there is one anyway\n"
    "  --tls-cert, --tls-key  PEM files: https and wss in place of http and ws\n"
    "  --tls-records  who keeps the records: own takes 466 bytes for an idle connection, openssl 14 KB\n"
    "  --driver   who waits for the sockets: the context with one descriptor for all, a thread of its own, or Asio for "
    "each\n"
    "  --drain-seconds  how long clients may take to leave after SIGTERM; a second signal ends the chat at once\n";

struct settings {
  std::string host = "127.0.0.1", path = "/live", storage = "memory", node, tickets, tls_cert, tls_key,
              tls_records = "openssl", driver = "embedded";
  std::uint16_t port = 8080;
  std::size_t history = 1000;
  unsigned drain_seconds = 5;
};

template <class Number>
bool read_number(std::string_view text, Number& out) {
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc() && end == text.data() + text.size();
}

bool is_path(std::string_view text) {
  for (char c : text)
    if (!hailwire::proto::is_token_letter(c) && c != '/' && c != '.' && c != '~') return false;
  return text.size() > 1 && text[0] == '/';
}

// Each option has a value. False when one is not understood.
bool read_options(int count, char** words, settings& s) {
  for (int i = 1; i < count; i += 2) {
    std::string_view name = words[i];
    if (i + 1 == count) return false;
    std::string_view value = words[i + 1];
    bool fine = name == "--host"      ? (s.host = value, true)
                : name == "--port"    ? read_number(value, s.port)
                : name == "--path"    ? (s.path = value, is_path(value))
                : name == "--history" ? read_number(value, s.history) && s.history > 0
                : name == "--storage"
                    ? (s.storage = value, value == "memory" || (value.starts_with("sqlite:") && value.size() > 7) ||
                                              value.starts_with("redis"))
                : name == "--node"          ? (s.node = value, hailwire::valid_channel(value) && is_path("/" + s.node))
                : name == "--tickets"       ? (s.tickets = value, !value.empty())
                : name == "--tls-cert"      ? (s.tls_cert = value, true)
                : name == "--tls-key"       ? (s.tls_key = value, true)
                : name == "--tls-records"   ? (s.tls_records = value, value == "own" || value == "openssl")
                : name == "--drain-seconds" ? read_number(value, s.drain_seconds) && s.drain_seconds <= 3600
                : name == "--driver" ? (s.driver = value, value == "embedded" || value == "own" || value == "portable")
                                     : false;
    if (!fine) return false;
  }
  return s.tls_cert.empty() == s.tls_key.empty();
}

std::uint16_t listen(chat_server& live, const settings& s) {
  if (s.tls_cert.empty()) return live.listen(s.host, s.port);
#ifdef CHAT_WITH_TLS
  hailwire::tls_context tls(
      {.certificates = {hailwire::tls_certificate::from_files(s.tls_cert, s.tls_key)},
       .records = s.tls_records == "own" ? hailwire::tls_records::own : hailwire::tls_records::openssl});
  return hailwire::listen_tls(live, tls, s.host, s.port);
#else
  throw std::runtime_error("built without OpenSSL");
#endif
}

// `?user=ada` is all that this chat asks for; a real one checks a cookie or a token here. Everybody may enter every
// room; that nobody but ada follows @ada, the library sees to.
hailwire::decision authorize(const hailwire::request& r) {
  std::string user(r.param("user"));
  if (!user.empty() && !hailwire::valid_user(user))
    return hailwire::failure(hailwire::errc::bad_request, "that is no name for a user");
  return hailwire::grant{.user = user, .follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
}

// The page, for whatever is not the live resource.
hailwire::result<hailwire::response> serve_page(const hailwire::request& r, const settings& s) {
  hailwire::response page;
  if (r.path() == "/") {
    page.content_type = "text/html;charset=utf-8";
    page.body = web::index_html;
  } else if (r.path() == "/hailwire.js") {
    page.content_type = "text/javascript;charset=utf-8";
    page.body = web::hailwire_js;
  } else if (r.path() == "/config.json") {
    page.content_type = "application/json";
    page.body = R"({"path":")" + s.path + R"(","storage":")" + s.storage.substr(0, s.storage.find(':')) +
                (s.node.empty() ? "" : "\",\"node\":\"" + s.node) + "\"}";
  } else {
    return hailwire::errc::not_found;
  }
  if (r.method() != "GET" && r.method() != "HEAD") return hailwire::errc::method_not_allowed;
  page.headers = {{"Cache-Control", "no-cache"},
                  {"X-Content-Type-Options", "nosniff"},
                  {"Referrer-Policy", "no-referrer"},
                  {"Content-Security-Policy",
                   "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
                   "connect-src 'self'; "
                   "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"}};
  return page;
}

// What tickets are signed with, so that they are good after a restart and at each node: in a file for its owner alone.
std::string ticket_key(const settings& s) {
  const bool kept = s.storage.starts_with("sqlite:");
  const std::string name = !s.tickets.empty() ? s.tickets : kept ? s.storage.substr(7) + "-tickets" : std::string();
  if (name.empty()) return {};
  std::string key;
  if (std::ifstream(name, std::ios::binary) >> key && key.size() >= 16) return key;
  key.clear();
  std::random_device random;
  for (int i = 0; i < 32; ++i) key += "0123456789abcdef"[random() % 16];
  // Of nodes that begin together one makes it: whole or not at all.
  const std::string fresh = name + '.' + std::to_string(random());
  const int file = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool written = file >= 0 && ::write(file, key.data(), key.size()) == static_cast<ssize_t>(key.size());
  if (file >= 0) ::close(file);
  written = written && ::link(fresh.c_str(), name.c_str()) == 0;
  const bool there = !written && errno == EEXIST;
  ::unlink(fresh.c_str());
  if (there && std::ifstream(name, std::ios::binary) >> key && key.size() >= 16) return key;
  if (!written) throw std::runtime_error(there ? name + " is no key of tickets" : "cannot write " + name);
  return key;
}

template <class Storage>
chat_server make_server(asio::io_context& io, const settings& s, Storage&& kept) {
  hailwire::options options{.path = s.path};
  // Whoever keeps many messages may be sent as many: a file that is piped into `hw publish` is one user's.
  options.max_keys_per_user = std::max(options.max_keys_per_user, s.history);
  options.ticket_key = ticket_key(s);
  if (s.driver == "own") return chat_server(hailwire::own_thread, std::forward<Storage>(kept), options);
  if (s.driver == "portable") return chat_server(hailwire::portable, io, std::forward<Storage>(kept), options);
  return chat_server(io, std::forward<Storage>(kept), options);
}

/// What the nodes of one chat share; it outlives the server.
struct shared_logs {
#ifdef CHAT_WITH_REDIS
  std::unique_ptr<hailwire::redis_storage> storage;
  std::unique_ptr<hailwire::redis_broker> broker;

  chat_server open(asio::io_context& io, const settings& s) {
    hailwire::redis_options keep;
    keep.messages = s.history;
    keep.on_log = [](std::string_view text) { std::fprintf(stderr, "%.*s\n", int(text.size()), text.data()); };
#ifdef CHAT_WITH_TLS
    if (s.storage.starts_with("rediss:")) keep.tls = hailwire::client_tls();
#endif
    auto logs = hailwire::redis_storage::open(s.storage, keep);
    if (!logs) throw std::runtime_error(std::string(logs.error().text()));
    storage = std::move(*logs);
    broker = std::make_unique<hailwire::redis_broker>(*storage);
    return make_server(io, s, *storage);
  }
  void join(chat_server& live) {
    if (broker) live.join(*broker);
  }
#else
  chat_server open(asio::io_context&, const settings&) {
    throw std::runtime_error("built without hiredis: --storage cannot be a Redis");
  }
  void join(chat_server&) {}
#endif
};

chat_server make_server(asio::io_context& io, const settings& s, shared_logs& shared) {
  if (s.storage.starts_with("redis")) return shared.open(io, s);
  if (s.storage == "memory") {
    hailwire::memory_options keep{.messages = s.history};
    keep.bytes = std::max(keep.bytes, s.history * 4096);
    return make_server(io, s, std::make_unique<hailwire::memory_storage>(keep));
  }
#ifdef CHAT_WITH_SQLITE
  hailwire::sqlite_options keep;
  keep.messages = s.history;
  auto file = hailwire::sqlite_storage::open(s.storage.substr(7), keep);
  if (!file) throw std::runtime_error(std::string(file.error().text()));
  return make_server(io, s, std::move(*file));
#else
  throw std::runtime_error("built without SQLite: --storage cannot be a file");
#endif
}

void run(const settings& s) {
  asio::io_context io(1);
  shared_logs shared;
  chat_server live = make_server(io, s, shared);
  shared.join(live);

  live.authorize(authorize);
  live.on_http([&](const hailwire::request& r) {
#ifdef CHAT_WITH_FMT
    if (auto answer = hailwire::serve_metrics(live, r)) return std::move(*answer);
#endif
    return serve_page(r, s);
  });
  live.on_log([](const hailwire::log_record& r) {
    std::fprintf(stderr, "%.*s: %.*s\n", int(r.event.size()), r.event.data(), int(r.text.size()), r.text.data());
  });

  // Everybody is told when to come back; what is published meanwhile is still stored.
  asio::signal_set signals(io, SIGINT, SIGTERM);
  asio::steady_timer late(io);
  signals.async_wait([&](std::error_code, int) {
    const std::chrono::seconds most(s.drain_seconds);
    live.post([&, most] { live.drain(most, {}, [&] { io.stop(); }); });
    late.expires_after(most + 500ms);  // for who takes the last bytes slowly
    late.async_wait([&io](std::error_code) { io.stop(); });
    signals.async_wait([&io](std::error_code, int) { io.stop(); });
  });

  auto port = listen(live, s);
  bool v6 = s.host.find(':') != s.host.npos;
  const char* scheme = s.tls_cert.empty() ? "http" : "https";
  std::printf(v6 ? "listening on %s://[%s]:%u/\n" : "listening on %s://%s:%u/\n", scheme, s.host.c_str(),
              unsigned{port});
  std::fflush(stdout);
  std::thread serving;
  if (s.driver == "own") serving = std::thread([&live] { live.run(); });
  io.run();

  live.quit();
  if (serving.joinable()) serving.join();
}

int main(int count, char** words) {
  settings s;
  if (!read_options(count, words, s)) return std::fputs(usage, stderr), 2;
  try {
    run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "chat: %s\n", e.what());
    return 1;
  }
}
