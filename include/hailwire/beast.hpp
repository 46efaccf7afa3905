// SPDX-License-Identifier: BSL-1.0
#pragma once

// For a host that is a Boost.Beast server: hands over a connection whose request Beast has parsed. Opt in by including
// this header and linking `hailwire::boost`.
//
//     http::request<http::string_body> request;
//     co_await http::async_read(stream, buffer, request);
//     if (hailwire::claims(live, request) == hailwire::claim::yes)
//       return hailwire::adopt_request(live, std::move(stream), request, buffer);
//
// hailwire reads HTTP by itself, so the request is written out again, in front of what is left in the buffer. That is
// once a connection: what follows on it is read by hailwire alone, and requests that it does not claim go to `on_http`.

#ifndef HAILWIRE_USE_BOOST_ASIO
#error "hailwire/beast.hpp is for servers on Boost.Asio: link hailwire::boost, or define HAILWIRE_USE_BOOST_ASIO"
#endif

#include <boost/asio/buffers_iterator.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hailwire/adopt_stream.hpp"

namespace hailwire::detail::inline boost_asio {

inline std::string_view text_of(boost::core::string_view s) { return {s.data(), s.size()}; }

/// A request as it may have come. `framed`: its body follows as the head says, unread so far; else the body is here,
/// whole, and however it came the head says how long it is.
template <class Body, class Fields>
std::string write_request(const boost::beast::http::request<Body, Fields>& r, bool framed) {
  namespace http = boost::beast::http;
  std::string out;
  out.append(text_of(r.method_string())).append(" ").append(text_of(r.target()));
  out.append(r.version() == 10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  for (const auto& field : r) {
    if (!framed && (field.name() == http::field::content_length || field.name() == http::field::transfer_encoding))
      continue;
    out.append(text_of(field.name_string())).append(": ").append(text_of(field.value())).append("\r\n");
  }
  if constexpr (requires { r.body().data(), r.body().size(); }) {
    if (!framed && (r.body().size() || r.has_content_length() || r.chunked()))
      out.append("Content-Length: ").append(std::to_string(r.body().size())).append("\r\n");
    out.append("\r\n");
    if (!framed) out.append(reinterpret_cast<const char*>(r.body().data()), r.body().size());
  } else {
    static_assert(
        std::is_same_v<Body, http::empty_body>,
        "hailwire: a request to hand over has a body in memory: http::string_body, http::vector_body<char> or "
        "http::empty_body");
    out.append("\r\n");
  }
  return out;
}

/// `text`, then the buffer's bytes, then what the stream still brings.
template <class Stream, class Buffer>
void adopt_text(basic_server& server, Stream stream, std::string text, const Buffer& rest,
                std::optional<tls_peer> tls) {
  const auto left = rest.data();
  text.append(net::buffers_begin(left), net::buffers_end(left));
  if constexpr (requires { server.adopt(stream.release_socket(), text); }) {
    server.adopt(stream.release_socket(), text);
  } else if constexpr (requires(net_error_code& ec) { stream.release(ec); }) {
    server.adopt(std::move(stream), text);
  } else {
    adopt_stream(server, std::move(stream), text, std::move(tls));
  }
}

}  // namespace hailwire::detail::inline boost_asio

namespace hailwire::inline boost_asio {

/// Whether a request is for this server, as `basic_server::claims` says of its text. Safe from any thread once paths
/// are set.
template <class Body, class Fields>
claim claims(const basic_server& server, const boost::beast::http::request<Body, Fields>& request) {
  return server.claims(detail::write_request(request, true));
}

/// Serves a connection, beginning with a request that Beast has read from it, whole, and `rest`, what is left in the
/// buffer that Beast read with. The stream is a socket, a `beast::tcp_stream` or a TLS stream over one, as for
/// `adopt_stream`, whose other conditions hold too; one without TLS is served as by `basic_server::adopt`, which costs
/// less.
///
/// A request with an `empty_body` may have one that was not read: it is taken from `rest` and the stream.
template <class Stream, class Body, class Fields, class Buffer>
void adopt_request(basic_server& server, Stream stream, const boost::beast::http::request<Body, Fields>& request,
                   const Buffer& rest, std::optional<tls_peer> tls = {}) {
  detail::adopt_text(server, std::move(stream),
                     detail::write_request(request, std::is_same_v<Body, boost::beast::http::empty_body>), rest,
                     std::move(tls));
}

/// The same for a parser that has read the head and nothing of the body, or all of it.
template <class Stream, class Body, class Allocator, class Buffer>
void adopt_request(basic_server& server, Stream stream,
                   const boost::beast::http::request_parser<Body, Allocator>& parser, const Buffer& rest,
                   std::optional<tls_peer> tls = {}) {
  detail::adopt_text(server, std::move(stream), detail::write_request(parser.get(), !parser.is_done()), rest,
                     std::move(tls));
}

}  // namespace hailwire::inline boost_asio
