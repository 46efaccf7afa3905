// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/asio_in_use.hpp"

namespace hailwire {

enum class errc : unsigned char;
class hub;
class payload;
class request;
class session;
struct draft;
struct failure;
struct grant;
class shared_grant;
struct message;
struct options;
struct position;

namespace transport {
struct websocket;
struct sse;
struct ndjson;
struct long_poll;
struct short_poll;
}  // namespace transport

using transport::long_poll;
using transport::ndjson;
using transport::short_poll;
using transport::sse;
using transport::websocket;

}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

class tls_context;

template <class... Transports>
class server;

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
