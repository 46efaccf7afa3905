// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/io/driver.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE io_result read_descriptor(int descriptor, std::span<char> into) {
  ssize_t n = ::recv(descriptor, into.data(), into.size(), 0);
  if (n > 0)
    return {io_result::status::done, static_cast<std::size_t>(n), {}, static_cast<std::size_t>(n) < into.size()};
  if (n == 0) return {io_result::status::end, 0, {}};
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {io_result::status::again, 0, {}};
  return {io_result::status::failed, 0, {errno, std::system_category()}};
}

HAILWIRE_INLINE io_result write_descriptor(int descriptor, std::span<const std::span<const char>> pieces) {
  constexpr std::size_t most = 64;  // any number of pieces works; more than these are a second call
  iovec list[most];
  std::size_t n = 0, total = 0;
  for (auto& p : pieces) {
    if (p.empty() || n == most) continue;
    list[n++] = {const_cast<char*>(p.data()), p.size()};
    total += p.size();
  }
  if (n == 0) return {};
  ssize_t taken;
  if (n == 1) {
    taken = ::send(descriptor, list[0].iov_base, list[0].iov_len, MSG_NOSIGNAL);
  } else {
    msghdr message{};
    message.msg_iov = list;
    message.msg_iovlen = n;
    taken = ::sendmsg(descriptor, &message, MSG_NOSIGNAL);
  }
  if (taken >= 0)
    return {static_cast<std::size_t>(taken) < total ? io_result::status::again : io_result::status::done,
            static_cast<std::size_t>(taken),
            {}};
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS)
    return {io_result::status::again, 0, {}};
  return {io_result::status::failed, 0, {errno, std::system_category()}};
}

HAILWIRE_INLINE std::uint64_t unacknowledged_by_peer([[maybe_unused]] int descriptor) noexcept {
#ifdef SIOCOUTQ
  int waiting = 0;
  if (::ioctl(descriptor, SIOCOUTQ, &waiting) == 0 && waiting > 0) return static_cast<std::uint64_t>(waiting);
#endif
  return 0;
}

HAILWIRE_INLINE std::uint64_t acknowledged_by_peer(int descriptor) noexcept {
#if defined(__linux__) && defined(TCP_INFO)
  // RFC 4898, tcpEStatsAppHCThruOctetsAcked: `tcpi_bytes_acked` since Linux 4.1, which the C library's structure of
  // this name does not have; and the kernel's own header cannot be included beside that.
  constexpr std::size_t at = 120;
  unsigned char info[at + sizeof(std::uint64_t)];
  socklen_t size = sizeof info;
  if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, &size) == 0 && size == sizeof info) {
    std::uint64_t bytes;
    std::memcpy(&bytes, info + at, sizeof bytes);
    return bytes;
  }
#endif
  return (std::uint64_t{1} << 62) - unacknowledged_by_peer(descriptor);
}

HAILWIRE_INLINE std::int64_t silence_of_peer([[maybe_unused]] int descriptor) noexcept {
#if defined(__linux__) && defined(TCP_INFO)
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) return info.tcpi_last_ack_recv;
#endif
  return 0;
}

HAILWIRE_INLINE void probe_silence(int descriptor, std::chrono::seconds silence, std::chrono::seconds answer) noexcept {
  const auto seconds = [](std::int64_t n, std::int64_t most) {
    return static_cast<int>(std::clamp<std::int64_t>(n, 1, most));
  };
  constexpr int probes = 2;
  // Linux takes 1 to 32,767 seconds for either.
  const int on = 1, idle = seconds(silence.count(), 32'767), between = seconds(answer.count() / probes, 32'767);
  ::setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
#ifdef TCP_KEEPIDLE
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
#endif
}

HAILWIRE_INLINE void bound_sending(int descriptor, std::size_t send_buffer) noexcept {
  if (send_buffer == 0) return;
  int most = static_cast<int>(std::min<std::size_t>(send_buffer, INT_MAX));
  ::setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
#ifdef TCP_NOTSENT_LOWAT
  int unsent = std::min(most, unsent_in_kernel);
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
#endif
}

HAILWIRE_INLINE void tune(int descriptor, std::size_t send_buffer) noexcept {
  int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  bound_sending(descriptor, send_buffer);
}

HAILWIRE_INLINE std::string peer_of(int descriptor) {
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  char text[INET6_ADDRSTRLEN] = "";
  if (::getpeername(descriptor, reinterpret_cast<sockaddr*>(&at), &size) != 0) return "unknown";
  if (at.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(at);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return std::string(text) + ':' + std::to_string(ntohs(v4.sin_port));
  }
  if (at.ss_family == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(at);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return '[' + std::string(text) + "]:" + std::to_string(ntohs(v6.sin6_port));
  }
  return at.ss_family == AF_UNIX ? "unix" : "unknown";
}

HAILWIRE_INLINE options within_system(options o) noexcept {
  const long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  if (!o.max_memory && pages > 0 && size > 0)
    o.max_memory = static_cast<std::size_t>(pages) / 2 * static_cast<std::size_t>(size);
  rlimit most{};
  if (o.max_connections || ::getrlimit(RLIMIT_NOFILE, &most) != 0 || most.rlim_cur == RLIM_INFINITY) return o;
  const auto n = static_cast<std::size_t>(most.rlim_cur);
  o.max_connections = n < 512 ? n / 2 : n - 256;
  return o;
}

HAILWIRE_INLINE descriptor_connection::descriptor_connection(server_state& g, owned_descriptor& d, bool layered)
    : connection(g), descriptor_(d.release()) {
  note(layered_note, layered);
}

HAILWIRE_INLINE descriptor_connection::~descriptor_connection() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

HAILWIRE_INLINE bool descriptor_connection::read_some(bool to_end) {
  for (int round = 0; round < 2; ++round) {
    if (closed()) return true;
    if (!wants_read()) return false;
    auto buffer = by().buffer();
    io_result r = layered() ? layer()->read(descriptor_, buffer) : read_descriptor(descriptor_, buffer);
    switch (r.what) {
      case io_result::status::again:
        return layer_wants(), true;
      case io_result::status::later:
        return false;
      case io_result::status::end:
        return ended(), true;
      case io_result::status::failed:
        return failed(r.error), true;
      case io_result::status::done:
        receive(buffer.first(r.bytes));
    }
    if (!to_end && r.emptied) return true;
  }
  return false;
}

HAILWIRE_INLINE bool descriptor_connection::write_ready() {
  if (closed()) return false;
  const bool again = noted(layer_waits_note);
  note(layer_waits_note, false);
  if (waits_to_write()) {
    if (again) write({});  // what the layer has taken goes before anything else
    writable(noted(layer_waits_note));
  }
  return again && !noted(layer_waits_note) && !closed();
}

HAILWIRE_INLINE std::size_t descriptor_connection::write(std::span<const std::span<const char>> pieces) {
  if (closed()) return 0;
  io_result r = layered() ? layer()->write(descriptor_, pieces) : write_descriptor(descriptor_, pieces);
  if (layered()) {
    const bool waits = layer()->wants_write();
    note(layer_waits_note, waits);
    if (waits) hold_back();
  }
  if (r.what == io_result::status::failed) failed(r.error);
  return r.bytes;
}

HAILWIRE_INLINE void descriptor_connection::watch(bool, bool) {
  if (!closed()) arm();
}

HAILWIRE_INLINE void descriptor_connection::shut_write() {
  if (!layered()) return static_cast<void>(::shutdown(descriptor_, SHUT_WR));
  layer()->shut_write(descriptor_);
  layer_wants();
}

HAILWIRE_INLINE void descriptor_connection::shut() {
  if (closed()) return;
  if (layered()) {
    layer()->shut_write(descriptor_);  // however it ends, its peer is told so if the socket takes it
    server().messages.channels.beside_bytes -= layer()->footprint();
  }
  closing();
  ::close(std::exchange(descriptor_, -1));
}

HAILWIRE_INLINE void descriptor_connection::keep_alive(std::chrono::seconds silence) {
  if (!closed()) probe_silence(descriptor_, silence, server().settings.heartbeat_answer);
}

HAILWIRE_INLINE bool descriptor_connection::input_waits() const noexcept {
  int waiting = 0;
  return !closed() && ::ioctl(descriptor_, FIONREAD, &waiting) == 0 && waiting > 0;
}

HAILWIRE_INLINE std::string descriptor_connection::peer() const {
  if (layered())
    if (auto known = layer()->source(); !known.empty()) return std::string(known);
  return closed() ? "unknown" : peer_of(descriptor_);
}

HAILWIRE_INLINE void descriptor_connection::layer_wants() {
  if (!layered() || !layer()->wants_write()) return;
  note(layer_waits_note, true);
  arm();
}

HAILWIRE_INLINE listener::listener(server_state& g, int descriptor, move_only_function<void(int)> accepted)
    : gate_(&g), descriptor_(descriptor), accepted_(std::move(accepted)) {
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
  bound_sending(descriptor_, g.settings.send_buffer);
  probe_silence(descriptor_, g.settings.heartbeat, g.settings.heartbeat_answer);
}

HAILWIRE_INLINE listener::~listener() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

HAILWIRE_INLINE void listener::accept() {
  // A burst of connections does not keep the others waiting.
  for (int n = 0; n < 64 && !gate_->stopping; ++n) {
    if (gate_->door.shut()) {
      gate_->log()(full_, gate_->now(), {log_level::warning, "accept_paused"},
                   "accepting paused: too many connections");
      return pause();
    }
    int s = ::accept4(descriptor_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s < 0) {
      int why = errno;
      if (why == EAGAIN || why == EWOULDBLOCK) return;
      if (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM) {
        // The waiting connection keeps the socket readable, so waiting for readability would spin.
        const std::error_code none(why, std::system_category());
        gate_->log()({log_level::warning, "accept_paused", {}, {}, {}, none}, "accepting paused: " + none.message());
        return pause();
      }
      continue;  // the peer was gone before it was accepted
    }
    int on = 1;
    ::setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on,
                 sizeof on);  // batching is ours; on a Unix socket there is no such thing
    try {
      accepted_(s);
    } catch (...) {  // no memory for one more
      gate_->log().thrown("accepting");
    }
  }
}

HAILWIRE_INLINE void listener::pause() {
  paused_ = true;
  gate_->messages.arm(*this, gate_->now() + 200);
}

HAILWIRE_INLINE void listener::expire(std::int64_t) {
  paused_ = false;
  accept();
  if (!paused_) resume();
}

}  // namespace hailwire::detail
