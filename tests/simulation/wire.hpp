// SPDX-License-Identifier: BSL-1.0
#pragma once

// The client's side of the four transports, as small as it can be: bytes in, whole answers, events and frames out.
// Anything that a careful client would stumble over is told by `broken`.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/ws_frame.hpp"

namespace simulation {

namespace json = hailwire::proto::json;

/// The members of an object; none where it is not one.
inline hailwire::detail::vector<json::member> members(std::string_view text, std::string& broken) {
  hailwire::detail::vector<json::member> out;
  if (auto e = json::read_object(text, out))
    broken = std::string("bad JSON: ") + e.what + " in " + std::string(text.substr(0, 200));
  return out;
}
inline hailwire::detail::vector<json::value> elements(std::string_view text, std::string& broken) {
  hailwire::detail::vector<json::value> out;
  if (auto e = json::read_array(text, out))
    broken = std::string("bad JSON: ") + e.what + " in " + std::string(text.substr(0, 200));
  return out;
}
inline std::string_view find(const hailwire::detail::vector<json::member>& in, std::string_view name) {
  for (const auto& m : in)
    if (m.name == name) return m.content.text;
  return {};
}
inline std::string string_of(std::string_view quoted) { return json::unescape(quoted).value_or(""); }
inline std::uint64_t number_of(std::string_view text) { return hailwire::proto::parse_decimal(text).value_or(0); }

/// The head of an HTTP answer and, where it has one of a known length, its body.
struct http_answer {
  int status = 0;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;

  /// Takes an answer from the front of `in`; with `head_only` the body is left there. False while it is not all there.
  bool take(std::string& in, bool head_only, std::string& broken) {
    auto end = in.find("\r\n\r\n");
    if (end == in.npos) return false;
    fields.clear();
    std::string_view head = std::string_view(in).substr(0, end);
    if (!head.starts_with("HTTP/1.1 ") || head.size() < 12)
      return broken = "not an HTTP answer: " + std::string(head.substr(0, 80)), false;
    status = static_cast<int>(number_of(head.substr(9, 3)));
    for (auto at = head.find("\r\n"); at != head.npos;) {
      auto next = head.find("\r\n", at + 2);
      auto line = head.substr(at + 2, next == head.npos ? head.npos : next - at - 2);
      auto colon = line.find(": ");
      if (colon == line.npos) return broken = "bad header line: " + std::string(line), false;
      std::string name(line.substr(0, colon));
      for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      fields[name] = line.substr(colon + 2);
      at = next;
    }
    std::size_t size = 0;
    if (auto length = fields.find("content-length"); length != fields.end())
      size = static_cast<std::size_t>(number_of(length->second));
    if (!head_only && in.size() < end + 4 + size) return false;
    body = head_only ? std::string() : in.substr(end + 4, size);
    in.erase(0, end + 4 + body.size());
    return true;
  }
};

/// One event of a stream (WHATWG HTML, section 9.2.6). Comments alone make none.
struct sse_event {
  std::string name, data, id;
  bool has_id = false;

  bool take(std::string& in, std::string& broken) {
    *this = {};
    for (;;) {
      auto end = in.find("\n\n");
      if (end == in.npos) return false;
      bool some = false;
      std::string_view block = std::string_view(in).substr(0, end);
      while (!block.empty()) {
        auto line = block.substr(0, block.find('\n'));
        block.remove_prefix(std::min(block.size(), line.size() + 1));
        if (has_id) broken = "a line behind the id of an event: " + std::string(line.substr(0, 80));
        if (line.starts_with(':') || line.starts_with("retry: ")) continue;
        some = true;
        if (line.starts_with("event: ")) {
          name = line.substr(7);
        } else if (line.starts_with("id: ")) {
          id = line.substr(4), has_id = true;
        } else if (line.starts_with("data: ")) {
          if (!data.empty()) broken = "an event with two data lines";
          data = line.substr(6);
        } else {
          broken = "not a line of an event stream: " + std::string(line.substr(0, 80));
          return false;
        }
      }
      in.erase(0, end + 2);
      if (data.empty()) broken = "a block without data";  // which several clients take for an empty event
      if (some) return true;
    }
  }
};

/// One frame of a server, which never masks (RFC 6455, section 5.1).
struct ws_message {
  hailwire::proto::ws_opcode what{};
  std::string payload;

  bool take(std::string& in, std::string& broken) {
    hailwire::proto::ws_frame_head head;
    std::size_t size = hailwire::proto::read_frame_head(in, head);
    if (!size) return false;
    if (head.masked || head.reserved || !head.fin || head.size > (1 << 24))
      return broken = "a frame that a server does not send", false;
    if (in.size() < size + head.size) return false;
    what = head.what;
    payload = in.substr(size, static_cast<std::size_t>(head.size));
    in.erase(0, size + static_cast<std::size_t>(head.size));
    return true;
  }
};

/// `text` as a query's value.
inline std::string escaped(std::string_view text) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
        c == '_') {
      out += c;
    } else {
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

}  // namespace simulation
