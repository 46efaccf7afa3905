// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/http1_response.hpp"

namespace hailwire::proto::http1 {

HAILWIRE_INLINE void response_head::clear() noexcept {
  response_head fresh;
  fresh.headers.swap(headers);
  fresh.headers.clear();
  *this = std::move(fresh);
}

HAILWIRE_INLINE progress response_parser::parse(std::string_view buffered, response_head& out) {
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

HAILWIRE_INLINE void response_parser::reset() noexcept {
  error_.reset();
  line_ = scanned_ = lines_ = 0;
}

HAILWIRE_INLINE progress response_parser::fail(errc code, const char* why) {
  error_.emplace(code, why);
  return progress::failed;
}

HAILWIRE_INLINE bool response_parser::read_status_line(std::string_view line, response_head& out) {
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

HAILWIRE_INLINE bool response_parser::read_header(std::string_view line, header& out) {
  const std::size_t n = detail::name_size(detail::token, line);
  if (n == 0 || n == line.size() || line[n] != ':')
    return refuse(errc::bad_request, "a header's name is not a token with a colon behind it");
  out.name = line.substr(0, n);
  out.value = trim(line.substr(n + 1));
  return true;
}

HAILWIRE_INLINE bool response_parser::take_apart(std::string_view text, response_head& out) {
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

HAILWIRE_INLINE bool response_parser::judge(response_head& out) {
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

HAILWIRE_INLINE body_reader::body_reader(const response_head& head, std::string_view method) {
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

HAILWIRE_INLINE progress body_reader::read(std::string_view& in, std::string& out, std::uint64_t max_body) {
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

HAILWIRE_INLINE progress body_reader::end() {
  if (how_ == framing::to_end) how_ = framing::none;
  return how_ == framing::none ? progress::done : fail(errc::bad_request, "the connection ended within a body");
}

HAILWIRE_INLINE progress body_reader::fail(errc code, std::string_view why) {
  if (!error_) error_.emplace(code, why);
  how_ = framing::failed;
  return progress::failed;
}

HAILWIRE_INLINE std::optional<std::int64_t> retry_after(const response_head& h, std::int64_t most) {
  auto value = h.find("retry-after");
  if (value.empty() || value.find_first_not_of("0123456789") != value.npos) return {};
  std::int64_t seconds = 0;
  for (char c : value) seconds = std::min<std::int64_t>(seconds * 10 + (c - '0'), most / 1000);
  return seconds * 1000;
}

}  // namespace hailwire::proto::http1
