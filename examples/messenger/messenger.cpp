// SPDX-License-Identifier: BSL-1.0
//
// A messenger: inboxes, direct chats, groups, ticks, typing, who is online, taking back. All of that is the library's;
// this file says who may do what, and serves the page. What the channels are for stands in chats.js.

#include <hailwire/hailwire.hpp>
#include <hailwire/storage/files.hpp>
#ifdef MESSENGER_WITH_SQLITE  // SQLite was found
#include <hailwire/storage/sqlite.hpp>
#endif
#ifdef MESSENGER_WITH_REDIS  // hiredis was found
#include <hailwire/broker/redis.hpp>
#endif

#ifdef MESSENGER_WITH_PUSH  // libcurl and OpenSSL were found
#include <hailwire/push/web_push.hpp>
#include <hailwire/push/webhook.hpp>
#endif

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "messenger_web.hpp"  // the files of this folder's page as text, made by the build

using namespace std::chrono_literals;
using messenger_server =
    hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

constexpr char usage[] =
    "usage: messenger [--host 127.0.0.1] [--port 8080] [--history 10000] [--storage "
    "memory|sqlite:FILE|redis://HOST:PORT]\n"
    "                 [--content DIRECTORY]\n"
    "                 [--vapid-key KEY --page URL] [--webhook URL --webhook-secret WORDS]\n"
    "  --host     IPv4 or IPv6 address to listen on\n"
    "  --port     0 has the system pick one\n"
    "  --history  messages kept for each chat\n"
    "  --storage  where they are kept: memory, a file that survives the messenger and the machine's power, or a Redis\n"
    "             that any number of messengers share, as nodes of one\n"
    "  --content  the directory of pictures and other files, up to 64 MiB each; else FILE.content, or one that ends "
    "with\n"
    "             the messenger; with a Redis none\n"
    "  --vapid-key  PEM text or base64url: browsers are woken by Web Push, and open --page, an https URL\n"
    "  --webhook  who is not there is told of to this URL, signed with --webhook-secret (24 to 64 bytes)\n";

struct settings {
  std::string host = "127.0.0.1", storage = "memory", content, vapid_key, page, webhook, webhook_secret;
  std::uint16_t port = 8080;
  std::size_t history = 10'000;
};

template <class Number>
bool read_number(std::string_view text, Number& out) {
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc() && end == text.data() + text.size();
}

// Each option has a value. False when one is not understood.
bool read_options(int count, char** words, settings& s) {
  for (int i = 1; i < count; i += 2) {
    std::string_view name = words[i];
    if (i + 1 == count) return false;
    std::string_view value = words[i + 1];
    bool fine = name == "--host"      ? (s.host = value, true)
                : name == "--port"    ? read_number(value, s.port)
                : name == "--history" ? read_number(value, s.history) && s.history > 0
                : name == "--storage"
                    ? (s.storage = value, value == "memory" || (value.starts_with("sqlite:") && value.size() > 7) ||
                                              value.starts_with("redis"))
                : name == "--content"        ? (s.content = value, true)
                : name == "--vapid-key"      ? (s.vapid_key = value, true)
                : name == "--page"           ? (s.page = value, true)
                : name == "--webhook"        ? (s.webhook = value, true)
                : name == "--webhook-secret" ? (s.webhook_secret = value, true)
                                             : false;
    if (!fine) return false;
  }
  return s.vapid_key.empty() == s.page.empty() && s.webhook.empty() == s.webhook_secret.empty();
}

// A name of a user: it stands between colons in the names of channels.
bool is_user(std::string_view name) {
  auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  return !name.empty() && name.size() <= 32 && std::all_of(name.begin(), name.end(), letter);
}

// Whether `channel` is KIND:a:b, a chat of two, and `user` is one of them. The names stand in order, so that two people
// have one such chat.
bool is_chat_of(std::string_view user, std::string_view kind, std::string_view channel) {
  if (!channel.starts_with(kind)) return false;
  channel.remove_prefix(kind.size());
  auto colon = channel.find(':');
  if (colon == channel.npos) return false;
  std::string_view a = channel.substr(0, colon), b = channel.substr(colon + 1);
  return is_user(a) && is_user(b) && a <= b && (user == a || user == b);
}

// A chat: of two of whom `user` is one, or a group, whose name nobody guesses.
bool may_talk(std::string_view user, std::string_view channel) {
  return is_chat_of(user, "direct:", channel) || is_chat_of(user, "secret:", channel) ||
         (channel.starts_with("group:") && channel.size() == 6 + 32);
}

// `?user=ada` is all that this messenger asks for; a real one checks a cookie or a token here. That nobody but ada
// follows @ada, the library sees to; anybody may write to it, as to a letter box.
hailwire::decision authorize(const hailwire::request& r) {
  std::string user(r.param("user"));
  if (!is_user(user)) return hailwire::failure(hailwire::errc::unauthenticated, "?user= is 1 to 32 letters or digits");
  return hailwire::grant{.user = user,
                         .follow = hailwire::channel_set([user](std::string_view channel) {
                           return may_talk(user, channel) || channel == "people" || channel == "@" + user ||
                                  channel.starts_with("keys:");
                         }),
                         .publish = hailwire::channel_set([user](std::string_view channel) {
                           return may_talk(user, channel) || channel == "keys:" + user ||
                                  (channel.starts_with("@") && is_user(channel.substr(1)));
                         })};
}

// What wakes the devices of who is not there.
struct notifiers {
#ifdef MESSENGER_WITH_PUSH
  notifiers(asio::io_context& io, const settings& s) {
    if (!s.vapid_key.empty()) {
      web.emplace(io, hailwire::web_push_options{
                          .keys = {s.vapid_key}, .subject = s.page, .title = "New message", .navigate = s.page});
      config = ",\"push_key\":\"" + web->public_key() + '"';
    }
    if (!s.webhook.empty()) {
      hook.emplace(io, hailwire::webhook_options{.url = s.webhook, .secrets = {s.webhook_secret}});
      config += ",\"webhook\":true";
    }
  }
  void join(messenger_server& live) {
    if (web) live.add_notifier(*web);
    if (hook) live.add_notifier(*hook);
  }
  std::optional<hailwire::web_push> web;
  std::optional<hailwire::webhook> hook;
#else
  notifiers(asio::io_context&, const settings& s) {
    if (!s.vapid_key.empty() || !s.webhook.empty()) throw std::runtime_error("built without libcurl: nobody is woken");
  }
  void join(messenger_server&) {}
#endif
  std::string config;  // what the page is told of it
};

// The page, for whatever is not the live resource. `config`: what it is told of this server.
hailwire::result<hailwire::response> serve_page(const hailwire::request& r, const std::string& config) {
  struct file {
    std::string_view path, type, text;
  };
  const file files[] = {{"/", "text/html", web::index_html},
                        {"/style.css", "text/css", web::style_css},
                        {"/page.js", "text/javascript", web::page_js},
                        {"/chats.js", "text/javascript", web::chats_js},
                        {"/seal.js", "text/javascript", web::seal_js},
                        {"/sw.js", "text/javascript", web::sw_js},
                        {"/hailwire.js", "text/javascript", web::hailwire_js},
                        {"/config.json", "application/json", config}};
  auto found = std::find_if(std::begin(files), std::end(files), [&](const file& f) { return f.path == r.path(); });
  if (found == std::end(files)) return hailwire::errc::not_found;
  if (r.method() != "GET" && r.method() != "HEAD") return hailwire::errc::method_not_allowed;
  hailwire::response page;
  page.content_type = std::string(found->type) + ";charset=utf-8";
  page.body = found->text;
  page.headers = {
      {"Cache-Control", "no-cache"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
       "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"}};
  return page;
}

hailwire::options make_options() {
  hailwire::options o{.path = "/live"};
  o.max_channels = 200;  // every chat that a person has is followed all the time
  for (const char* chats : {"direct:*", "secret:*", "group:*"})
    o.channels.push_back({.pattern = chats, .wake = true, .presence = true, .ephemeral = true, .receipts = true});
  o.channels.push_back({.pattern = "people", .presence = true});
  return o;
}

/// What the nodes of one messenger share; it outlives the server.
struct shared_logs {
#ifdef MESSENGER_WITH_REDIS
  std::unique_ptr<hailwire::redis_storage> storage;
  std::unique_ptr<hailwire::redis_broker> broker;

  hailwire::redis_storage& open(const settings& s) {
    hailwire::redis_options keep;
    keep.messages = s.history;
    auto logs = hailwire::redis_storage::open(s.storage, keep);
    if (!logs) throw std::runtime_error(std::string(logs.error().text()));
    storage = std::move(*logs);
    broker = std::make_unique<hailwire::redis_broker>(*storage);
    return *storage;
  }
#endif
};

// A log is a pointer to a storage, or a reference to one.
template <class Log>
messenger_server with_content(asio::io_context& io, const settings& s, Log&& log) {
  if (s.content.empty()) return messenger_server(io, std::forward<Log>(log), make_options());
  return messenger_server(io,
                          std::make_unique<hailwire::files_storage<Log>>(
                              hailwire::files_options{.directory = s.content}, std::forward<Log>(log)),
                          make_options());
}

messenger_server make_server(asio::io_context& io, const settings& s, [[maybe_unused]] shared_logs& shared) {
#ifdef MESSENGER_WITH_REDIS
  if (s.storage.starts_with("redis")) return with_content(io, s, shared.open(s));
#else
  if (s.storage.starts_with("redis")) throw std::runtime_error("built without hiredis: --storage cannot be a Redis");
#endif
  if (s.storage == "memory") {
    hailwire::memory_options keep{.messages = s.history};
    keep.bytes = std::max(keep.bytes, s.history * 4096);
    return with_content(io, s, std::make_unique<hailwire::memory_storage>(keep));
  }
#ifdef MESSENGER_WITH_SQLITE
  hailwire::sqlite_options keep;
  keep.messages = s.history;
  auto file = hailwire::sqlite_storage::open(s.storage.substr(7), keep);
  if (!file) throw std::runtime_error(std::string(file.error().text()));
  return with_content(io, s, std::move(*file));
#else
  throw std::runtime_error("built without SQLite: --storage cannot be a file");
#endif
}

/// Where pictures are kept, if nobody says: beside the file, or, of a messenger without one, for as long as it runs.
struct content_place {
  explicit content_place(settings& s) {
    if (!s.content.empty() || s.storage.starts_with("redis")) return;
    if (s.storage != "memory") {
      s.content = s.storage.substr(7) + ".content";
      return;
    }
    s.content = (std::filesystem::temp_directory_path() / "messenger-XXXXXX").string();
    if (!::mkdtemp(s.content.data())) throw std::runtime_error("there is no room for pictures in " + s.content);
    own = s.content;
  }
  ~content_place() {
    std::error_code ignored;
    if (!own.empty()) std::filesystem::remove_all(own, ignored);
  }
  std::string own;
};

void run(settings s) {
  content_place pictures(s);
  asio::io_context io(1);
  notifiers push(io, s);
  shared_logs shared;
  messenger_server live = make_server(io, s, shared);
#ifdef MESSENGER_WITH_REDIS
  if (shared.broker) live.join(*shared.broker);
#endif
  push.join(live);
  live.authorize(authorize);
  live.on_erase([](auto&&...) { return true; });  // one's own messages; of others' nobody is asked
  live.on_http([config = R"({"path":"/live","storage":")" + s.storage.substr(0, s.storage.find(':')) + '"' +
                         (s.content.empty() ? "" : ",\"content\":true") + push.config +
                         "}"](const hailwire::request& r) { return serve_page(r, config); });
  live.on_log([](const hailwire::log_record& r) {
    std::fprintf(stderr, "%.*s: %.*s\n", int(r.event.size()), r.event.data(), int(r.text.size()), r.text.data());
  });

  // Everybody is told when to come back; what is published meanwhile is still stored.
  asio::signal_set signals(io, SIGINT, SIGTERM);
  asio::steady_timer late(io);
  signals.async_wait([&](std::error_code, int) {
    live.post([&] { live.drain(3s, {}, [&io] { io.stop(); }); });
    late.expires_after(3500ms);  // for who takes the last bytes slowly
    late.async_wait([&io](std::error_code) { io.stop(); });
    signals.async_wait([&io](std::error_code, int) { io.stop(); });
  });

  auto port = live.listen(s.host, s.port);
  bool v6 = s.host.find(':') != s.host.npos;
  std::printf(v6 ? "listening on http://[%s]:%u/\n" : "listening on http://%s:%u/\n", s.host.c_str(), unsigned{port});
  std::fflush(stdout);
  io.run();
}

int main(int count, char** words) {
  settings s;
  if (!read_options(count, words, s)) return std::fputs(usage, stderr), 2;
  try {
    run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "messenger: %s\n", e.what());
    return 1;
  }
}
