// SPDX-License-Identifier: BSL-1.0
#pragma once

// What short poll and long poll share: one JSON answer,
//
//   {"messages":[…],"notices":[…],"cursor":"…","more":true}
//
// of which the messages are shared bytes and everything else is the session's own.

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

namespace poll_detail {
/// What follows in the head of each answer, with the empty line.
void append_fields(std::string& out, std::string_view cursor, std::string_view date, std::string_view extra);
}  // namespace poll_detail

/// Each message with a comma before it, so that frames can be joined at will; the first one's comma is not sent.
inline constexpr proto::encoding poll_element{"poll", true,
                                              [](std::string& out, const proto::envelope& e) {
                                                out += ',';
                                                out += e.json;
                                              },
                                              [](std::string& out, std::string_view, std::string_view json) {
                                                out += ',';
                                                out += json;
                                              }};

inline constexpr proto::encoding poll_signal = proto::signals_of(poll_element);

/// A poll's answer around its messages.
struct poll_answer {
  std::string head;  ///< the response head, and the body up to the first message
  std::string tail;  ///< the body after the last message
};

/// Frames `size` bytes of messages (without the first comma). `notices` are objects joined by commas, `ticket`
/// may be empty. `date` and
/// `extra` are header lines, each with its CRLF. Without a body (`head_only`, for HEAD) only the head is made.
poll_answer make_poll_answer(std::size_t size, std::string_view notices, std::string_view cursor,
                             std::string_view ticket, bool more, bool keep_alive, int minor, std::string_view date,
                             std::string_view extra, bool head_only);

/// Appends the answer when there is nothing to tell a client that already has this cursor (RFC 9110, section 15.4.5).
void append_not_modified(std::string& out, std::string_view cursor, bool keep_alive, int minor, std::string_view date,
                         std::string_view extra);

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/poll.ipp"
#endif
