// SPDX-License-Identifier: BSL-1.0
#pragma once

// The server's side of HTTP/1.1 (RFC 9110, RFC 9112): reading request heads and chunked bodies, writing response heads.
// Bytes in, facts out; no I/O, no clock.
//
// Theory of operation
//
// Two parties that disagree on where a request ends can be played against each other (request smuggling), so the rule
// of this file is: what a sender has no honest reason to write is refused, also where the RFC would let a recipient
// mend it. There is one line end (CRLF), one way to frame a body at a time, one Host.
//
// `head_parser` is fed the whole buffer each time, but reads on from where it stopped. It works line by line: a scan
// finds the CR that ends the line and stops at any control byte on its way (so rubbish fails at its first bad byte,
// not at a time limit), then the line is taken apart. What a line means together with others (framing, Host) is judged
// once, at the end of the head. A head that comes in one piece is read once. One that trickles in is checked line by
// line as it comes and read a second time when it is whole, because the buffer may have moved in between and the
// views must point into the last one: twice the work, never the square of it.
//
// Every verdict depends only on the bytes before it, so how they were cut into reads changes nothing. After a failure
// the framing cannot be trusted: answer and close.
//
// Distinct objects may be used by distinct threads; one object by one thread at a time.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "hailwire/detail/base/simd.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto::http1 {

/// How much of a request head is read before it is refused with `headers_too_large`. In bytes, except `headers`.
struct limits {
  std::size_t line = 8192;    ///< one line without its CRLF; RFC 9112, section 3 asks for 8000 of a request line
  std::size_t head = 16384;   ///< all of it with the empty line at its end; what Node.js takes, and room for a 4 KiB
                              ///< cursor, cookies and a token
  std::size_t headers = 100;  ///< header lines; what Apache httpd takes, browsers send about 20
};

/// How far a reader of bytes has come.
enum class progress : std::uint8_t {
  need_more,  ///< all bytes were good; call again with more
  done,
  failed,  ///< see `error()`; stays so until `reset()`
};

/// Reads a request head as it arrives. Reusable: `reset()` before the next head.
class head_parser {
 public:
  explicit head_parser(const limits& l = {}) : limits_(l) {}

  /// `buffered` is everything since the head's first byte: what earlier calls saw, at whatever address now, and what
  /// came since. `out` is meaningful only after `done` and is best reused, for its memory. An empty line or a few
  /// before the request line are skipped (RFC 9112, section 2.2) and counted as part of the head.
  progress parse(std::string_view buffered, head& out);

  /// After `done`: the bytes of the head, with skipped lines before it and the empty line at its end.
  std::size_t size() const noexcept { return line_; }

  /// After `failed`: the code of the answer, and what was wrong.
  const failure& error() const noexcept { return *error_; }

  void reset() noexcept;

 private:
  /// Clients of old sent one CRLF too many after a POST's body; more than a few are somebody else's bytes.
  static constexpr std::size_t max_blank_lines = 4;

  progress fail(errc code, const char* why);
  bool refuse(errc code, const char* why) { return fail(code, why), false; }

  /// RFC 9112, section 3: method, target and version with single spaces between.
  /// `end` is that of what has arrived, behind the line's CR.
  bool read_request_line(std::string_view line, const char* end, head& out);

  /// RFC 9112, section 3.2: origin form, absolute form, or asterisk form.
  bool read_target(head& out);

  /// RFC 9112, section 5: no white space before the colon or the name. The scan has seen to the value's bytes.
  bool read_header(std::string_view line, header& out);

  /// Takes the lines that are whole up to one that is not as nearly all are: with a name of letters, digits, `-` and
  /// `.`, and within the limits. What is wrong or rare is left to the loop of `parse`.
  void read_plain_headers(const char* buffered, const char* end, head& out);

  /// What the lines mean together.
  bool judge(head& out);

  /// RFC 9110, section 8.6: digits. A list of equal values or leading zeros could be mended, but no client sends
  /// either, and an intermediary may read the one as its first or last and the other as octal.
  bool read_length(std::string_view value, head& out);

  /// RFC 9112, sections 6.1 and 6.3: a request's last coding is `chunked`, once, else its end cannot be known.
  bool read_coding(std::string_view value, head& out);

  limits limits_;
  std::size_t line_ = 0;         // where the first unfinished line begins
  std::size_t scanned_ = 0;      // there are no control bytes between line_ and here
  std::size_t lines_ = 0;        // finished ones, from the request line on
  std::size_t blank_lines_ = 0;  // before the request line
  std::optional<failure> error_;
};

/// Reads a chunked body (RFC 9112, section 7.1) as it arrives. Extensions are checked and ignored, trailers checked
/// and dropped: a field that may matter belongs in the head (RFC 9110, section 6.5.1), and one that was let through
/// could smuggle what the head's checks refuse.
class chunked_decoder {
 public:
  /// Consumes from `in` and appends the body's bytes to `out`; after `done`, what is left in `in` is the next request.
  /// `too_large` as soon as a chunk announces more than `max_body` bytes in all. Nothing is reserved on a claim.
  progress decode(std::string_view& in, std::string& out, std::size_t max_body);

  /// After `failed`: the code of the answer, and what was wrong.
  const failure& error() const noexcept { return *error_; }

  void reset() noexcept { *this = {}; }

 private:
  /// Over all chunks of a body: nobody uses extensions, and RFC 9112, section 7.1.1 asks for a limit on their total.
  static constexpr std::size_t max_extensions = 4096;
  /// As much as a head's line may have by default; dropped anyway.
  static constexpr std::size_t max_trailers = 8192;
  /// Digits of 64 bits, so a size cannot overflow.
  static constexpr int max_digits = 16;

  // In the order of the grammar. `ext_` states: white space before `;`, the name, white space behind it, the value
  // (token or quoted string), what follows a closing quote.
  enum class state : std::uint8_t {
    size_first,
    size,
    ext_space,
    ext_begin,
    ext_name,
    ext_named,
    ext_equals,
    ext_value,
    ext_quoted,
    ext_escape,
    ext_closed,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_begin,
    trailer_name,
    trailer_value,
    trailer_lf,
    final_lf,
    done,
    failed,
  };

  bool fail(errc code, const char* why);
  bool go(state next) noexcept { return state_ = next, true; }

  bool step(char c, std::size_t max_body);

  /// Behind a size or a complete extension: the line's end, another extension, or white space before one.
  bool end_of_extension(char c, const char* otherwise);

  std::uint64_t left_ = 0;   // of this chunk
  std::uint64_t taken_ = 0;  // announced by all chunks so far
  std::size_t extensions_ = 0, trailers_ = 0;
  int digits_ = 0;
  state state_ = state::size_first;
  std::optional<failure> error_;
};

/// What a client with `expect_continue` waits for.
inline constexpr std::string_view continue_response = "HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a response head with its empty line. The version is always 1.1, the server's own (RFC 9110, section 6.2);
/// `minor` is the request's, and decides how keeping the connection is said: HTTP/1.0 must be told, 1.1 is told only
/// of the end. `extra_headers` are lines, each with its CRLF (`Date` among them: there is no clock here), trusted as
/// they are. `content_type` may come from a publisher: one that is no header value becomes `application/octet-stream`.
/// Precondition: `status` has three digits. No length is written where none may stand (1xx, 204: RFC 9110,
/// section 8.6).
void append_response_head(std::string& out, int status, std::string_view content_type,
                          std::optional<std::uint64_t> content_length, bool keep_alive, int minor,
                          std::string_view extra_headers);

/// The same without other lines and the empty one, for who appends them himself.
void begin_response_head(std::string& out, int status, std::string_view content_type,
                         std::optional<std::uint64_t> content_length, bool keep_alive, int minor);

/// Appends what stands before a chunk's `size` bytes; CRLF follows them (RFC 9112, section 7.1).
void append_chunk_head(std::string& out, std::size_t size);
/// What ends a chunked body in order.
inline constexpr std::string_view last_chunk = "0\r\n\r\n";

}  // namespace hailwire::proto::http1

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/http1.ipp"
#endif
