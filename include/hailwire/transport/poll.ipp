// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/poll.hpp"

namespace hailwire::transport::poll_detail {

HAILWIRE_INLINE void append_fields(std::string& out, std::string_view cursor, std::string_view date,
                                   std::string_view extra) {
  using namespace std::string_view_literals;
  out.append("Cache-Control: no-store\r\nETag: \""sv).append(cursor).append("\"\r\n"sv);
  out.append(date).append(extra).append("\r\n"sv);
}

}  // namespace hailwire::transport::poll_detail

namespace hailwire::transport {

HAILWIRE_INLINE poll_answer make_poll_answer(std::size_t size, std::string_view notices, std::string_view cursor,
                                             std::string_view ticket, bool more, bool keep_alive, int minor,
                                             std::string_view date, std::string_view extra, bool head_only) {
  static constexpr std::string_view begin = "{\"messages\":[";
  poll_answer a;
  a.tail = "],\"notices\":[";
  a.tail += notices;
  a.tail += "],\"cursor\":\"";
  a.tail += cursor;
  a.tail += '"';
  if (!ticket.empty()) a.tail.append(",\"ticket\":\"").append(ticket) += '"';
  a.tail += more ? ",\"more\":true}" : "}";
  proto::http1::begin_response_head(a.head, 200, "application/json", begin.size() + size + a.tail.size(), keep_alive,
                                    minor);
  poll_detail::append_fields(a.head, cursor, date, extra);
  if (head_only) {
    a.tail.clear();
  } else {
    a.head += begin;
  }
  return a;
}

HAILWIRE_INLINE void append_not_modified(std::string& out, std::string_view cursor, bool keep_alive, int minor,
                                         std::string_view date, std::string_view extra) {
  proto::http1::begin_response_head(out, 304, {}, {}, keep_alive, minor);
  poll_detail::append_fields(out, cursor, date, extra);
}

}  // namespace hailwire::transport
