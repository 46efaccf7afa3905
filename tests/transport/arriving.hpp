// SPDX-License-Identifier: BSL-1.0
// Requests for transports, without a connection around them.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "catch.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/envelope.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace arriving {

/// A GET of the live resource; `fields` are lines with their CRLF.
struct request {
  explicit request(std::string query, const std::string& fields = {}, const std::string& version = "1.1")
      : text("GET /live" + query + " HTTP/" + version + "\r\nHost: h\r\n" + fields + "\r\n") {
    hailwire::proto::http1::head_parser parser;
    REQUIRE(parser.parse(text, head) == hailwire::proto::http1::progress::done);
    auto read = hailwire::proto::parse_query(head.query);
    REQUIRE(read);
    pairs = *read;
  }
  hailwire::transport::live_request operator*() const { return {head, pairs, settings}; }

  std::string text;
  hailwire::proto::http1::head head;
  hailwire::proto::query_pairs pairs;
  hailwire::options settings;
};

/// What a transport began, as the stream that it is.
struct begun {
  explicit begun(hailwire::transport::accepted b) : all(std::move(b)) {
    CHECK_FALSE(all.once);
    REQUIRE(all.live);
  }
  hailwire::transport::stream& operator*() const { return *all.live; }
  hailwire::transport::stream* operator->() const { return &*all.live; }
  std::string open(std::string_view extra = {}) {
    std::string out;
    all.open(out, extra);
    return out;
  }
  hailwire::transport::accepted all;
};

/// The seventh message of a channel `chat`, as a transport's encoding writes it.
inline std::string encode(const hailwire::proto::encoding& how, const hailwire::payload& p) {
  hailwire::message m{7, 1000, {}, {}, p};
  std::string json, out;
  hailwire::proto::append_message(json, "chat", m);
  how.append(out, {"chat", "epoch", m, json});
  return out;
}

}  // namespace arriving
