// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/un.h>

#include <cassert>

#include "hailwire/detail/io/asio.hpp"
#include "hailwire/detail/io/epoll.hpp"
#include "hailwire/detail/io/proxy_protocol.hpp"
#include "hailwire/server.hpp"
#include "hailwire/storage/memory.hpp"

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

HAILWIRE_INLINE basic_server::~basic_server() {
  end();
  *self_ = nullptr;
  driver_->retire();
}

HAILWIRE_INLINE std::uint16_t basic_server::listen(const std::string& address, std::uint16_t port) {
  std::error_code ec;
  auto got = listen(address, port, ec);
  if (ec == std::errc::invalid_argument)
    throw std::system_error(ec, "listen on \"" + address + "\": an address is needed, such as 127.0.0.1 or ::1");
  if (ec) throw std::system_error(ec, "listen on " + address + " port " + std::to_string(port));
  return got;
}

HAILWIRE_INLINE void basic_server::listen_unix(const std::string& path) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::error_code ec;
  if (path.empty()) ec = std::make_error_code(std::errc::invalid_argument);
  if (path.size() >= sizeof at.sun_path) ec = std::make_error_code(std::errc::filename_too_long);
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  int d = ec ? -1 : ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (!ec && (d < 0 || ::bind(d, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0))
    ec = {errno, std::system_category()};
  begin(d, {}, ec);
  if (ec) throw std::system_error(ec, "listen on " + path);
}

HAILWIRE_INLINE void basic_server::listen_descriptor(int descriptor) {
  std::error_code ec;
  begin(descriptor, {}, ec);
  if (ec) throw std::system_error(ec, "listen on a descriptor");
}

HAILWIRE_INLINE claim basic_server::claims(std::string_view head) const {
  proto::http1::head_parser parser(gate_.settings.head);
  proto::http1::head h;
  const auto read = parser.parse(head, h);
  if (h.path.empty()) return read == proto::http1::progress::need_more ? claim::need_more : claim::no;
  std::string path;
  if (!proto::percent_decode(h.path, path, false)) return claim::no;
  if (path == gate_.settings.path || detail::is_messages(path, gate_.settings) ||
      detail::is_content(path, gate_.settings))
    return claim::yes;
  for (const auto& route : gate_.frame_routes) {
    if (!route->serves(path)) continue;
    if (read == proto::http1::progress::need_more) return claim::need_more;
    return read == proto::http1::progress::done && h.minor >= 1 && h.has_token("Upgrade", "websocket") ? claim::yes
                                                                                                       : claim::no;
  }
  return claim::no;
}

HAILWIRE_INLINE std::vector<session*> basic_server::sessions() const {
  assert(!driver_->elsewhere());
  return gate_.messages.sessions();
}

HAILWIRE_INLINE std::vector<session*> basic_server::find(std::string_view user) const {
  assert(!driver_->elsewhere());
  return gate_.messages.find(user);
}

HAILWIRE_INLINE session* basic_server::find(session_key k) const {
  assert(!driver_->elsewhere());
  return gate_.messages.find(k);
}

HAILWIRE_INLINE void basic_server::publish_all(
    const std::vector<std::string>& channels, const payload& p, const publish_options& o,
    std::function<void(std::string_view channel, std::error_code, position)> done) {
  publish_to_each(channels, p, o, std::move(done), [this](auto&&... publish_this) {
    return publish(std::forward<decltype(publish_this)>(publish_this)...);
  });
}

HAILWIRE_INLINE void basic_server::post(detail::move_only_function<void()> f) {
  driver_->post([self = self_, f = std::move(f)]() mutable {
    if (basic_server* s = *self) s->gate_.log().guarded("a posted function", [&] { f(); });
  });
}

HAILWIRE_INLINE detail::strand basic_server::get_executor() const {
  if (!executor_) throw std::logic_error("hailwire: this server runs on its own thread");
  return *executor_;
}

HAILWIRE_INLINE void basic_server::run() {
  if (!own_) throw std::logic_error("hailwire: this server runs on its executor");
  own_->run();
}

HAILWIRE_INLINE int basic_server::native_handle() const {
  if (!own_) throw std::logic_error("hailwire: this server runs on its executor");
  return own_->native_handle();
}

HAILWIRE_INLINE bool basic_server::poll() {
  if (!own_) throw std::logic_error("hailwire: this server runs on its executor");
  return own_->poll();
}

HAILWIRE_INLINE void basic_server::quit() {
  if (own_) own_->quit();
}

HAILWIRE_INLINE void basic_server::stop() {
  assert(!driver_->elsewhere());
  if (std::exchange(gate_.stopping, true)) return;
  driver_->stop_listening();
  gate_.stop();
  for (auto* c : gate_.connections()) c->shut_down();
}

HAILWIRE_INLINE server_stats basic_server::stats() const {
  assert(!driver_->elsewhere());
  return gate_.stats();
}

HAILWIRE_INLINE void basic_server::stop(detail::move_only_function<void()> done) {
  stop();
  if (!done) return;
  gate_.when_empty([this, done = std::move(done)]() mutable { post(std::move(done)); });
}

HAILWIRE_INLINE void basic_server::send_away(std::chrono::milliseconds deadline, const drain_options& o,
                                             detail::move_only_function<void()> drained) {
  assert(!driver_->elsewhere());
  gate_.drain.begin(deadline.count(), o, [this, drained = std::move(drained)]() mutable { post(std::move(drained)); });
}

HAILWIRE_INLINE void basic_server::drain(std::chrono::milliseconds deadline, const drain_options& o,
                                         detail::move_only_function<void()> done) {
  send_away(deadline, o, [this, done = std::move(done)]() mutable { stop(std::move(done)); });
}

HAILWIRE_INLINE basic_server::driving basic_server::embedded(const net::any_io_executor& ex) {
  auto d = std::make_shared<detail::embedded_driver>(ex);
  d->start();
  return {d, d->executor()};
}

HAILWIRE_INLINE basic_server::driving basic_server::on_own_thread() {
  auto d = std::make_shared<detail::own_thread_driver>();
  return {d, {}, d};
}

HAILWIRE_INLINE std::unique_ptr<detail::any_storage> basic_server::in_memory() {
  return detail::erase_storage<std::unique_ptr<memory_storage>>(std::unique_ptr<memory_storage>(new memory_storage));
}

HAILWIRE_INLINE basic_server::basic_server(driving d, std::unique_ptr<detail::any_storage> store, const options& o,
                                           const detail::linkage& linked)
    : executor_(std::move(d.executor)),
      own_(std::move(d.own)),
      driver_(std::move(d.by)),
      gate_(*driver_, std::move(store), detail::within_system(o), linked) {}

HAILWIRE_INLINE std::uint16_t basic_server::bind_and_listen(const std::string& address, std::uint16_t port,
                                                            make_layer layer, std::error_code& ec) {
  sockaddr_storage at{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(at);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(at);
  socklen_t size = 0;
  ec.clear();
  if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    size = sizeof v4;
  } else if (::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    size = sizeof v6;
  } else {
    ec = std::make_error_code(std::errc::invalid_argument);
    return 0;
  }
  int d = ::socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  if (d >= 0) ::setsockopt(d, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // An IPv6 address means just that, also `::`, so that both can be listened on.
  if (d >= 0 && at.ss_family == AF_INET6) ::setsockopt(d, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (d < 0 || ::bind(d, reinterpret_cast<sockaddr*>(&at), size) != 0) ec = {errno, std::system_category()};
  begin(d, std::move(layer), ec);
  if (ec || ::getsockname(d, reinterpret_cast<sockaddr*>(&at), &size) != 0) return 0;
  return ntohs(at.ss_family == AF_INET ? v4.sin_port : v6.sin6_port);
}

HAILWIRE_INLINE void basic_server::serve(int descriptor, make_layer layer, std::string_view already_read) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0) throw std::system_error(errno, std::system_category(), "adopt a descriptor");
  ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
  detail::owned_descriptor own(descriptor);
  detail::tune(descriptor, gate_.settings.send_buffer);
  detail::probe_silence(descriptor, gate_.settings.heartbeat, gate_.settings.heartbeat_answer);
  if (driver_->here()) return serve_here(std::move(own), layer, already_read);
  post([this, own = std::move(own), layer = std::move(layer), read = std::string(already_read)]() mutable {
    serve_here(std::move(own), layer, read);
  });
}

HAILWIRE_INLINE void basic_server::serve_here(detail::owned_descriptor own, const make_layer& layer,
                                              std::string_view already_read) {
  if (gate_.stopping) return;
  auto made = layer ? layer(*this) : nullptr;
  driver_->serve(gate_, own.release(), std::move(made), already_read);
}

HAILWIRE_INLINE void basic_server::end() {
  stop();
  gate_.destroy_all();
}

HAILWIRE_INLINE void basic_server::begin(int descriptor, make_layer layer, std::error_code& ec) {
  if (!ec && gate_.stopping) ec = operation_aborted();
  if (!ec && ::listen(descriptor, gate_.settings.backlog) != 0) ec = {errno, std::system_category()};
  if (ec) {
    if (descriptor >= 0) ::close(descriptor);
    return;
  }
  driver_->listen(gate_, descriptor, [this, layer = std::move(layer)](int accepted) {
    basic_server* by = parts_.empty() ? this : parts_[next_part_++ % parts_.size()];
    if (by == this) return serve_accepted(accepted, layer);
    by->post([by, accepted, layer] { by->serve_accepted(accepted, layer); });
  });
}

HAILWIRE_INLINE void basic_server::serve_accepted(int descriptor, const make_layer& layer) {
  if (gate_.stopping) {
    ::close(descriptor);
    return;
  }
  detail::owned_descriptor own(descriptor);
  try {
    auto made = layer ? layer(*this) : nullptr;
    if (gate_.settings.proxy_protocol && gate_.behind.trust(detail::peer_of(descriptor)))
      made = std::unique_ptr<detail::proxy_layer>(new detail::proxy_layer(std::move(made)));
    driver_->serve(gate_, own.release(), std::move(made), {});
  } catch (...) {  // no memory for one more
    gate_.log().thrown("accepting");
  }
}

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
