// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hailwire::detail {

/// What lies between a client's bytes and those of its socket: TLS. Bytes in, bytes out; no socket.
class client_layer {
 public:
  virtual ~client_layer() = default;
  /// Begins the handshake: appends what is to be sent.
  virtual bool start(std::string& wire) = 0;
  /// Takes what the socket has brought; appends what is to be sent, and what the server has said. False: it is over,
  /// `error()` says why; what was said before still counts.
  virtual bool receive(std::span<const char> in, std::string& wire, std::string& plain) = 0;
  /// Appends what is to be sent for these bytes. Precondition: opened.
  virtual bool send(std::string_view plain, std::string& wire) = 0;
  /// Appends what says that nothing more will come.
  virtual void shut(std::string& wire) = 0;
  /// Whether the handshake is done.
  virtual bool opened() const noexcept = 0;
  /// Why it is over, in English; empty when the server has ended it in order.
  virtual const std::string& error() const noexcept = 0;
};

/// Makes the layers of a client's connections.
class client_security {
 public:
  virtual ~client_security() = default;
  /// `host` is the name or address that the server has to prove.
  virtual std::unique_ptr<client_layer> layer(const std::string& host) const = 0;
};

}  // namespace hailwire::detail
