// SPDX-License-Identifier: BSL-1.0
#pragma once

// A message as it stands in a Stream (script.hpp has the layout).

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/redis/script.hpp"
#include "hailwire/detail/redis/slot.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

inline char redis_kind(payload::kind k) noexcept {
  return k == payload::kind::json ? 'j' : k == payload::kind::text ? 't' : 'b';
}

/// The media type, unless it is the one that the kind implies.
inline std::string_view redis_media(const payload& p) noexcept {
  const auto own = p.type() == payload::kind::json   ? std::string_view("application/json")
                   : p.type() == payload::kind::text ? std::string_view("text/plain;charset=utf-8")
                                                     : std::string_view("application/octet-stream");
  return p.content_type() == own ? std::string_view() : p.content_type();
}

/// What stands for a payload beside its key: SHA-1 of its kind, its media type as in its head, a line break and its
/// bytes, so that any program can make it. Who makes two payloads with one digest deceives nobody but himself: keys are
/// a user's own. Of a message that names a content a line break and the content's id come behind them.
inline std::string redis_fingerprint(const payload& p, const content_reference* content = nullptr) {
  std::string text;
  text.reserve(p.bytes().size() + 64);
  text += redis_kind(p.type());
  text.append(redis_media(p)).append("\n").append(p.bytes());
  if (content) text.append("\n").append(content->id);
  return redis_digest(text);
}

/// Appends a word of a head: bytes up to the space, `%` and DEL are escaped.
inline void append_redis_word(std::string& out, std::string_view word) {
  append_percent(out, word, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7F; });
}

/// Takes the words between spaces one after the other; behind the last one they are empty.
class redis_words {
 public:
  explicit redis_words(std::string_view text) noexcept : rest_(text), more_(!text.empty()) {}
  std::string_view next() noexcept {
    const auto end = std::min(rest_.find(' '), rest_.size());
    const auto out = rest_.substr(0, end);
    more_ = end < rest_.size();
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return out;
  }
  /// Whether another word follows the last one.
  bool more() const noexcept { return more_; }
  /// The next word as a number; false where it is none.
  template <class Number>
  bool number(Number& n) noexcept {
    const auto word = next();
    const auto [end, ec] = std::from_chars(word.data(), word.data() + word.size(), n);
    return ec == std::errc() && end == word.data() + word.size();
  }
  bool text(std::string& out) { return read_percent(next(), out); }

 private:
  std::string_view rest_;
  bool more_;
};

/// The head of a message in a Stream. `erases`: the offset that it takes back; 0: none.
inline std::string redis_head(const draft& d, std::uint64_t erases = 0) {
  std::string out = std::to_string(d.at);
  out += ' ';
  out += redis_kind(d.data.type());
  for (std::string_view word : {std::string_view(d.from), std::string_view(d.type), redis_media(d.data)}) {
    out += ' ';
    append_redis_word(out, word);
  }
  if (!erases && !d.content) return out;
  out += ' ';
  if (erases) out += std::to_string(erases);
  if (!d.content) return out;
  out.append(" ").append(d.content->id).append(" ").append(std::to_string(d.content->size)).append(" ");
  append_redis_word(out, d.content->type);
  return out;
}

/// Reads a head and a payload; all but the offset. False for what is no head.
inline bool read_redis_message(std::string_view head, std::string_view data, message& m) {
  redis_words words(head);
  std::string media;
  if (!words.number(m.at)) return false;
  const auto kind = words.next();
  if (kind.size() != 1 || !words.text(m.from) || !words.text(m.type) || !words.more() || !words.text(media))
    return false;
  if (words.more()) {
    if (const auto erases = words.next(); !erases.empty() && !redis_words(erases).number(m.erases)) return false;
    if (words.more()) {
      auto content = std::make_shared<content_reference>();
      content->id = words.next();
      if (!words.number(content->size) || !words.text(content->type)) return false;
      if (!content->id.empty()) m.content = std::move(content);
    }
  }
  switch (kind[0]) {
    case 'j':
      m.data = data.empty() ? payload() : payload::json(data);
      return true;
    case 't':
      m.data = payload::text(data, media);
      return true;
    case 'b':
      m.data = payload::binary(data, media);
      return true;
    default:
      return false;
  }
}

}  // namespace hailwire::detail
