// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace hailwire {

enum class errc : unsigned char;
class hub;
class payload;
class request;
class session;
class tls_context;
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
struct long_poll;
struct short_poll;
}  // namespace transport

using transport::long_poll;
using transport::short_poll;
using transport::sse;
using transport::websocket;

template <class... Transports>
class server;

}  // namespace hailwire
