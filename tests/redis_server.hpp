// SPDX-License-Identifier: BSL-1.0
// A Redis of a test's own: on free ports, in its own directory, gone with it.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/detail/redis/resp.hpp"

/// Whether there is a Redis to test with; says so once where there is none.
inline bool redis_is_here() {
  static const bool here = std::system("redis-server --version >/dev/null 2>&1") == 0;
  return here;
}

/// Begins a test case that is left out where there is none.
#define NEEDS_REDIS()                           \
  if (!redis_is_here()) {                       \
    WARN("left out: there is no redis-server"); \
    return;                                     \
  }

/// A port that nobody has at this moment.
inline std::uint16_t free_port() {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (s < 0 || ::bind(s, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
      ::getsockname(s, reinterpret_cast<sockaddr*>(&at), &size) != 0)
    throw std::runtime_error("no free port");
  ::close(s);
  return ntohs(at.sin_port);
}

/// A program that ends with this object.
class child_process {
 public:
  explicit child_process(const std::vector<std::string>& words, const std::string& output) {
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ == 0) {
      const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(out, 1);
      ::dup2(out, 2);
      ::execvp(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~child_process() { end(SIGKILL); }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;

  void signal(int s) const { ::kill(pid_, s); }
  /// Ends it by this signal, and waits for that.
  void end(int s) {
    if (pid_ <= 0) return;
    ::kill(pid_, s);
    if (s != SIGKILL) ::kill(pid_, SIGCONT);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

/// A blocking connection, for what a test does to a Redis.
class redis_client {
 public:
  redis_client(const std::string& host, std::uint16_t port)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    ::inet_pton(AF_INET, host.c_str(), &at.sin_addr);
    const timeval most{20, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
  }
  ~redis_client() { ::close(socket_); }
  redis_client(const redis_client&) = delete;
  redis_client& operator=(const redis_client&) = delete;

  void send(const hailwire::detail::redis_command& c) {
    std::string bytes;
    c.append_to(bytes);
    for (std::size_t at = 0; at < bytes.size();) {
      const auto n = ::send(socket_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return;
      at += static_cast<std::size_t>(n);
    }
  }
  hailwire::detail::redis_reader::reply_pointer receive() {
    for (;;) {
      if (auto r = reader_.next()) return r;
      char buffer[65536];
      const auto n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n <= 0) return nullptr;
      reader_.feed({buffer, static_cast<std::size_t>(n)});
    }
  }
  /// The answer as text; an error with `!` before it, `(nothing)` when the connection is gone.
  std::string ask(const hailwire::detail::redis_command& c) {
    if (!connected_) return "(nothing)";
    send(c);
    auto r = receive();
    return r ? show(hailwire::detail::redis_reply(r.get())) : "(nothing)";
  }
  static std::string show(hailwire::detail::redis_reply r) {
    if (r.is_nil()) return "(nil)";
    if (r.is_integer()) return std::to_string(r.integer());
    if (!r.is_array()) return (r.is_error() ? "!" : "") + std::string(r.text());
    std::string out;
    for (std::size_t i = 0; i < r.size(); ++i) out += (i ? " " : "") + show(r[i]);
    return out;
  }

 private:
  int socket_;
  bool connected_ = false;
  hailwire::detail::redis_reader reader_{std::size_t{1} << 28};
};

/// One Redis.
class redis_server {
 public:
  explicit redis_server(std::vector<std::string> more = {}, const char* program = "redis-server")
      : program_(program), more_(std::move(more)) {
    char name[] = "/tmp/hailwire-redis-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("mkdtemp");
    folder_ = name;
    for (int attempt = 0; attempt < 10; ++attempt) {  // somebody else may take the port in between
      port_ = free_port();
      if (start()) return;
    }
    throw std::runtime_error("redis-server does not start: " + log());
  }
  ~redis_server() {
    process_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  redis_server(const redis_server&) = delete;
  redis_server& operator=(const redis_server&) = delete;

  std::uint16_t port() const { return port_; }
  const std::string& folder() const { return folder_; }
  std::string url(std::string_view rest = "") const {
    return "redis://127.0.0.1:" + std::to_string(port_) + std::string(rest);
  }
  std::string ask(const hailwire::detail::redis_command& c) const { return redis_client("127.0.0.1", port_).ask(c); }
  void flush() const {
    if (ask({"FLUSHALL"}) != "OK") throw std::runtime_error("FLUSHALL was refused");
  }
  void end(int signal) {
    process_->end(signal);
    process_.reset();
  }
  void signal(int s) { process_->signal(s); }
  /// True once it answers.
  bool start() {
    std::vector<std::string> words{program_};
    if (program_ != "redis-server" || std::filesystem::exists(folder_ + "/redis.conf"))
      words.push_back(folder_ + "/redis.conf");
    for (const char* w : {"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "notice"})
      words.push_back(w);
    words.insert(words.end(), {"--port", std::to_string(port_), "--dir", folder_});
    words.insert(words.end(), more_.begin(), more_.end());
    const std::size_t before = log().size();  // of an earlier start
    process_ = std::make_unique<child_process>(words, folder_ + "/output");
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (bool listens = false; std::chrono::steady_clock::now() < until; std::this_thread::yield()) {
      const std::string now = log().substr(before);
      const auto tells = [&](std::string_view what) { return now.find(what) != now.npos; };
      if (tells("Failed listening on port")) break;
      // Else who answers at the port may be another test's, which has taken it in between.
      listens = listens || tells("Ready to accept connections") || tells("Sentinel ID is");
      if (!listens) continue;
      const auto said = ask({"PING"});
      if (said == "PONG" || said.starts_with("!NOAUTH")) return true;
    }
    process_.reset();
    return false;
  }
  std::string log() const {
    std::ifstream in(folder_ + "/output");
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::string program_, folder_;
  std::vector<std::string> more_;
  std::uint16_t port_ = 0;
  std::unique_ptr<child_process> process_;
};
