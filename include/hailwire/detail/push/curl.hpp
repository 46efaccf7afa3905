// SPDX-License-Identifier: BSL-1.0
#pragma once

// Requests to push services: libcurl's multi interface on the host's executor. libcurl says which descriptors and which
// time it waits for; Asio waits, and says what has come.
//
// Asio gets a duplicate of each descriptor: libcurl closes its own when it likes, and a descriptor whose number is used
// again would otherwise be mistaken for the one before it.
//
// Threads: everything on the executor, where no two handlers run at once. Lifetime: handlers hold the object; `close`
// ends every transfer, and no answer comes after it.

#include <curl/curl.h>  // brings sockets along
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/push/addresses.hpp"
#include "hailwire/detail/push/delivery.hpp"
#include "hailwire/version.hpp"

namespace hailwire {

/// How a notifier reaches its service.
struct push_network {
  /// Authorities that are trusted in place of the system's, as PEM text; empty: the system's.
  std::string ca = {};
  /// `http://host:port` of a proxy that makes a tunnel; empty: none, whatever the environment says. It is the proxy
  /// then that looks names up and connects, and has to see to it that no name leads into the host's own network.
  std::string proxy = {};
};

namespace detail::inline HAILWIRE_ASIO_NAMESPACE {

/// See the top of this file.
class curl_multi : public std::enable_shared_from_this<curl_multi> {
 public:
  using answered = push_transport::answered;

  /// Throws `std::runtime_error` where libcurl cannot be used.
  curl_multi(const net::any_io_executor& e, push_network n, std::chrono::milliseconds request_time)
      : executor_(e), timer_(e), network_(std::move(n)), request_time_(request_time) {
    // Safe from several threads at once only since libcurl 7.84, so within the one guarded by the language.
    static const CURLcode begun = ::curl_global_init(CURL_GLOBAL_DEFAULT);
    if (begun == CURLE_OK) multi_ = ::curl_multi_init();
    if (!multi_) throw std::runtime_error("hailwire: push: libcurl cannot be used");
    ::curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &on_socket);
    ::curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    ::curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &on_timer);
    ::curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    ::curl_multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    ::curl_multi_setopt(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS, max_connections);
    ::curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, max_connections);
  }
  ~curl_multi() { close(); }
  curl_multi(const curl_multi&) = delete;

  void send(push_request r, answered done) {
    auto t = std::make_unique<transfer>();
    t->request = std::move(r);
    t->done = std::move(done);
    t->easy = ::curl_easy_init();
    if (!t->easy || !prepare(*t)) return refuse(std::move(t->done), "no request could be made");
    CURL* key = t->easy;
    transfers_.emplace(key, std::move(t));
    if (::curl_multi_add_handle(multi_, key) == CURLM_OK) return;
    auto gone = take(key);
    refuse(std::move(gone->done), "no request could be begun");
  }
  void close() {
    if (!multi_) return;
    timer_.cancel();
    for (auto& [key, t] : transfers_) ::curl_multi_remove_handle(multi_, key);
    transfers_.clear();
    ::curl_multi_cleanup(std::exchange(multi_, nullptr));
    for (auto& [s, w] : watches_) w->end();
    watches_.clear();
  }

 private:
  static constexpr long max_connections = 16;
  static constexpr std::size_t max_body = 64 * 1024;  // an answer is a short JSON text, or nothing

  struct transfer {
    ~transfer() {
      if (easy) ::curl_easy_cleanup(easy);
      ::curl_slist_free_all(headers);
    }
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    push_request request;
    answered done;
    std::string body;
    char error[CURL_ERROR_SIZE] = "";
    bool not_public = false;
  };
  // A descriptor that libcurl waits for.
  struct watch {
    watch(const net::any_io_executor& e, curl_socket_t s) : socket(s), waiter(e) {}
    void end() {
      wanted = 0;
      net_error_code ignored;
      waiter.close(ignored);
    }
    curl_socket_t socket;
    net::posix::basic_stream_descriptor<net::any_io_executor> waiter;
    int wanted = 0;  // CURL_POLL_IN and _OUT
    bool reading = false, writing = false;
  };

  // Answers later, as `send` promises.
  void refuse(answered done, const char* why) {
    net::post(executor_, [self = shared_from_this(), done = std::move(done), why]() mutable {
      if (!self->multi_) return;
      push_response r;
      r.error = why;
      done(std::move(r));
    });
  }
  std::unique_ptr<transfer> take(CURL* key) {
    auto found = transfers_.find(key);
    auto t = std::move(found->second);
    transfers_.erase(found);
    return t;
  }

  bool prepare(transfer& t) {
    bool fine = true;
    auto set = [&](CURLoption option, auto value) {
      if (::curl_easy_setopt(t.easy, option, value) != CURLE_OK) fine = false;
    };
    const push_request& r = t.request;
    for (const std::string& line : r.headers) {
      curl_slist* longer = ::curl_slist_append(t.headers, line.c_str());
      if (!longer) return false;
      t.headers = longer;
    }
    set(CURLOPT_URL, r.url.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, long{CURLPROTO_HTTP | CURLPROTO_HTTPS});
#endif
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROXY, network_.proxy.c_str());  // an empty one: libcurl does not look into the environment either
    if (!network_.proxy.empty()) set(CURLOPT_HTTPPROXYTUNNEL, 1L);
    set(CURLOPT_NOPROXY, "");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(r.body.size()));
    set(CURLOPT_POSTFIELDS, r.body.data());
    set(CURLOPT_HTTPHEADER, t.headers);
    set(CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_2TLS});
    set(CURLOPT_PIPEWAIT, 1L);
    set(CURLOPT_USERAGENT, user_agent());
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(request_time_.count()));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min<std::int64_t>(request_time_.count(), 10'000)));
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, &t);
    set(CURLOPT_ERRORBUFFER, t.error);
    set(CURLOPT_OPENSOCKETFUNCTION, &on_open);
    set(CURLOPT_OPENSOCKETDATA, &t);
    if (!network_.proxy.empty()) t.request.public_only = false;  // it is the proxy that is connected to
    if (!network_.ca.empty()) {
      curl_blob pem{network_.ca.data(), network_.ca.size(), CURL_BLOB_NOCOPY};
      set(CURLOPT_CAINFO_BLOB, &pem);
      set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
    }
    return fine;
  }
  static const char* user_agent() noexcept {
#define HAILWIRE_TEXT(x) #x
#define HAILWIRE_NUMBER(x) HAILWIRE_TEXT(x)
    return "hailwire/" HAILWIRE_NUMBER(HAILWIRE_VERSION_MAJOR) "." HAILWIRE_NUMBER(HAILWIRE_VERSION_MINOR);
#undef HAILWIRE_NUMBER
#undef HAILWIRE_TEXT
  }

  // ---- what libcurl calls; an exception must not pass through it --------------------------------------------------

  static std::size_t on_body(char* bytes, std::size_t, std::size_t n, void* data) noexcept {
    auto& t = *static_cast<transfer*>(data);
    if (t.body.size() + n > max_body) return 0;
    try {
      t.body.append(bytes, n);
      return n;
    } catch (...) {
      return 0;
    }
  }
  static curl_socket_t on_open(void* data, curlsocktype, curl_sockaddr* to) noexcept {
    auto& t = *static_cast<transfer*>(data);
    if (t.request.public_only && !leads_outside(*to)) {
      t.not_public = true;
      return CURL_SOCKET_BAD;
    }
    return ::socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
  }
  static bool leads_outside(const curl_sockaddr& to) noexcept {
    proto::ip_address a;
    if (to.family == AF_INET) {
      sockaddr_in in;
      std::memcpy(&in, &to.addr, sizeof in);
      std::uint8_t four[4];
      std::memcpy(four, &in.sin_addr, sizeof four);
      a = proto::ip_address::from_v4(four);
    } else if (to.family == AF_INET6) {
      sockaddr_in6 in;
      std::memcpy(&in, &to.addr, sizeof in);
      std::memcpy(a.bytes.data(), &in.sin6_addr, a.bytes.size());
    } else {
      return false;
    }
    return is_public(a);
  }
  static int on_socket(CURL*, curl_socket_t s, int what, void* data, void* known) noexcept {
    auto& self = *static_cast<curl_multi*>(data);
    try {
      if (what == CURL_POLL_REMOVE) {
        self.forget(s);
        return 0;
      }
      if (!known) self.forget(s);  // a number that is used again
      auto found = self.watches_.find(s);
      if (found == self.watches_.end()) {
        const int twin = ::fcntl(s, F_DUPFD_CLOEXEC, 0);
        if (twin < 0) return -1;
        auto w = std::make_shared<watch>(self.executor_, s);
        net_error_code ec;
        w->waiter.assign(twin, ec);
        if (ec) {
          ::close(twin);
          return -1;
        }
        found = self.watches_.emplace(s, std::move(w)).first;
        ::curl_multi_assign(self.multi_, s, &self);
      }
      found->second->wanted = what;
      self.wait(found->second);
      return 0;
    } catch (...) {
      return -1;
    }
  }
  static int on_timer(CURLM*, long ms, void* data) noexcept {
    auto& self = *static_cast<curl_multi*>(data);
    try {
      self.timer_.cancel();
      if (ms < 0) return 0;
      self.timer_.expires_after(std::chrono::milliseconds(ms));
      self.timer_.async_wait([held = self.shared_from_this()](net_error_code ec) {
        if (!ec) held->act(CURL_SOCKET_TIMEOUT, 0);
      });
      return 0;
    } catch (...) {
      return -1;
    }
  }

  // ------------------------------------------------------------------------------------------------------------------

  void forget(curl_socket_t s) {
    auto found = watches_.find(s);
    if (found == watches_.end()) return;
    found->second->end();
    watches_.erase(found);
  }
  void wait(const std::shared_ptr<watch>& w) {
    if ((w->wanted & CURL_POLL_IN) && !w->reading) {
      w->reading = true;
      w->waiter.async_wait(net::posix::descriptor_base::wait_read, [self = shared_from_this(), w](net_error_code ec) {
        w->reading = false;
        self->came(w, ec, CURL_POLL_IN, CURL_CSELECT_IN);
      });
    }
    if ((w->wanted & CURL_POLL_OUT) && !w->writing) {
      w->writing = true;
      w->waiter.async_wait(net::posix::descriptor_base::wait_write, [self = shared_from_this(), w](net_error_code ec) {
        w->writing = false;
        self->came(w, ec, CURL_POLL_OUT, CURL_CSELECT_OUT);
      });
    }
  }
  void came(const std::shared_ptr<watch>& w, net_error_code ec, int asked, int what) {
    if (!(w->wanted & asked)) return;  // libcurl waits for it no longer
    act(w->socket, ec ? CURL_CSELECT_ERR : what);
    if (w->wanted && !ec) wait(w);
  }
  void act(curl_socket_t s, int what) {
    if (!multi_) return;
    int running = 0;
    ::curl_multi_socket_action(multi_, s, what, &running);
    int left = 0;
    while (multi_) {  // an answer may be the reason to close
      CURLMsg* m = ::curl_multi_info_read(multi_, &left);
      if (!m) break;
      if (m->msg == CURLMSG_DONE) finish(m->easy_handle, m->data.result);
    }
  }
  void finish(CURL* key, CURLcode code) {
    ::curl_multi_remove_handle(multi_, key);
    auto t = take(key);
    push_response r;
    if (code == CURLE_OK) {
      long status = 0;
      curl_off_t after = 0;
      ::curl_easy_getinfo(key, CURLINFO_RESPONSE_CODE, &status);
      ::curl_easy_getinfo(key, CURLINFO_RETRY_AFTER, &after);
      r.status = static_cast<int>(status);
      r.retry_after = std::max<std::int64_t>(after, 0);
      r.body = std::move(t->body);
    } else if (t->not_public) {
      r.error = "its name leads to an address that is not public";
      r.forbidden = true;
    } else {
      r.error = t->error[0] ? t->error : ::curl_easy_strerror(code);
    }
    t->done(std::move(r));
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  push_network network_;
  std::chrono::milliseconds request_time_;
  CURLM* multi_ = nullptr;
  std::unordered_map<CURL*, std::unique_ptr<transfer>> transfers_;
  std::unordered_map<curl_socket_t, std::shared_ptr<watch>> watches_;
};

}  // namespace detail::inline HAILWIRE_ASIO_NAMESPACE
}  // namespace hailwire
