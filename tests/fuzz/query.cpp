// SPDX-License-Identifier: BSL-1.0
// Query strings, UTF-8 and base64 under any bytes: what is read can be written and read again, and UTF-8 gets the same
// answer whole and split.
#include <cstdlib>

#include "hailwire/detail/base/text.hpp"

using namespace hailwire::proto;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}

void append_escaped(std::string& out, std::string_view s) {
  for (char c : s) {
    auto byte = static_cast<unsigned char>(c);
    if (is_token_letter(c))
      out += c;
    else
      out += '%', out += "0123456789ABCDEF"[byte / 16], out += "0123456789ABCDEF"[byte % 16];
  }
}

void check_utf8(std::string_view text) {
  utf8_checker whole;
  bool good = whole.feed(text);
  require(valid_utf8(text) == (good && whole.complete()));
  require(!printable_utf8(text) || valid_utf8(text));
  std::size_t first = text.size() <= 64 ? 0 : text.size() / 3, last = text.size() <= 64 ? text.size() : first;
  for (std::size_t split = first; split <= last; ++split) {
    utf8_checker parts;
    bool fed = parts.feed(text.substr(0, split));
    fed = parts.feed(text.substr(split)) && fed;
    require(fed == good && parts.complete() == whole.complete());
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_utf8(text);

  if (auto pairs = parse_query(text)) {
    std::string written;
    for (const auto& [name, value] : *pairs) {
      require(valid_utf8(name) && valid_utf8(value));
      if (!written.empty()) written += '&';
      append_escaped(written, name);
      written += '=';
      append_escaped(written, value);
    }
    require(parse_query(written) == pairs);
  }
  std::string decoded;
  if (percent_decode(text, decoded, false)) require(valid_utf8(decoded) && decoded.size() <= text.size());

  if (auto bytes = decode_base64(text)) {
    std::string again;
    append_base64(again, *bytes);
    require(again == text);
  }
  std::string base64;
  append_base64(base64, text);
  require(decode_base64(base64) == text);

  if (auto n = parse_decimal(text)) {
    std::string again;
    append_decimal(again, *n);
    require(again == text);
  }
  return 0;
}
