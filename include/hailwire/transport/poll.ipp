// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/poll.hpp"

namespace hailwire::transport {

HAILWIRE_INLINE poll_answer make_poll_answer(std::size_t size, std::string_view notices, std::string_view cursor,
                                             bool more, bool keep_alive, int minor, std::string_view extra,
                                             bool head_only) {
  static constexpr std::string_view begin = "{\"messages\":[";
  poll_answer a;
  a.tail = "],\"notices\":[";
  a.tail += notices;
  a.tail += "],\"cursor\":\"";
  a.tail += cursor;
  a.tail += more ? "\",\"more\":true}" : "\"}";
  std::string headers = "Cache-Control: no-store\r\nETag: \"";
  headers += cursor;
  headers += "\"\r\n";
  headers += extra;
  proto::http1::append_response_head(a.head, 200, "application/json", begin.size() + size + a.tail.size(), keep_alive,
                                     minor, headers);
  if (head_only) {
    a.tail.clear();
  } else {
    a.head += begin;
  }
  return a;
}

HAILWIRE_INLINE std::string make_not_modified(std::string_view cursor, bool keep_alive, int minor,
                                              std::string_view extra) {
  std::string out, headers = "Cache-Control: no-store\r\nETag: \"";
  headers += cursor;
  headers += "\"\r\n";
  headers += extra;
  proto::http1::append_response_head(out, 304, {}, {}, keep_alive, minor, headers);
  return out;
}

}  // namespace hailwire::transport
