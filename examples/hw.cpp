// SPDX-License-Identifier: BSL-1.0
//
// hw: channels from the command line. `hw --help` says what it can do.

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hailwire/client.hpp>
#include <hailwire/version.hpp>
#ifdef HW_WITH_TLS  // OpenSSL was found
#include <hailwire/client_tls.hpp>
#endif

namespace {

namespace hw = hailwire;
using namespace std::chrono_literals;

// Exit codes, for scripts.
enum code : int { done = 0, usage = 2, refused = 3, unreachable = 4, unknown = 5 };

constexpr char footer[] =
    "Exit codes: 0 done; 2 wrong usage; 3 the server refused; 4 the server was not reached in time; 5 nobody knows "
    "whether\neverything was published; 130 and 143 ended by Ctrl-C and SIGTERM.\n\n"
    "URL is the live URL with its query: http://127.0.0.1:8080/live?user=ada. http_proxy, https_proxy and no_proxy "
    "are\n"
    "honoured; NO_COLOR turns colour off.";

constexpr char bash_completion[] = R"(# bash completion for hw:  source <(hw completion)
_hw() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  local all="--transport --timeout --header --token --ca --quiet --help" mine=
  case $before in
    --transport) COMPREPLY=($(compgen -W "auto websocket sse long_poll short_poll" -- "$word")); return ;;
    --since) COMPREPLY=($(compgen -W "latest earliest received" -- "$word")); return ;;
    --cursor|--ca) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "tail publish history presence soak completion --help --version" -- "$word")); return
  fi
  case $command in
    tail) mine="--since --cursor --count" ;;
    publish) mine="--type" ;;
    history) mine="--before --after --limit" ;;
    presence) mine="--numbers" ;;
    soak) mine="--clients --rate --seconds --size" ;;
    completion) return ;;
  esac
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$mine $all" -- "$word"))
  elif [ "$command" = publish ]; then COMPREPLY=($(compgen -f -- "$word")); fi
}
complete -F _hw hw
)";

struct settings {
  std::string url, transport = "auto", token, ca, since = "latest", cursor_file, file = "-", type, channel;
  std::vector<std::string> channels, headers;
  std::optional<std::uint64_t> before, after;
  std::size_t count = 0, limit = 50, clients = 100, size = 128;
  double timeout = 0, rate = 1, seconds = 10;
  bool quiet = false, numbers = false;
};

/// What a person at the terminal sees, and nobody else: colour, and a line that is written over.
class screen {
 public:
  explicit screen(bool quiet)
      : person_(!quiet && ::isatty(STDERR_FILENO) == 1), quiet_(quiet), colour_(person_ && !std::getenv("NO_COLOR")) {}
  bool person() const { return person_; }
  void line(const std::string& text) {
    if (!person_) return;
    fmt::print(stderr, "\r\x1b[K{}", text);
    std::fflush(stderr);
    live_ = true;
  }
  /// Something to be read by whoever reads errors.
  void say(std::string_view text, bool bad = true) {
    if (quiet_ && !bad) return;
    if (live_) fmt::print(stderr, "\r\x1b[K");
    live_ = false;
    if (colour_) {
      fmt::print(stderr, "\x1b[{}mhw: {}\x1b[0m\n", bad ? 31 : 33, text);
    } else {
      fmt::print(stderr, "hw: {}\n", text);
    }
  }
  void end() {
    if (live_) fmt::print(stderr, "\n");
    live_ = false;
  }

 private:
  bool person_, quiet_, colour_, live_ = false;
};

/// Of the environment's proxies the one for this URL, or none.
std::string proxy_for(const hw::proto::url& at) {
  auto env = [](const char* small, const char* large) {
    const char* v = std::getenv(small);
    if (!v && large) v = std::getenv(large);
    return std::string(v ? v : "");
  };
  std::string rest = env("no_proxy", "NO_PROXY") + ",";
  for (std::size_t end; (end = rest.find(',')) != rest.npos; rest.erase(0, end + 1)) {
    auto item = std::string(hw::proto::trim(std::string_view(rest).substr(0, end)));
    while (item.starts_with('.')) item.erase(0, 1);
    if (item == "*" || (!item.empty() && (at.host == item || at.host.ends_with('.' + item)))) return {};
  }
  // HTTP_PROXY in capitals is what a CGI program would take from a request's header, so nobody reads it.
  return at.secure ? env("https_proxy", "HTTPS_PROXY") : env("http_proxy", nullptr);
}

hw::client_options options_of(const settings& s) {
  hw::client_options o;
  auto at = hw::proto::parse_url(s.url);
  if (!at) throw CLI::ValidationError("URL", std::string(at.error().text()));
  o.proxy = proxy_for(*at);
  if (!o.proxy.empty() && o.proxy.find("://") == o.proxy.npos) o.proxy = "http://" + o.proxy;
  o.headers = fmt::format("User-Agent: hw/{}.{}.{}\r\n", HAILWIRE_VERSION_MAJOR, HAILWIRE_VERSION_MINOR,
                          HAILWIRE_VERSION_PATCH);
  for (auto& h : s.headers) {
    if (h.find(':') == h.npos || !hw::proto::http1::is_value(h))
      throw CLI::ValidationError("--header", "is \"Name: value\"");
    o.headers += h + "\r\n";
  }
#ifdef HW_WITH_TLS
  if (at->secure) o.tls = hw::client_tls({.ca = s.ca.empty() ? "" : hw::client_tls::read_pem(s.ca)});
#else
  if (at->secure) throw CLI::ValidationError("URL", "built without OpenSSL: only http and ws");
#endif
  return o;
}

std::unique_ptr<hw::basic_client> make_client(asio::io_context& io, const settings& s, const std::string& url,
                                              const hw::client_options& o) {
  auto made = [&]<class... T>(hw::client<T...>*) {
    return std::unique_ptr<hw::basic_client>(new hw::client<T...>(io, url, o));
  };
  std::unique_ptr<hw::basic_client> c;
  if (s.transport == "websocket")
    c = made((hw::client<hw::websocket>*)nullptr);
  else if (s.transport == "sse")
    c = made((hw::client<hw::sse>*)nullptr);
  else if (s.transport == "long_poll")
    c = made((hw::client<hw::long_poll>*)nullptr);
  else if (s.transport == "short_poll")
    c = made((hw::client<hw::short_poll>*)nullptr);
  else
    c = made((hw::client<hw::websocket, hw::sse, hw::long_poll, hw::short_poll>*)nullptr);
  if (!s.token.empty()) {
    // One token is all that there is: once it was refused, there will be none.
    c->on_renew([token = std::optional<std::string>(s.token)](hw::token_reply reply) mutable {
      reply(std::exchange(token, std::nullopt));
    });
  }
  return c;
}

/// What all commands have in common: one client, signals, a time limit, an exit code.
class job {
 public:
  explicit job(const settings& s)
      : s_(s), out_(s.quiet), signals_(io_, SIGINT, SIGTERM), timer_(io_), options_(options_of(s)) {
    signals_.async_wait([this](std::error_code ec, int signal) {
      if (!ec) finish(128 + signal);
    });
    if (s.timeout > 0) {
      timer_.expires_after(std::chrono::milliseconds(static_cast<std::int64_t>(s.timeout * 1000)));
      timer_.async_wait([this](std::error_code ec) {
        if (ec) return;
        out_.say(reached_ ? "not done in time" : "the server was not reached in time");
        finish(reached_ ? unknown : unreachable);
      });
    }
  }
  hw::basic_client& client() {
    if (client_) return *client_;
    client_ = make_client(io_, s_, s_.url, options_);
    client_->on_status([this](const hw::client_status& st) { changed(st); });
    client_->on_notice([this](std::string_view name, std::string_view json) {
      if (name != "closed") return;
      out_.say(fmt::format("a channel was closed: {}", json));
      if (client_->channels().empty()) finish(refused);
    });
    return *client_;
  }
  int run() {
    io_.run();
    out_.end();
    return code_;
  }
  void finish(int exit_code) {
    if (ended_) return;
    ended_ = true;
    code_ = exit_code;
    signals_.cancel();
    timer_.cancel();
    if (on_end) on_end();
    if (client_) client_->close();
  }
  bool ended() const { return ended_; }

  asio::io_context& io() { return io_; }
  const settings& with() const { return s_; }
  const hw::client_options& options() const { return options_; }
  screen& out() { return out_; }
  std::function<void()> on_end;

 private:
  void changed(const hw::client_status& st) {
    using state = hw::client_status::state;
    if (ended_) return;
    if (st.now == state::following) {
      if (std::exchange(away_, false)) out_.say(fmt::format("back on {}", st.transport), false);
      reached_ = true;
    } else if (st.now == state::waiting && !std::exchange(away_, true)) {
      out_.say(fmt::format("{}{}{}; trying again", st.reason, st.text.empty() ? "" : ": ", st.text), false);
    } else if (st.now == state::stopped) {
      out_.say(fmt::format("{}{}{}", st.reason, st.text.empty() ? "" : ": ", st.text));
      finish(refused);
    }
  }

  const settings& s_;
  screen out_;
  asio::io_context io_;
  asio::signal_set signals_;
  asio::steady_timer timer_;
  hw::client_options options_;
  std::unique_ptr<hw::basic_client> client_;
  int code_ = done;
  bool ended_ = false, away_ = false, reached_ = false;
};

bool put(std::string_view text) { return std::fwrite(text.data(), 1, text.size(), stdout) == text.size(); }

// ---- tail

int tail(const settings& s) {
  job j(s);
  std::string since = s.since;
  if (!s.cursor_file.empty()) {
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> f(std::fopen(s.cursor_file.c_str(), "r"), std::fclose);
    char text[8192];
    if (f && std::fgets(text, sizeof text, f.get()))
      since = std::string(text, std::string_view(text).find_first_of("\n\0"));
  }
  auto start = hw::parse_cursor(since, s.channels.size());
  if (!start) throw CLI::ValidationError("--since", std::string(start.error().text()));
  auto& c = j.client();
  std::size_t count = 0;
  c.on_message([&](const hw::client_message& m) {
    if (j.ended()) return;
    std::string line(m.json);
    if (!put(line += '\n')) return j.finish(unknown);  // nobody reads any more
    if (++count == s.count) std::fflush(stdout), j.finish(done);
  });
  c.on_gap([&](const hw::client_gap& g) {
    j.out().say(fmt::format("{}: what lay before offset {} cannot be had ({})", g.channel, g.next, g.reason));
  });
  // What has left this program is where the next one begins.
  c.on_cursor([&](const std::string& cursor) {
    if (std::fflush(stdout) != 0) return j.finish(unknown);
    if (s.cursor_file.empty()) return;
    const std::string fresh = s.cursor_file + ".new";
    std::FILE* f = std::fopen(fresh.c_str(), "w");
    const bool fine = f && std::fputs((cursor + "\n").c_str(), f) >= 0;
    if (!f || std::fclose(f) != 0 || !fine || std::rename(fresh.c_str(), s.cursor_file.c_str()) != 0)
      j.out().say("the cursor cannot be written to " + s.cursor_file), j.finish(usage);
  });
  for (std::size_t i = 0; i < s.channels.size(); ++i)
    if (!c.follow(s.channels[i], (*start)[i]))
      throw CLI::ValidationError("CHANNEL", "no channel's name, or named twice: " + s.channels[i]);
  return j.run();
}

// ---- publish

/// Lines of a file or a pipe, as many as somebody has room for.
class line_source {
 public:
  line_source(asio::io_context& io, int fd) : at_(io), fd_(fd) {
    struct stat st{};
    waits_ = ::fstat(fd, &st) == 0 && !S_ISREG(st.st_mode);  // a file on disk never lets anybody wait
    if (waits_) at_.assign(::dup(fd));
  }
  /// Calls `f(line)` until it returns false, and `end(errno)` behind the last one.
  void read(std::function<bool(std::string_view)> f, std::function<void(int)> end) {
    line_ = std::move(f), end_ = std::move(end);
    more();
  }
  void more() {
    if (busy_ || over_) return;
    for (bool all = false; !all;) {
      const auto nl = kept_.find('\n', from_);
      if (nl != kept_.npos) {
        const auto line = std::string_view(kept_).substr(from_, nl - from_);
        from_ = nl + 1;
        all = !line_(line);
        continue;
      }
      kept_.erase(0, std::exchange(from_, 0));
      if (waits_) {
        busy_ = true;
        at_.async_wait(asio::posix::stream_descriptor::wait_read, [this](std::error_code ec) {
          busy_ = false;
          if (!ec && take()) more();
        });
        return;
      }
      if (!take()) return;
    }
  }
  void stop() {
    over_ = true;
    if (waits_) at_.close();
  }

 private:
  bool take() {
    char piece[65536];
    const auto n = ::read(fd_, piece, sizeof piece);
    if (n > 0) return kept_.append(piece, static_cast<std::size_t>(n)), true;
    const int why = n < 0 ? errno : 0;
    over_ = true;
    if (!kept_.empty() && !why) line_(kept_);  // a last line without its end
    end_(why);
    return false;
  }

  asio::posix::stream_descriptor at_;
  int fd_;
  std::string kept_;
  std::size_t from_ = 0;
  std::function<bool(std::string_view)> line_;
  std::function<void(int)> end_;
  bool waits_ = false, busy_ = false, over_ = false;
};

int publish(const settings& s) {
  job j(s);
  const int fd = s.file == "-" ? STDIN_FILENO : ::open(s.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw CLI::ValidationError("FILE", s.file + ": " + std::strerror(errno));
  auto& c = j.client();
  line_source lines(j.io(), fd);
  std::size_t read = 0, stored = 0, bad = 0, lost = 0;
  bool all_read = false;
  constexpr std::size_t room = 200;  // lines on their way: enough for the wire, and little to wait for at the end
  auto show = [&, last = std::chrono::steady_clock::time_point()]() mutable {
    const auto now = std::chrono::steady_clock::now();
    if (now - last < 200ms && !all_read) return;
    last = now;
    j.out().line(fmt::format("{} published, {} on their way", stored, c.pending()));
  };
  auto check = [&] {
    if (all_read && c.pending() == 0) j.finish(lost ? unknown : bad ? refused : done);
  };
  auto one = [&](std::string_view line) {
    const std::size_t number = ++read;
    const bool json = !hw::proto::json::validate(line);
    c.publish(s.channel, json ? hw::payload::json(line) : hw::payload::text(line),
              [&, number](const hw::client_error& e, const hw::position&) {
                if (e.code == hw::operation_aborted() && j.ended()) return;
                if (!e) {
                  ++stored;
                } else {
                  e.code == hw::errc::timeout ? ++lost : ++bad;
                  j.out().say(fmt::format("line {}: {}", number, e.text()));
                }
                show();
                if (c.pending() < room / 2) lines.more();
                check();
              },
              {.type = s.type});
    return c.pending() < room;
  };
  lines.read(one, [&](int why) {
    if (why) j.out().say(fmt::format("{}: {}", s.file, std::strerror(why))), ++bad;
    all_read = true;
    check();
  });
  j.on_end = [&] { lines.stop(); };
  const int exit_code = j.run();
  if (j.out().person()) j.out().line(fmt::format("{} published", stored));
  j.out().end();
  return exit_code;
}

// ---- questions

int ask(const settings& s, std::string_view command, const std::string& body,
        std::function<void(std::string_view)> show) {
  job j(s);
  j.client().ask(command, body, [&](const hw::client_error& e, std::string_view ok) {
    if (j.ended()) return;
    if (e) j.out().say(e.text());
    if (!e) show(ok);
    j.finish(e ? refused : done);
  });
  return j.run();
}

std::string named(const std::string& channel) {
  std::string out = "{\"channel\":";
  hw::proto::json::append_quoted(out, channel);
  return out;
}

int history(const settings& s) {
  std::string body = named(s.channel) + fmt::format(",\"limit\":{}", s.limit);
  if (s.before) body += fmt::format(",\"before\":{}", *s.before);
  if (s.after) body += fmt::format(",\"after\":{}", *s.after);
  return ask(s, "history", body + "}", [](std::string_view ok) {
    hw::detail::vector<hw::proto::json::member> members;
    hw::detail::vector<hw::proto::json::value> messages;
    if (hw::proto::json::read_object(ok, members)) return;
    for (auto& m : members)
      if (name_is(m, "messages")) (void)hw::proto::json::read_array(m.content.text, messages);
    for (auto& m : messages) put(std::string(m.text) + "\n");
  });
}

int presence(const settings& s) {
  return ask(s, "presence", named(s.channel) + (s.numbers ? ",\"count\":true}" : "}"),
             [](std::string_view ok) { put(std::string(ok) + "\n"); });
}

// ---- soak

/// The URL of one client of many: each `{n}` in it is the client's number, so that each can be a user of its own.
std::string numbered(std::string url, std::size_t n) {
  for (std::size_t at; (at = url.find("{n}")) != url.npos;) url.replace(at, 3, std::to_string(n));
  return url;
}

int soak(const settings& s) {
  job j(s);
  std::vector<std::unique_ptr<hw::basic_client>> all;
  std::uint64_t heard = 0, heard_before = 0, sent = 0, answered = 0, stored = 0, failed = 0, losses = 0, gaps = 0;
  std::size_t open = 0;
  std::vector<bool> is_open(s.clients);
  std::vector<std::uint64_t> heard_by(s.clients);
  for (std::size_t i = 0; i < s.clients; ++i) {
    auto c = make_client(j.io(), s, numbered(s.url, i + 1), j.options());
    c->on_message([&, i](const hw::client_message&) { ++heard, ++heard_by[i]; });
    c->on_gap([&](const hw::client_gap&) { ++gaps; });
    c->on_status([&, i](const hw::client_status& st) {
      const bool now_open = st.now == hw::client_status::state::following;
      if (is_open[i] && !now_open && st.now != hw::client_status::state::stopped) ++losses;
      open += now_open && !is_open[i] ? 1u : 0u;
      open -= !now_open && is_open[i] ? 1u : 0u;
      is_open[i] = now_open;
      if (st.now == hw::client_status::state::stopped && !j.ended()) {
        j.out().say(fmt::format("{}: {}", st.reason, st.text));
        j.finish(refused);
      }
    });
    c->follow(s.channel);
    all.push_back(std::move(c));
  }
  // The first message is published when all of them follow; behind the last one each has a while to hear it: the
  // longest that a server asks newcomers to wait (60 s), and the client's own longest back-off (30 s).
  auto began = std::chrono::steady_clock::now();
  bool begun = false;
  constexpr double a_while = 90;
  auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
  const std::string data(s.size, 'x');
  asio::steady_timer tick(j.io());
  double last = 0;
  std::function<void(std::error_code)> turn = [&](std::error_code ec) {
    if (ec || j.ended()) return;
    if (!begun && open == s.clients) begun = true, began = std::chrono::steady_clock::now(), last = 0;
    const double now = seconds();
    while (begun && now < s.seconds && static_cast<double>(sent) < now * s.rate) {
      all[sent++ % all.size()]->publish(
          s.channel, hw::payload::text(data),
          [&](const hw::client_error& e, const hw::position&) { ++answered, ++(e ? failed : stored); });
    }
    if (now - last >= 1) {
      const auto line =
          fmt::format("{:5.0f} s  {} of {} open, {:.0f} messages/s, {} published, {} lost connections", now, open,
                      s.clients, static_cast<double>(heard - heard_before) / (now - last), stored, losses);
      j.out().person() ? j.out().line(line) : j.out().say(line, false);
      last = now, heard_before = heard;
    }
    const bool whole = begun && open == s.clients && answered == sent && heard >= stored * s.clients;
    if ((now >= s.seconds && whole) || now >= s.seconds + a_while) return j.finish(whole && !failed ? done : unknown);
    tick.expires_after(20ms);
    tick.async_wait(turn);
  };
  j.on_end = [&] {
    const auto [fewest, most] = std::minmax_element(heard_by.begin(), heard_by.end());
    put(
        fmt::format("{{\"clients\":{},\"open\":{},\"seconds\":{:.1f},\"published\":{},\"refused\":{},\"received\":{},"
                    "\"fewest\":{},\"most\":{},\"gaps\":{},\"lost\":{}}}\n",
                    s.clients, open, seconds(), stored, failed, heard, *fewest, *most, gaps, losses));
    tick.cancel();
    for (auto& c : all) c->close();
  };
  tick.expires_after(0ms);
  tick.async_wait(turn);
  return j.run();
}

}  // namespace

int main(int count, char** words) {
  settings s;
  CLI::App app("Channels of a hailwire server from the command line.", "hw");
  app.footer(footer);
  app.set_version_flag(
      "--version", fmt::format("hw {}.{}.{}", HAILWIRE_VERSION_MAJOR, HAILWIRE_VERSION_MINOR, HAILWIRE_VERSION_PATCH));
  app.require_subcommand(1);
  auto command = [&](const char* name, const char* what, bool several) {
    auto* c = app.add_subcommand(name, what);
    c->add_option("URL", s.url, "The live URL, with its query")->required();
    if (several)
      c->add_option("CHANNEL", s.channels, "What to follow")->required();
    else
      c->add_option("CHANNEL", s.channel, "Which channel")->required();
    c->add_option("--transport", s.transport, "auto tries them in this order and falls back")
        ->check(CLI::IsMember({"auto", "websocket", "sse", "long_poll", "short_poll"}))
        ->capture_default_str();
    c->add_option("--timeout", s.timeout, "Seconds after which to give up; 0: never")->check(CLI::NonNegativeNumber);
    c->add_option("--header", s.headers, "\"Name: value\", sent with every request");
    c->add_option("--token", s.token, "Sent as Authorization: Bearer TOKEN");
    c->add_option("--ca", s.ca, "PEM file of the authorities to trust in place of the system's")
        ->check(CLI::ExistingFile);
    c->add_flag("--quiet", s.quiet, "Errors only");
    return c;
  };
  auto* t = command("tail", "Prints each message once, as a JSON line, and follows on; reconnects by itself", true);
  t->add_option("--since", s.since, "latest, earliest, received, or a cursor: an element for each channel")
      ->capture_default_str();
  t->add_option("--cursor", s.cursor_file, "Begin where this file says, and keep it up to date");
  t->add_option("--count", s.count, "End after so many messages; 0: never");
  auto* p = command("publish", "Publishes each line of FILE: a JSON value as it is, any other line as a string", false);
  p->add_option("FILE", s.file, "A file, or - for what is piped in")->capture_default_str();
  p->add_option("--type", s.type, "The messages' type, at most 64 bytes");
  auto* h = command("history", "Prints what a channel retains, oldest first", false);
  h->add_option("--before", s.before, "Only what comes before this offset");
  h->add_option("--after", s.after, "Only what comes after this offset");
  h->add_option("--limit", s.limit, "At most so many messages")->capture_default_str();
  auto* q = command("presence", "Prints who follows a channel", false);
  q->add_flag("--numbers", s.numbers, "Numbers alone");
  auto* k = command(
      "soak", "Follows a channel with many clients that publish to it in turn; {n} in the URL is each one's number",
      false);
  k->add_option("--clients", s.clients, "How many")->check(CLI::Range(1, 100'000))->capture_default_str();
  k->add_option("--rate", s.rate, "Messages a second, of all together")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  k->add_option("--seconds", s.seconds, "For how long")->check(CLI::PositiveNumber)->capture_default_str();
  k->add_option("--size", s.size, "Bytes of each message")->capture_default_str();
  auto* b = app.add_subcommand("completion", "Prints a completion script for bash: source <(hw completion)");
  try {
    app.parse(count, words);
    if (*t) return tail(s);
    if (*p) return publish(s);
    if (*h) return history(s);
    if (*q) return presence(s);
    if (*k) return soak(s);
    if (*b) return put(bash_completion) ? done : unknown;
    return usage;
  } catch (const CLI::Success& e) {  // help and version
    return app.exit(e);
  } catch (const CLI::Error& e) {
    fmt::print(stderr, "hw: {}\nTry: hw {}--help\n", e.what(),
               count > 1 && words[1][0] != '-' ? std::string(words[1]) + ' ' : "");
    return usage;
  } catch (const std::exception& e) {
    fmt::print(stderr, "hw: {}\n", e.what());
    return usage;
  }
}
