// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/error.hpp"

namespace hailwire {

/// The largest offset: 2^53−1, so that every JSON reader holds it exactly (RFC 8259, section 6).
inline constexpr std::uint64_t max_offset = (std::uint64_t{1} << 53) - 1;

/// A place in a channel: everything up to and including `offset` has been seen. Offsets of two epochs never compare.
struct position {
  std::string epoch;         ///< names one life of the channel's log: 1–32 of `A–Z a–z 0–9 _ -`
  std::uint64_t offset = 0;  ///< 0: before the first message

  friend bool operator==(const position&, const position&) = default;
};

/// Whether `text` can name an epoch.
bool valid_epoch(std::string_view text) noexcept;

/// Whether `name` can name a channel: 1–255 bytes of UTF-8 without control characters (U+0000–1F, 7F–9F) and without
/// the two line separators U+2028 and U+2029. Names are compared by bytes.
inline bool valid_channel(std::string_view name) noexcept {
  return !name.empty() && name.size() <= 255 && proto::printable_utf8(name);
}

/// Whether `name` can name a user: as a channel, one byte shorter, because `@name` is that user's inbox.
inline bool valid_user(std::string_view name) noexcept { return name.size() <= 254 && valid_channel(name); }

/// The bytes of a message: immutable and shared, so copying one costs a reference count. Safe to share across threads.
/// It takes 16 bytes more than what it holds, in one allocation; what it is made of is copied.
class payload {
 public:
  enum class kind : std::uint8_t {
    json,    ///< one JSON text; travels byte for byte, except that CR and LF between tokens become spaces
    text,    ///< UTF-8; a JSON string to those who read JSON, the text itself to those who do not
    binary,  ///< any bytes, with a media type
  };

  payload() = default;

  /// A JSON text. Not checked here: `publish` refuses one that is not JSON (RFC 8259) with `bad_request`.
  static payload json(std::string_view text) { return payload(kind::json, text, {}); }
  /// A text. Not checked here: `publish` refuses one that is not UTF-8 with `unsupported_media`.
  static payload text(std::string_view utf8, std::string_view content_type = {}) {
    return payload(kind::text, utf8, content_type);
  }
  static payload binary(std::string_view bytes, std::string_view content_type = {}) {
    return payload(kind::binary, bytes, content_type);
  }

  kind type() const noexcept { return data_ ? static_cast<kind>(data_->type) : kind::json; }
  /// Valid while any copy of this payload lives. A default-constructed payload is the JSON text `null`.
  std::string_view bytes() const noexcept {
    return data_ ? std::string_view(data_->text(), data_->size) : std::string_view("null");
  }
  /// The publisher's media type, or the one that its kind implies.
  std::string_view content_type() const noexcept;
  /// The same kind, bytes and media type.
  friend bool operator==(const payload& a, const payload& b) noexcept {
    return a.data_ == b.data_ ||
           (a.type() == b.type() && a.bytes() == b.bytes() && a.content_type() == b.content_type());
  }

 private:
  // The bytes stand behind it, then the media type.
  struct content : detail::intrusive_count, detail::with_tail {
    content(kind k, std::string_view bytes, std::string_view media);
    const char* text() const noexcept { return behind(this); }
    std::uint32_t media_size;
    std::uint64_t size : 56, type : 8;
  };
  payload(kind k, std::string_view bytes, std::string_view media);
  detail::intrusive_ptr<const content> data_;
};

/// A payload that lies beside the log: a message names it, and it is fetched on its own.
struct content_reference {
  std::string id;          ///< 1–64 of `A–Z a–z 0–9 _ -`
  std::uint64_t size = 0;  ///< in bytes
  std::string type;        ///< its media type

  friend bool operator==(const content_reference&, const content_reference&) = default;
};

/// Whether `id` can name an upload: 1–64 of `A–Z a–z 0–9 _ -`.
inline bool valid_content_id(std::string_view id) noexcept {
  for (char c : id)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
      return false;
  return !id.empty() && id.size() <= 64;
}

/// One entry of a channel's log.
struct message {
  std::uint64_t offset = 0;  ///< its place in the channel, from 1; 0 until a storage has given it one
  std::int64_t at = 0;       ///< when the server accepted it: Unix time in milliseconds
  std::string from;          ///< the user who published it; empty for the host and for anonymous users
  std::string type;          ///< the publisher's own word, 0–64 bytes of UTF-8
  payload data;
  /// The offset of the message that this one takes back; 0: none. One that does has neither type, payload nor content.
  std::uint64_t erases = 0;
  bool erased = false;  ///< it was taken back: `type`, `data` and `content` are as in a new message
  std::shared_ptr<const content_reference> content = {};  ///< what it names beside its payload; null: none
};

/// Where one channel is to be followed from: a position, or one of the protocol's words.
struct start {
  enum class word : std::uint8_t { at, latest, earliest, received };
  word from = word::latest;
  position at;  ///< meant only when `from` is `word::at`

  static start latest() { return {}; }
  static start earliest() { return {word::earliest, {}}; }
  static start after(position p) { return {word::at, std::move(p)}; }
};

/// Where each followed channel is to be followed from, in the order in which the URL names the channels.
using cursor = std::vector<start>;

/// The longest cursor that is read, in bytes, where nothing else is said: a line of a request head.
inline constexpr std::size_t max_cursor_size = 8192;

/// Reads a cursor for `channels` channels: one element for each, joined by `,`, or a single word for all. An element is
/// epoch`.`offset, `latest`, `earliest` or `received`. Anything else is `bad_request`, with what is wrong in its
/// message.
result<cursor> parse_cursor(std::string_view text, std::size_t channels, std::size_t longest = max_cursor_size);

namespace detail {
/// The same into `out`, in place of what was there, whose memory is used again; why not, when it cannot be read.
std::optional<failure> read_cursor(cursor& out, std::string_view text, std::size_t channels, std::size_t longest);
}  // namespace detail

/// Whether `text` has a cursor's form: one that `parse_cursor` does not take was meant as a cursor all the same. That
/// is nothing but the letters of cursors, with a point or one of the words among them.
bool resembles_cursor(std::string_view text) noexcept;

/// The longest element of a cursor, with the comma before the next: an epoch of 32 letters, a point, `max_offset`.
inline constexpr std::size_t max_cursor_element = 32 + 1 + 16 + 1;

/// Appends the cursor element of `p`: epoch`.`offset.
void append_position(std::string& out, std::string_view epoch, std::uint64_t offset);

/// Appends the cursor element that `s` was read from: a position or a word.
void append_start(std::string& out, const start& s);

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/message.ipp"
#endif
