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
  void clear() noexcept {
    response_head fresh;
    fresh.headers.swap(headers);
    fresh.headers.clear();
    *this = std::move(fresh);
  }
};

/// Reads a response head as it arrives. Reusable: `reset()` before the next head.
class response_parser {
 public:
  explicit response_parser(const limits& l = {}) : limits_(l) {}

  /// `buffered` is everything since the head's first byte: what earlier calls saw, at whatever address now, and what
  /// came since. `out` is meaningful only after `done`. A head is looked for line by line, and taken apart once it is
  /// whole; what cannot be a head is refused at its first bad byte.
  progress parse(std::string_view buffered, response_head& out) {
    if (error_) return progress::failed;
    const auto end = std::min(buffered.size(), limits_.head);
    for (;;) {
      const std::size_t stop = limits_.line < end - line_ ? line_ + limits_.line + 1 : end;
      const std::size_t at = detail::find_control(buffered, scanned_, stop);
      scanned_ = at;
      // The first bytes say what is spoken, long before the line ends.
      constexpr std::string_view begin = "HTTP/1.";
      if (lines_ == 0 && !begin.starts_with(buffered.substr(0, std::min(begin.size(), buffered.size()))))
        return fail(errc::bad_request, "the answer is not HTTP/1.1");
      if (at == stop) {
        if (at - line_ > limits_.line) return fail(errc::headers_too_large, "a line of the response head is too long");
        if (end == limits_.head) return fail(errc::headers_too_large, "the response head is too long");
        return progress::need_more;
      }
      if (buffered[at] != '\r')
        return fail(errc::bad_request, buffered[at] == '\n' ? "a line of the response head ends with LF alone"
                                                            : "a control byte in the response head");
      if (at + 1 == end) {
        if (end == limits_.head) return fail(errc::headers_too_large, "the response head is too long");
        return progress::need_more;
      }
      if (buffered[at + 1] != '\n') return fail(errc::bad_request, "a CR without its LF in the response head");
      const std::string_view line(buffered.data() + line_, at - line_);
      const bool last = line.empty();
      if (lines_ > 0 && !last) {
        if (lines_ > limits_.headers) return fail(errc::headers_too_large, "too many headers in the response");
        header ignored;
        if (!read_header(line, ignored)) return progress::failed;
      } else if (lines_ == 0 && !read_status_line(line, out)) {
        return progress::failed;
      }
      line_ = scanned_ = at + 2;
      ++lines_;
      if (last) return take_apart(buffered.substr(0, line_), out) ? progress::done : progress::failed;
    }
  }

  /// After `done`: the bytes of the head, with the empty line at its end.
  std::size_t size() const noexcept { return line_; }
  /// After `failed`: `bad_request` or `headers_too_large`, and what was wrong.
  const failure& error() const noexcept { return *error_; }

  void reset() noexcept {
    error_.reset();
    line_ = scanned_ = lines_ = 0;
  }

 private:
  progress fail(errc code, const char* why) {
    error_.emplace(code, why);
    return progress::failed;
  }
  bool refuse(errc code, const char* why) { return fail(code, why), false; }

  /// RFC 9112, section 4: version, status, reason. The space before an empty reason may be missing.
  bool read_status_line(std::string_view line, response_head& out) {
    auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (line.size() < 12 || !digit(line[7]) || line[8] != ' ' || !digit(line[9]) || !digit(line[10]) ||
        !digit(line[11]) || (line.size() > 12 && line[12] != ' '))
      return refuse(errc::bad_request, "the answer does not begin with a status line");
    out.minor = line[7] == '0' ? 0 : 1;
    out.status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    if (out.status < 100 || out.status > 599) return refuse(errc::bad_request, "a status outside of 100 to 599");
    out.reason = line.size() > 13 ? line.substr(13) : std::string_view();
    return true;
  }

  bool read_header(std::string_view line, header& out) {
    const std::size_t n = detail::name_size(detail::token, line);
    if (n == 0 || n == line.size() || line[n] != ':')
      return refuse(errc::bad_request, "a header's name is not a token with a colon behind it");
    out.name = line.substr(0, n);
    out.value = trim(line.substr(n + 1));
    return true;
  }

  /// The whole head, every line of which has been found good.
  bool take_apart(std::string_view text, response_head& out) {
    out.clear();
    for (bool first = true; text.size() > 2; first = false) {
      const auto line = text.substr(0, text.find('\r'));
      text.remove_prefix(line.size() + 2);
      if (first) {
        read_status_line(line, out);
        continue;
      }
      header h;
      read_header(line, h);
      out.headers.push_back(h);
    }
    return judge(out);
  }

  /// What the lines mean together (RFC 9112, section 6.3).
  bool judge(response_head& out) {
    const header *length = nullptr, *coding = nullptr;
    for (auto& h : out.headers) {
      if (iequals(h.name, "content-length")) {
        // A list of equal values is what a proxy makes of two lines (RFC 9110, section 8.6); lines that differ are two
        // ends for one body.
        if (length && length->value != h.value) return refuse(errc::bad_request, "two Content-Length headers");
        length = &h;
      } else if (iequals(h.name, "transfer-encoding")) {
        if (coding) return refuse(errc::bad_request, "two Transfer-Encoding headers");
        coding = &h;
      }
    }
    if (length && coding) return refuse(errc::bad_request, "both Content-Length and Transfer-Encoding");
    if (length) {
      out.content_length = parse_decimal(length->value);
      if (!out.content_length) return refuse(errc::bad_request, "Content-Length is not a number");
    }
    if (coding) {
      if (out.minor == 0) return refuse(errc::bad_request, "Transfer-Encoding in HTTP/1.0");
      if (!iequals(coding->value, "chunked"))
        return refuse(errc::not_implemented, "the only transfer coding understood here is chunked");
      out.chunked = true;
    }
    out.keep_alive =
        !out.has_token("connection", "close") && (out.minor == 1 || out.has_token("connection", "keep-alive"));
    return true;
  }

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
  body_reader(const response_head& head, std::string_view method) {
    if (method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304) return;
    if (head.chunked) {
      how_ = framing::chunked;
    } else if (head.content_length) {
      how_ = *head.content_length ? framing::length : framing::none;
      left_ = *head.content_length;
    } else {
      how_ = framing::to_end;
    }
  }

  /// Takes what belongs to the body from the front of `in` and appends its bytes to `out`; after `done`, what is left
  /// in `in` is the next response's. `too_large` as soon as the body has, or says that it will have, more than
  /// `max_body` bytes in all, which is the same in every call.
  progress read(std::string_view& in, std::string& out, std::uint64_t max_body) {
    switch (how_) {
      case framing::none:
        return progress::done;
      case framing::failed:
        return progress::failed;
      case framing::chunked: {
        const auto p = chunks_.decode(in, out, static_cast<std::size_t>(std::min<std::uint64_t>(max_body, SIZE_MAX)));
        if (p == progress::done) how_ = framing::none;
        if (p == progress::failed) fail(chunks_.error().code, chunks_.error().message);
        return p;
      }
      default:
        break;
    }
    const bool counted = how_ == framing::length;
    if ((counted ? left_ : in.size()) > max_body - std::min(taken_, max_body))
      return fail(errc::too_large, "the body is too large");
    const auto n = static_cast<std::size_t>(counted ? std::min<std::uint64_t>(left_, in.size()) : in.size());
    out.append(in.data(), n);
    in.remove_prefix(n);
    taken_ += n;
    if (!counted) return progress::need_more;
    left_ -= n;
    if (left_ == 0) how_ = framing::none;
    return left_ ? progress::need_more : progress::done;
  }

  /// The connection has ended: `done` where that ends the body in order, `failed` where more was due.
  progress end() {
    if (how_ == framing::to_end) how_ = framing::none;
    return how_ == framing::none ? progress::done : fail(errc::bad_request, "the connection ended within a body");
  }

  /// Whether the body ends with the connection, which can then serve nothing else.
  bool to_end() const noexcept { return how_ == framing::to_end; }
  /// After `failed`: what was wrong.
  const failure& error() const noexcept { return *error_; }

 private:
  enum class framing : std::uint8_t { none, length, chunked, to_end, failed };
  progress fail(errc code, std::string_view why) {
    if (!error_) error_.emplace(code, why);
    how_ = framing::failed;
    return progress::failed;
  }

  framing how_ = framing::none;
  std::uint64_t left_ = 0, taken_ = 0;
  chunked_decoder chunks_;
  std::optional<failure> error_;
};

/// The milliseconds of `Retry-After` where it is a number of seconds (RFC 9110, section 10.2.3), at most `most`; a date
/// is not read, because a client's clock need not be the server's.
inline std::optional<std::int64_t> retry_after(const response_head& h, std::int64_t most) {
  auto value = h.find("retry-after");
  if (value.empty() || value.find_first_not_of("0123456789") != value.npos) return {};
  std::int64_t seconds = 0;
  for (char c : value) seconds = std::min<std::int64_t>(seconds * 10 + (c - '0'), most / 1000);
  return seconds * 1000;
}

}  // namespace hailwire::proto::http1
