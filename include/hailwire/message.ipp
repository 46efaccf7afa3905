// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/message.hpp"

namespace hailwire {

HAILWIRE_INLINE bool valid_epoch(std::string_view text) noexcept {
  if (text.empty() || text.size() > 32) return false;
  auto other = [](auto b) {
    return ~(b.with_bits(0x20).between('a', 'z') | b.between('0', '9') | b.is('_') | b.is('-'));
  };
  const char* end = text.data() + text.size();
  return detail::find_first(text.data(), end, other) == end;
}

HAILWIRE_INLINE std::string_view payload::content_type() const noexcept {
  if (data_ && data_->media_size) return {data_->text() + data_->size, data_->media_size};
  switch (type()) {
    case kind::json:
      return "application/json";
    case kind::text:
      return "text/plain;charset=utf-8";
    default:
      return "application/octet-stream";
  }
}

HAILWIRE_INLINE payload::content::content(kind k, std::string_view bytes, std::string_view media)
    : media_size(static_cast<std::uint32_t>(media.size())),
      size(bytes.size() & (~std::uint64_t{0} >> 8)),
      type(static_cast<std::uint8_t>(k)) {
  auto* to = behind(this);
  media.copy(to + bytes.copy(to, bytes.size()), media.size());
}

HAILWIRE_INLINE payload::payload(kind k, std::string_view bytes, std::string_view media)
    : data_(new(detail::with_tail::tail{bytes.size() + media.size()}) content(k, bytes, media)) {}

HAILWIRE_INLINE std::optional<failure> detail::read_cursor(cursor& out, std::string_view text, std::size_t channels,
                                                           std::size_t longest) {
  out.clear();
  if (text.size() > longest)
    return failure(errc::bad_request, "the cursor is longer than " + std::to_string(longest) + " bytes");
  auto element = [](std::string_view part, start& s) {
    if (part == "latest") return s.from = start::word::latest, true;
    if (part == "earliest") return s.from = start::word::earliest, true;
    if (part == "received") return s.from = start::word::received, true;
    auto dot = part.find('.');
    if (dot == part.npos || !valid_epoch(part.substr(0, dot))) return false;
    auto offset = proto::parse_decimal(part.substr(dot + 1), max_offset);
    if (!offset) return false;
    s.at.epoch.assign(part, 0, dot);
    s.at.offset = *offset;
    return s.from = start::word::at, true;
  };
  for (std::string_view rest = text;;) {
    auto comma = rest.find(',');
    if (!element(rest.substr(0, comma), out.emplace_back())) {
      return failure(errc::bad_request,
                     "the cursor has an element that is neither epoch.offset, latest, earliest nor received");
    }
    if (comma == rest.npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (out.size() == 1 && out[0].from != start::word::at) {
    auto word = out[0].from;
    out.clear();
    while (out.size() < channels) out.push_back({word, {}});
  }
  if (out.size() != channels) {
    return failure(errc::bad_request, "the cursor has " + std::to_string(out.size()) + " elements for " +
                                          std::to_string(channels) + " channels");
  }
  return {};
}

HAILWIRE_INLINE result<cursor> parse_cursor(std::string_view text, std::size_t channels, std::size_t longest) {
  result<cursor> out(std::in_place);
  if (auto why = detail::read_cursor(*out, text, channels, longest)) out = std::move(*why);
  return out;
}

HAILWIRE_INLINE bool resembles_cursor(std::string_view text) noexcept {
  for (char c : text)
    if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
        std::string_view("_-.,").find(c) == std::string_view::npos)
      return false;
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    if (part.find('.') != part.npos || part == "latest" || part == "earliest" || part == "received") return true;
    if (comma == rest.npos) return false;
    rest.remove_prefix(comma + 1);
  }
}

HAILWIRE_INLINE void append_position(std::string& out, std::string_view epoch, std::uint64_t offset) {
  out += epoch;
  out += '.';
  proto::append_decimal(out, offset);
}

HAILWIRE_INLINE void append_start(std::string& out, const start& s) {
  switch (s.from) {
    case start::word::at:
      return append_position(out, s.at.epoch, s.at.offset);
    case start::word::latest:
      out += "latest";
      break;
    case start::word::earliest:
      out += "earliest";
      break;
    case start::word::received:
      out += "received";
  }
}

}  // namespace hailwire
