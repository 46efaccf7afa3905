// SPDX-License-Identifier: BSL-1.0
#pragma once

// The optional member of a storage for content: payloads that are too large for a log, which arrive in parts, lie
// beside the log, and are named by a message. See the end of storage_concept.hpp.

#include <concepts>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/error.hpp"

namespace hailwire {

/// Bounds on uploads. PROTOCOL.md, "Uploads".
struct content_limits {
  std::uint64_t size = 64u << 20;    ///< of one content, in bytes
  std::size_t uploads = 16;          ///< of one owner that no message names
  std::uint64_t bytes = 256u << 20;  ///< that those hold together
  std::int64_t life_ms = 3'600'000;  ///< how long one lives after its last byte, in milliseconds

  friend bool operator==(const content_limits&, const content_limits&) = default;
};

/// A content on its way: what was said of it, and what of it has arrived.
struct upload {
  std::string id;                            ///< given by the storage, 1–64 of `A–Z a–z 0–9 _ -`, that nobody can guess
  std::string owner;                         ///< who made it: opaque, 1–300 bytes
  std::string channel;                       ///< where a message may name it
  std::string type;                          ///< its media type, 1–255 bytes
  std::string key;                           ///< the owner's own word for it, 0–64 bytes; empty: none
  std::optional<std::uint64_t> length = {};  ///< the size that it is to have, once that is known
  std::uint64_t offset = 0;                  ///< so many bytes have arrived
  bool complete = false;                     ///< there are no more to come
  bool named = false;                        ///< a message names it
  std::int64_t left_ms = 0;                  ///< how long it lives from now on unless a message names it
};

/// What became of an operation on an upload, and where it stands.
struct upload_result {
  std::error_code error;
  upload state;              ///< without an error, and with `errc::conflict` of a write
  bool known = false;        ///< `open_content`: the key was known, and this is the upload that it stands for
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  upload_result() = default;
  upload_result(upload u) : state(std::move(u)) {}
  upload_result(std::error_code e) : error(e) {}
  upload_result(errc e) : error(e) {}
};

/// A part of a content.
struct content_result {
  std::error_code error;
  std::string bytes;         ///< as many as were asked for, fewer only at the content's end
  std::exception_ptr cause;  ///< as in `upload_result`

  content_result() = default;
  content_result(std::error_code e) : error(e) {}
  content_result(errc e) : error(e) {}
};

using upload_handler = detail::move_only_function<void(upload_result)>;
using content_handler = detail::move_only_function<void(content_result)>;

/// The optional member for content, of a storage that answers when it returns:
/// - `open_content(u, limits)` begins an upload of `u.owner`, `u.channel` and `u.type`, to which it gives an id; with a
///   key that this owner has given to an upload of this channel, as long as that is there, it answers with that one,
///   `known`. Over `limits.uploads`, or where `u.length` would pass `limits.bytes`: `errc::rate_limited`; where it is
///   over `limits.size`: `errc::too_large`.
/// - `find_content(id)` tells where it stands; another id: `errc::not_found`.
/// - `write_content(id, offset, bytes)` appends. Where the upload stands at another offset, or is complete:
///   `errc::conflict`, with its state. Past its length or `limits.size`: `errc::too_large`, and the upload is gone.
///   Past `limits.bytes`: `errc::rate_limited`. What was answered is kept until the process ends.
/// - `commit_content(id)` completes it, as often as it is called. Shorter than its length: `errc::bad_request`, and
///   nothing changes. What is answered is kept as messages are.
/// - `abort_content(id)` forgets it. One that a message names is `errc::conflict`.
/// - `read_content(id, from, size)` reads a complete one.
/// An append (or `append_all`) whose draft has a `content` names it, in one step with the message: unless it is
/// complete and of this channel `errc::not_found` or `errc::conflict`, as where a message names it already; but the
/// draft's key is looked up first. It goes with its message, when that is trimmed (sooner or later) or erased (at
/// once). One that no message names goes `limits.life_ms` after its last byte, and at the next start.
///
/// As to threads and order all operations on one id count as those of one channel, that no client can name; so do those
/// that open.
template <class S>
concept synchronous_content = requires(S& s, const upload& u, const content_limits& limits, std::string_view id,
                                       std::uint64_t offset, std::string_view bytes, std::size_t size) {
  { s.open_content(u, limits) } -> std::convertible_to<upload_result>;
  { s.find_content(id) } -> std::convertible_to<upload_result>;
  { s.write_content(id, offset, bytes) } -> std::convertible_to<upload_result>;
  { s.commit_content(id) } -> std::convertible_to<upload_result>;
  { s.abort_content(id) } -> std::convertible_to<upload_result>;
  { s.read_content(id, offset, size) } -> std::convertible_to<content_result>;
};
/// The same, answered later. A storage that answers when it returns may have this form too: a disk is slow.
template <class S>
concept asynchronous_content =
    requires(S& s, upload u, const content_limits& limits, std::string_view id, std::uint64_t offset, std::string bytes,
             std::size_t size, upload_handler done, content_handler read) {
      s.async_open_content(std::move(u), limits, std::move(done));
      s.async_find_content(id, std::move(done));
      s.async_write_content(id, offset, std::move(bytes), std::move(done));
      s.async_commit_content(id, std::move(done));
      s.async_abort_content(id, std::move(done));
      s.async_read_content(id, offset, size, std::move(read));
    };

}  // namespace hailwire
