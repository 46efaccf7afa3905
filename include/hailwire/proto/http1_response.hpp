// SPDX-License-Identifier: BSL-1.0
#pragma once

// The client's side of HTTP/1.1 (RFC 9110, RFC 9112): reading response heads and bodies. Bytes in, facts out; no I/O,
// no clock. Chunked bodies are read by `chunked_decoder`, which both sides share.
//
// What a server has no honest reason to write is refused, as it is in requests (see http1.hpp): a client that guesses
// where a response ends hands the rest of it to the next request. Less strict than for requests: a status line without
// a reason phrase or the space before it, which servers do write; a Content-Length beside a transfer coding is still
// refused, because whoever writes both has two minds about where the body ends.
//
// Distinct objects may be used by distinct threads; one object by one thread at a time.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "hailwire/error.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto::http1 {

/// A response head. All views point into the buffer that it was parsed from and die with it.
struct response_head : fields {
  int status = 0;           ///< three digits: 100–599
  int minor = 1;            ///< of HTTP/1.minor: 0 or 1; a later one is treated as 1 (RFC 9110, section 2.5)
  std::string_view reason;  ///< may be empty
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;  ///< the server keeps the connection after this response (RFC 9112, section 9.3)

  /// Whether this is an interim response, behind which the final one follows (RFC 9110, section 15.2); 101 is final.
  bool interim() const noexcept { return status < 200 && status != 101; }

  /// Empty again, but for the memory of `headers`.
  void clear() noexcept;
};

/// Reads a response head as it arrives. Reusable: `reset()` before the next head.
class response_parser {
 public:
  explicit response_parser(const limits& l = {}) : limits_(l) {}

  /// `buffered` is everything since the head's first byte: what earlier calls saw, at whatever address now, and what
  /// came since. `out` is meaningful only after `done`. A head is looked for line by line, and taken apart once it is
  /// whole; what cannot be a head is refused at its first bad byte.
  progress parse(std::string_view buffered, response_head& out);

  /// After `done`: the bytes of the head, with the empty line at its end.
  std::size_t size() const noexcept { return line_; }
  /// After `failed`: `bad_request` or `headers_too_large`, and what was wrong.
  const failure& error() const noexcept { return *error_; }

  void reset() noexcept;

 private:
  progress fail(errc code, const char* why);
  bool refuse(errc code, const char* why) { return fail(code, why), false; }

  /// RFC 9112, section 4: version, status, reason. The space before an empty reason may be missing.
  bool read_status_line(std::string_view line, response_head& out);

  bool read_header(std::string_view line, header& out);

  /// The whole head, every line of which has been found good.
  bool take_apart(std::string_view text, response_head& out);

  /// What the lines mean together (RFC 9112, section 6.3).
  bool judge(response_head& out);

  limits limits_;
  std::size_t line_ = 0;     // where the first unfinished line begins
  std::size_t scanned_ = 0;  // there are no control bytes between line_ and here
  std::size_t lines_ = 0;    // finished ones, from the status line on
  std::optional<failure> error_;
};

/// Reads the body behind a response head, whatever frames it (RFC 9112, section 6.3).
class body_reader {
 public:
  /// A body that has none.
  body_reader() = default;
  /// `method` is the request's: a response to HEAD has no body, whatever its head says.
  body_reader(const response_head& head, std::string_view method);

  /// Takes what belongs to the body from the front of `in` and appends its bytes to `out`; after `done`, what is left
  /// in `in` is the next response's. `too_large` as soon as the body has, or says that it will have, more than
  /// `max_body` bytes in all, which is the same in every call.
  progress read(std::string_view& in, std::string& out, std::uint64_t max_body);

  /// The connection has ended: `done` where that ends the body in order, `failed` where more was due.
  progress end();

  /// Whether the body ends with the connection, which can then serve nothing else.
  bool to_end() const noexcept { return how_ == framing::to_end; }
  /// After `failed`: what was wrong.
  const failure& error() const noexcept { return *error_; }

 private:
  enum class framing : std::uint8_t { none, length, chunked, to_end, failed };
  progress fail(errc code, std::string_view why);

  framing how_ = framing::none;
  std::uint64_t left_ = 0, taken_ = 0;
  chunked_decoder chunks_;
  std::optional<failure> error_;
};

/// The milliseconds of `Retry-After` where it is a number of seconds (RFC 9110, section 10.2.3), at most `most`; a date
/// is not read, because a client's clock need not be the server's.
std::optional<std::int64_t> retry_after(const response_head& h, std::int64_t most);

}  // namespace hailwire::proto::http1

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/http1_response.ipp"
#endif
