// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/http1.hpp"

namespace hailwire::proto::http1 {

HAILWIRE_INLINE progress head_parser::parse(std::string_view buffered, head& out) {
  if (error_) return progress::failed;
  bool from_start = lines_ == 0;
  if (from_start) out.clear();
  for (auto end = std::min(buffered.size(), limits_.head);;) {
    std::size_t stop = limits_.line < end - line_ ? line_ + limits_.line + 1 : end;
    std::size_t at = detail::find_control(buffered, scanned_, stop);
    scanned_ = at;
    bool whole_line = false;
    if (at < stop) {
      if (buffered[at] != '\r')
        return fail(errc::bad_request,
                    buffered[at] == '\n' ? "a line ends with LF alone" : "a control byte in the head");
      whole_line = at + 1 < end;
      if (whole_line && buffered[at + 1] != '\n') return fail(errc::bad_request, "a CR without its LF");
    } else if (at - line_ > limits_.line) {
      return fail(errc::headers_too_large, lines_ ? "a header line is too long" : "the request line is too long");
    }
    if (!whole_line) {
      if (end == limits_.head) return fail(errc::headers_too_large, "the request head is too long");
      return progress::need_more;
    }
    const std::string_view line(buffered.data() + line_, at - line_);
    line_ = scanned_ = at + 2;
    if (lines_ == 0) {
      if (line.empty()) {
        if (++blank_lines_ > max_blank_lines) return fail(errc::bad_request, "empty lines in place of a request");
        continue;
      }
      if (!read_request_line(line, buffered.data() + end, out)) return progress::failed;
      if (from_start) read_plain_headers(buffered.data(), buffered.data() + end, out);
    } else if (!line.empty()) {
      if (lines_ > limits_.headers) return fail(errc::headers_too_large, "too many headers");
      header h;
      if (!read_header(line, h)) return progress::failed;
      if (from_start) out.headers.push_back(h);
    } else if (from_start) {
      return judge(out) ? progress::done : progress::failed;
    } else {
      // Whole at last, but its first lines were read in another call, perhaps from another place.
      line_ = scanned_ = lines_ = blank_lines_ = 0;
      return parse(buffered, out);
    }
    ++lines_;
  }
}

HAILWIRE_INLINE void head_parser::reset() noexcept {
  error_.reset();
  line_ = scanned_ = lines_ = blank_lines_ = 0;
}

HAILWIRE_INLINE progress head_parser::fail(errc code, const char* why) {
  error_.emplace(code, why);
  return progress::failed;
}

HAILWIRE_INLINE bool head_parser::read_request_line(std::string_view line, const char* end, head& out) {
  // As a header's name, a method of letters ends in its first block.
  const char* behind = hailwire::detail::find_first(line.data(), end, detail::not_name());
  const bool plain = *behind == ' ' && behind != line.data();
  auto first = plain ? static_cast<std::size_t>(behind - line.data()) : line.find(' ');
  auto last = line.rfind(' ');
  out.method = line.substr(0, first);
  if (!plain && !is_token(out.method)) return refuse(errc::bad_request, "the method is not a token");
  if (first == last) return refuse(errc::bad_request, "the request line is not method, target and version");
  out.target = line.substr(first + 1, last - first - 1);
  auto version = line.substr(last + 1);
  const char* target_end = out.target.data() + out.target.size();
  if (out.target.empty() ||
      hailwire::detail::find_first(out.target.data(), target_end, detail::not_target()) != target_end) {
    return refuse(errc::bad_request, "the target is not visible ASCII without a fragment");
  }
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (version.size() != 8 || std::memcmp(version.data(), "HTTP/", 5) != 0 || !digit(version[5]) || version[6] != '.' ||
      !digit(version[7])) {
    return refuse(errc::bad_request, "the request line does not end with an HTTP version");
  }
  if (version[5] != '1') return refuse(errc::http_version, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  out.minor = version[7] == '0' ? 0 : 1;
  // A tunnel is a proxy's business; its authority form is no resource of an origin server (RFC 9110, section 9.3.6).
  if (out.method == "CONNECT") return refuse(errc::not_implemented, "CONNECT is for proxies");
  return read_target(out);
}

HAILWIRE_INLINE bool head_parser::read_target(head& out) {
  auto rest = out.target;
  if (rest == "*") {
    if (out.method != "OPTIONS") return refuse(errc::bad_request, "the target * is for OPTIONS");
    out.path = rest;
    return true;
  }
  if (rest[0] != '/') {
    auto colon = rest.find("://");
    auto scheme = rest.substr(0, colon);
    if (colon == rest.npos || !(iequals(scheme, "http") || iequals(scheme, "https"))) {
      return refuse(errc::bad_request, "the target is neither a path nor an http URI");
    }
    rest.remove_prefix(colon + 3);
    out.host = rest.substr(0, rest.find_first_of("/?"));
    if (!parse_authority(out.host)) return refuse(errc::bad_request, "the target's host is malformed");
    rest.remove_prefix(out.host.size());
    // Nothing behind the authority is the server itself to OPTIONS (RFC 9112, section 3.2.4), else the root.
    if (rest.empty()) return out.path = out.method == "OPTIONS" ? "*" : "/", true;
  }
  auto mark = rest.find('?');
  out.path = mark == 0 ? std::string_view("/") : rest.substr(0, mark);
  if (mark != rest.npos) out.query = rest.substr(mark + 1);
  return true;
}

HAILWIRE_INLINE void head_parser::read_plain_headers(const char* buffered, const char* end, head& out) {
  const char* line = buffered + line_;
  std::size_t n = 0;
  for (; n < limits_.headers; ++n) {
    const char* at = hailwire::detail::find_first(line, end, detail::controls());
    if (end - at < 2 || at[0] != '\r' || at[1] != '\n' || static_cast<std::size_t>(at - line) > limits_.line) break;
    // The name ends at a byte that is none of its own, at the latest at the CR: so it is looked for in whole blocks.
    const char* colon = hailwire::detail::find_first(line, end, detail::not_name());
    if (*colon != ':' || colon == line) break;
    const char* from = colon + 1;
    if (*from == ' ') ++from;  // nearly all have this one space and no other
    header h{{line, static_cast<std::size_t>(colon - line)}, {from, static_cast<std::size_t>(at - from)}};
    if (*from <= ' ' || at[-1] <= ' ') h.value = trim(h.value);
    out.headers.push_back(h);
    line = at + 2;
  }
  lines_ += n;
  line_ = scanned_ = static_cast<std::size_t>(line - buffered);
}

HAILWIRE_INLINE bool head_parser::read_header(std::string_view line, header& out) {
  const std::size_t n = detail::name_size(detail::token, line);
  if (n == 0 && (line[0] == ' ' || line[0] == '\t')) return refuse(errc::bad_request, "a folded header line");
  if (n == 0 || n == line.size() || line[n] != ':')
    return refuse(errc::bad_request, "a header's name is not a token with a colon behind it");
  out = {line.substr(0, n), trim(line.substr(n + 1))};
  return true;
}

HAILWIRE_INLINE bool head_parser::judge(head& out) {
  const header *host = nullptr, *length = nullptr, *coding = nullptr;
  bool closes = false, stays = false, expects = false;
  auto only = [](const header*& slot, const header& h) { return slot ? false : (slot = &h, true); };
  for (auto& h : out.headers) {
    switch (h.name.size()) {  // few names have these sizes, so few are compared
      case 4:
        if (is_named(h.name, "host") && !only(host, h)) return refuse(errc::bad_request, "two Host headers");
        break;
      case 6:
        if (is_named(h.name, "expect") && !h.value.empty()) expects = true;
        break;
      case 10:
        if (!is_named(h.name, "connection")) break;
        if (is_named(h.value, "keep-alive")) {  // as browsers say it
          stays = true;
          break;
        }
        for (auto rest = h.value; rest.data();) {
          auto option = next_element(rest);
          if (iequals(option, "close")) closes = true;
          if (iequals(option, "keep-alive")) stays = true;
        }
        break;
      case 14:
        if (is_named(h.name, "content-length") && !only(length, h))
          return refuse(errc::bad_request, "two Content-Length headers");
        break;
      case 17:
        if (is_named(h.name, "transfer-encoding") && !only(coding, h))
          return refuse(errc::bad_request, "two Transfer-Encoding headers");
        break;
      default:
        break;
    }
  }
  // RFC 9112, section 3.2: exactly one, and well-formed, also when the absolute target's authority overrules it.
  if (!host && out.minor == 1) return refuse(errc::bad_request, "no Host header");
  if (host && !parse_authority(host->value)) return refuse(errc::bad_request, "the Host header is malformed");
  if (host && out.host.empty()) out.host = host->value;
  if (length && coding) return refuse(errc::bad_request, "both Content-Length and Transfer-Encoding");
  if (length && !read_length(length->value, out)) return false;
  if (coding && !read_coding(coding->value, out)) return false;
  out.keep_alive = !closes && (out.minor == 1 || stays);
  if (expects) {
    bool other = out.any_element("expect", [](std::string_view e) { return !iequals(e, "100-continue"); });
    if (other) return refuse(errc::expectation, "the only expectation met here is 100-continue");
    // RFC 9110, section 10.1.1: ignored from HTTP/1.0, and meaningless without a body.
    out.expect_continue = out.minor == 1 && out.has_body();
  }
  return true;
}

HAILWIRE_INLINE bool head_parser::read_length(std::string_view value, head& out) {
  if (value.empty()) return refuse(errc::bad_request, "Content-Length is empty");
  for (char c : value)
    if (c < '0' || c > '9') return refuse(errc::bad_request, "Content-Length is not a number");
  if (value.size() > 1 && value[0] == '0') return refuse(errc::bad_request, "Content-Length has leading zeros");
  out.content_length = parse_decimal(value);
  return out.content_length || refuse(errc::bad_request, "Content-Length has more than 64 bits");
}

HAILWIRE_INLINE bool head_parser::read_coding(std::string_view value, head& out) {
  if (out.minor == 0) return refuse(errc::bad_request, "Transfer-Encoding in HTTP/1.0");
  if (iequals(value, "chunked")) return out.chunked = true;
  std::string_view last;
  for (auto rest = value; rest.data();) {
    if (iequals(last, "chunked")) return refuse(errc::bad_request, "chunked is not the last transfer coding");
    last = next_element(rest);
    if (!is_token(last)) return refuse(errc::bad_request, "a transfer coding is malformed");
  }
  if (!iequals(last, "chunked")) return refuse(errc::bad_request, "the last transfer coding is not chunked");
  return refuse(errc::not_implemented, "the only transfer coding understood here is chunked");
}

HAILWIRE_INLINE progress chunked_decoder::decode(std::string_view& in, std::string& out, std::size_t max_body) {
  while (!in.empty() && state_ < state::done) {
    if (state_ == state::data) {
      auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size()));
      out.append(in.data(), n);
      in.remove_prefix(n);
      left_ -= n;
      if (left_ == 0) state_ = state::data_cr;
      continue;
    }
    if (!step(in[0], max_body)) break;
    in.remove_prefix(1);
  }
  return state_ == state::done ? progress::done : state_ == state::failed ? progress::failed : progress::need_more;
}

HAILWIRE_INLINE bool chunked_decoder::fail(errc code, const char* why) {
  error_.emplace(code, why);
  state_ = state::failed;
  return false;
}

HAILWIRE_INLINE bool chunked_decoder::step(char c, std::size_t max_body) {
  bool space = c == ' ' || c == '\t';
  if (state_ > state::size && state_ < state::size_lf && ++extensions_ > max_extensions)
    return fail(errc::bad_request, "chunk extensions are too long");
  if (state_ > state::data_lf && ++trailers_ > max_trailers)
    return fail(errc::headers_too_large, "the trailers are too long");
  switch (state_) {
    case state::size_first:
      left_ = 0;
      digits_ = 0;
      if (hex_digit(c) < 0) return fail(errc::bad_request, "a chunk does not begin with its size");
      state_ = state::size;
      [[fallthrough]];
    case state::size:
      if (int digit = hex_digit(c); digit >= 0) {
        if (++digits_ > max_digits) return fail(errc::bad_request, "a chunk's size has too many digits");
        left_ = left_ << 4 | static_cast<unsigned>(digit);
        return true;
      }
      return end_of_extension(c, "a chunk's size is not hexadecimal");
    case state::ext_space:
      if (space) return true;
      return c == ';' ? go(state::ext_begin) : fail(errc::bad_request, "white space behind a chunk's size");
    case state::ext_begin:
      if (space) return true;
      return detail::is(detail::token, c) ? go(state::ext_name)
                                          : fail(errc::bad_request, "a chunk extension has no name");
    case state::ext_name:
      if (detail::is(detail::token, c)) return true;
      if (c == '=') return go(state::ext_equals);
      if (space) return go(state::ext_named);
      return end_of_extension(c, "a chunk extension's name is malformed");
    case state::ext_named:
      if (space) return true;
      if (c == ';') return go(state::ext_begin);
      return c == '=' ? go(state::ext_equals) : fail(errc::bad_request, "white space behind a chunk extension");
    case state::ext_equals:
      if (space) return true;
      if (c == '"') return go(state::ext_quoted);
      return detail::is(detail::token, c) ? go(state::ext_value)
                                          : fail(errc::bad_request, "a chunk extension's value is malformed");
    case state::ext_value:
      if (detail::is(detail::token, c)) return true;
      return end_of_extension(c, "a chunk extension's value is malformed");
    case state::ext_quoted:
    case state::ext_escape:
      if (detail::is_control(c)) return fail(errc::bad_request, "a control byte in a chunk extension");
      if (state_ == state::ext_escape) return go(state::ext_quoted);
      return c == '"' ? go(state::ext_closed) : c == '\\' ? go(state::ext_escape) : true;
    case state::ext_closed:
      return end_of_extension(c, "a chunk extension goes on behind its closing quote");
    case state::size_lf:
      if (c != '\n') return fail(errc::bad_request, "a CR without its LF behind a chunk's size");
      if (left_ > max_body - std::min<std::uint64_t>(taken_, max_body))
        return fail(errc::too_large, "the body is too large");
      taken_ += left_;
      return go(left_ ? state::data : state::trailer_begin);
    case state::data_cr:
      return c == '\r' ? go(state::data_lf) : fail(errc::bad_request, "a chunk is longer than its size");
    case state::data_lf:
      return c == '\n' ? go(state::size_first) : fail(errc::bad_request, "a CR without its LF behind a chunk");
    case state::trailer_begin:
      if (c == '\r') return go(state::final_lf);
      return detail::is(detail::token, c) ? go(state::trailer_name)
                                          : fail(errc::bad_request, "a trailer's name is not a token");
    case state::trailer_name:
      if (detail::is(detail::token, c)) return true;
      return c == ':' ? go(state::trailer_value) : fail(errc::bad_request, "a trailer's name is not a token");
    case state::trailer_value:
      if (c == '\r') return go(state::trailer_lf);
      return detail::is_control(c) ? fail(errc::bad_request, "a control byte in a trailer") : true;
    case state::trailer_lf:
    case state::final_lf:
      if (c != '\n') return fail(errc::bad_request, "a CR without its LF in the trailers");
      return go(state_ == state::final_lf ? state::done : state::trailer_begin);
    default:
      return false;
  }
}

HAILWIRE_INLINE bool chunked_decoder::end_of_extension(char c, const char* otherwise) {
  if (c == '\r') return go(state::size_lf);
  if (c == ';') return go(state::ext_begin);
  if (c == ' ' || c == '\t') return go(state::ext_space);
  return fail(errc::bad_request, otherwise);
}

HAILWIRE_INLINE void begin_response_head(std::string& out, int status, std::string_view content_type,
                                         std::optional<std::uint64_t> content_length, bool keep_alive, int minor) {
  char head[256];  // of which a type may take 128; it is appended in one piece
  char* end = head;
  auto add = [&end](std::string_view s) { end += s.copy(end, s.size()); };
  add("HTTP/1.1 ");
  end = std::to_chars(end, std::end(head), status).ptr;
  *end++ = ' ';
  add(reason_phrase(status));
  if (!content_type.empty()) {
    add("\r\nContent-Type: ");
    if (!is_value(content_type)) content_type = "application/octet-stream";
    if (content_type.size() > 128) {
      out.append(head, end).append(content_type);
      end = head;
    } else {
      add(content_type);
    }
  }
  if (content_length && status >= 200 && status != 204) {
    add("\r\nContent-Length: ");
    end = std::to_chars(end, std::end(head), *content_length).ptr;
  }
  if (status >= 200) {
    if (!keep_alive)
      add("\r\nConnection: close");
    else if (minor == 0)
      add("\r\nConnection: keep-alive");
  }
  add("\r\n");
  out.append(head, end);
}

HAILWIRE_INLINE void append_response_head(std::string& out, int status, std::string_view content_type,
                                          std::optional<std::uint64_t> content_length, bool keep_alive, int minor,
                                          std::string_view extra_headers) {
  begin_response_head(out, status, content_type, content_length, keep_alive, minor);
  out.append(extra_headers).append("\r\n", 2);
}

HAILWIRE_INLINE void append_chunk_head(std::string& out, std::size_t size) {
  char digits[2 * sizeof size];
  char* first = std::end(digits);
  do *--first = "0123456789abcdef"[size & 15];
  while (size >>= 4);
  out.append(first, std::end(digits)).append("\r\n");
}

}  // namespace hailwire::proto::http1
