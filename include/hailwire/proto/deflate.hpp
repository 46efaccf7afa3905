// SPDX-License-Identifier: BSL-1.0
#pragma once

// permessage-deflate (RFC 7692) over zlib, in either role: the agreement on it, inflating what comes in, deflating what
// goes out. Include it to use it and link ZLIB::ZLIB; nothing else in hailwire includes <zlib.h>.
//
// Theory of operation. A compressed message is a piece of a deflate stream that was flushed to a byte boundary and lost
// the last four bytes of that flush, 00 00 FF FF (RFC 7692, section 7.2.1). Each side either keeps its stream's window
// from message to message ("context takeover": better compression) or begins anew with each.
//
// Keeping it forces a deflater upon every connection and another output for each, so by default a server does not:
// then one compressed frame serves all subscribers of a message. And it asks clients not to keep theirs, so that an
// inflater exists only while a message is arriving. What an idle connection holds beyond its objects (zlib's own
// figures, zconf.h; w and m are window bits and memory level):
//   by default                                        nothing
//   the client keeps its context                      2^w + 7 KiB to inflate: 39 KiB at w = 15
//   per connection, the server keeps its context      2^(w+2) + 2^(m+9) + 6 KiB to deflate: 262 KiB at 15 and 8,
//                                                     from the first message it sends on
//
// A few bytes can inflate to a thousand times as many, so the inflater works in pieces of 16 KiB and stops within the
// piece that goes over the limit: a bomb costs the message limit, not what it would become.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <zlib.h>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/proto/ws_frame.hpp"
#include "hailwire/proto/ws_handshake.hpp"

namespace hailwire::proto {

/// What a host wants of permessage-deflate: the four parameters of RFC 7692, section 7.1, and how hard to work.
struct deflate_options {
  /// Whether a server deflates for each connection on its own. If not, it always answers `server_no_context_takeover`
  /// with the full window, so that one frame serves everyone, and the two `server_…` parameters here mean nothing to
  /// it.
  bool per_connection = false;
  bool server_no_context_takeover = false;
  /// True by default: an idle connection then holds no window. RFC 7692, section 7.1.1.2 recommends clients to support
  /// it.
  bool client_no_context_takeover = true;
  int server_max_window_bits = 15;  ///< 9–15: zlib cannot deflate with a window of 2^8 bytes
  int client_max_window_bits = 15;  ///< 8–15; a server can ask this only of clients that say they understand it
  int level = 6;                    ///< 1 (fast) – 9 (small); zlib's own default
  int memory_level = 8;             ///< 1–9; zlib's own default
  /// A server's messages below this many bytes go as they are. Message objects that stand alone shrink by 10, 30 and 50
  /// % at 100, 256 and 1,024 bytes (chat and prices, measured): below 256 that saves less than a packet's own headers
  /// weigh.
  std::size_t threshold = 256;
};

/// What both sides agreed on.
struct deflate_params {
  bool server_no_context_takeover = false, client_no_context_takeover = false;
  int server_max_window_bits = 15, client_max_window_bits = 15;
};

namespace deflate_detail {

/// The parameters of an offer or an answer as they stand there.
struct named {
  bool server_no_context = false, client_no_context = false, server_bits_named = false, client_bits_named = false;
  int server_bits = 15, client_bits = 15;
};

/// RFC 7692, section 7.1: empty when a parameter is unknown, doubled, or its value is not what it must be. Only an
/// offer may name client_max_window_bits without a value (section 7.1.2.2).
inline std::optional<named> read_params(const ws_extension& extension, bool offer) {
  named out;
  auto flag = [](const ws_extension_param& p, bool& seen) {
    bool good = !p.has_value && !seen;
    seen = true;
    return good;
  };
  auto bits = [](const ws_extension_param& p, bool& seen, int& to) {
    auto value = parse_decimal(p.value, 15);
    if (seen || !value || *value < 8) return false;
    to = static_cast<int>(*value);
    return seen = true;
  };
  for (const auto& p : extension.params) {
    bool good = false;
    if (p.name == "server_no_context_takeover")
      good = flag(p, out.server_no_context);
    else if (p.name == "client_no_context_takeover")
      good = flag(p, out.client_no_context);
    else if (p.name == "server_max_window_bits")
      good = bits(p, out.server_bits_named, out.server_bits);
    else if (p.name == "client_max_window_bits" && offer && !p.has_value)
      good = flag(p, out.client_bits_named);
    else if (p.name == "client_max_window_bits")
      good = bits(p, out.client_bits_named, out.client_bits);
    if (!good) return {};
  }
  return out;
}

inline void append_flag(std::string& out, bool wanted, std::string_view name) {
  if (wanted) (out += "; ") += name;
}
inline void append_bits(std::string& out, bool wanted, std::string_view name, int bits) {
  if (wanted) append_decimal(((out += "; ") += name) += '=', static_cast<std::uint64_t>(bits));
}

template <int (*End)(z_stream*)>
struct closer {
  void operator()(z_stream* s) const noexcept { End(s), delete s; }
};

}  // namespace deflate_detail

/// A server's side of the agreement (RFC 7692, section 5.1): takes the first of the client's offers that it can keep.
/// Returns the parameters and puts the answer's value into `answer`. Empty when there is no such offer; the connection
/// then goes on uncompressed. An offer that is malformed in any way is passed over; so is one that asks for a smaller
/// server window than `options` lets it have: below 15 when frames are shared, below 9 always.
inline std::optional<deflate_params> accept_deflate(const hailwire::detail::vector<ws_extension>& offers,
                                                    const deflate_options& options, std::string& answer) {
  for (const auto& offer : offers) {
    if (offer.name != "permessage-deflate") continue;
    auto asked = deflate_detail::read_params(offer, true);
    if (!asked || asked->server_bits < (options.per_connection ? 9 : 15)) continue;
    deflate_params agreed;
    agreed.server_no_context_takeover =
        !options.per_connection || options.server_no_context_takeover || asked->server_no_context;
    agreed.client_no_context_takeover = options.client_no_context_takeover || asked->client_no_context;
    if (options.per_connection)
      agreed.server_max_window_bits = std::min(asked->server_bits, options.server_max_window_bits);
    // A client that does not name it may not understand it (section 7.1.2.2), and its value is a promise only once
    // answered.
    if (asked->client_bits_named)
      agreed.client_max_window_bits = std::min(asked->client_bits, options.client_max_window_bits);
    answer = "permessage-deflate";
    using namespace deflate_detail;
    append_flag(answer, agreed.server_no_context_takeover, "server_no_context_takeover");
    append_flag(answer, agreed.client_no_context_takeover, "client_no_context_takeover");
    append_bits(answer, asked->server_bits_named || agreed.server_max_window_bits < 15, "server_max_window_bits",
                agreed.server_max_window_bits);
    append_bits(answer, agreed.client_max_window_bits < 15, "client_max_window_bits", agreed.client_max_window_bits);
    return agreed;
  }
  return {};
}

/// A client's offer: the value of Sec-WebSocket-Extensions. `per_connection` means nothing here.
inline std::string deflate_offer(const deflate_options& options) {
  std::string out = "permessage-deflate";
  using namespace deflate_detail;
  append_flag(out, options.server_no_context_takeover, "server_no_context_takeover");
  append_flag(out, options.client_no_context_takeover, "client_no_context_takeover");
  append_bits(out, options.server_max_window_bits < 15, "server_max_window_bits", options.server_max_window_bits);
  append_flag(out, options.client_max_window_bits == 15, "client_max_window_bits");
  append_bits(out, options.client_max_window_bits < 15, "client_max_window_bits", options.client_max_window_bits);
  return out;
}

/// A client's side of the agreement: checks what a server answered to `deflate_offer(options)`, when that was all that
/// was offered. A value that is empty means no compression. `bad_request` when the answer is not one to that offer: the
/// client must then fail the connection (RFC 7692, section 5.1).
inline result<std::optional<deflate_params>> read_deflate_answer(const hailwire::detail::vector<ws_extension>& answered,
                                                                 const deflate_options& options) {
  if (answered.empty()) return std::optional<deflate_params>();
  if (answered.size() > 1 || answered[0].name != "permessage-deflate")
    return {errc::bad_request, "the server chose an extension that was not offered"};
  auto named = deflate_detail::read_params(answered[0], false);
  if (!named) return {errc::bad_request, "the server's parameters for permessage-deflate are malformed"};
  if ((options.server_no_context_takeover && !named->server_no_context) ||
      named->server_bits > options.server_max_window_bits ||
      (named->client_bits_named && named->client_bits > options.client_max_window_bits)) {
    return {errc::bad_request, "the server's parameters for permessage-deflate are not those that were offered"};
  }
  deflate_params agreed;
  agreed.server_no_context_takeover = named->server_no_context;
  agreed.client_no_context_takeover = named->client_no_context || options.client_no_context_takeover;
  agreed.server_max_window_bits = named->server_bits;
  agreed.client_max_window_bits = std::min(named->client_bits, options.client_max_window_bits);
  return std::optional<deflate_params>(agreed);
}

/// Inflates the messages that one connection receives. One thread at a time.
class zlib_inflater final : public ws_inflater {
 public:
  /// `role` is that of the connection's own end. Takes no memory until the first compressed byte comes.
  zlib_inflater(const deflate_params& agreed, ws_role role) noexcept
      : keep_(!(role == ws_role::server ? agreed.client_no_context_takeover : agreed.server_no_context_takeover)),
        bits_(static_cast<std::int8_t>(role == ws_role::server ? agreed.client_max_window_bits
                                                               : agreed.server_max_window_bits)) {}

  progress inflate(std::string_view in, bool end_of_message, std::string& out, std::size_t max) override {
    auto done = progress::ok;
    if (!in.empty()) {
      if (!stream_ && !open()) return progress::no_memory;
      done = pump(in, Z_SYNC_FLUSH, out, max);
    }
    if (done == progress::ok && end_of_message) {
      // The flush that the sender took off goes back on (section 7.2.2), and must then be the end of a block: elsewhere
      // the message broke off within one. A message of no bytes, or one whose last block called itself the final one,
      // awaits nothing; section 7.2.3 wants one byte more of both, but there is nothing to guess without it, and others
      // let it pass.
      if (!between_) {
        constexpr int at_block_end = 128;  // zlib.h on `data_type`
        done = pump({"\x00\x00\xFF\xFF", 4}, Z_BLOCK, out, max);
        if (done == progress::ok && !between_ && (stream_->avail_in || !(stream_->data_type & at_block_end)))
          done = progress::corrupt;
      }
      between_ = true;
      if (!keep_) stream_.reset();
    }
    if (done != progress::ok) stream_.reset();
    return done;
  }

 private:
  bool open() {
    stream_.reset(new z_stream{});
    // A window that goes with its message may as well be the full one: then it does not depend on how the bytes came
    // whether zlib notices a peer that promised a smaller one.
    if (inflateInit2(stream_.get(), keep_ ? -bits_ : -15) != Z_OK) stream_.reset();
    return stream_ != nullptr;
  }

  progress pump(std::string_view in, int flush, std::string& out, std::size_t max) {
    constexpr std::size_t slice = std::size_t{1} << 30;  // zlib counts in unsigned int
    for (; in.size() > slice; in.remove_prefix(slice))
      if (auto p = pump(in.substr(0, slice), flush, out, max); p != progress::ok) return p;
    z_stream& s = *stream_;
    s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));  // zlib only reads it
    s.avail_in = static_cast<uInt>(in.size());
    between_ = false;
    for (char piece[16384];;) {
      // Room for one byte more than there may be: it shows that there are too many.
      std::size_t may = max - out.size(), room = std::min(sizeof piece - 1, may) + 1;
      s.next_out = reinterpret_cast<Bytef*>(piece);
      s.avail_out = static_cast<uInt>(room);
      int r = ::inflate(&s, flush);
      std::size_t got = room - s.avail_out;
      out.append(piece, std::min(got, may));
      if (got > may) return progress::too_big;
      if (r == Z_STREAM_END) {
        // A final block ends the stream, not the message (section 7.2.3.4). No known sender looks back beyond it.
        ::inflateReset(&s);
        between_ = s.avail_in == 0;
        if (between_) return progress::ok;
        continue;
      }
      if (r == Z_MEM_ERROR) return progress::no_memory;
      if (r != Z_OK && r != Z_BUF_ERROR) return progress::corrupt;
      if (s.avail_out && (s.avail_in == 0 || r == Z_BUF_ERROR)) return progress::ok;
    }
  }

  std::unique_ptr<z_stream, deflate_detail::closer<::inflateEnd>> stream_;
  bool keep_;
  bool between_ = true;  // no byte has come since the last message or the last final block ended
  std::int8_t bits_;
};

/// Deflates messages: those of one connection, or, when the agreement says `server_no_context_takeover` with the full
/// window, those of a server for all connections with that agreement. One thread at a time.
class zlib_deflater {
 public:
  /// `role` is that of the sending end. Takes no memory until the first message.
  zlib_deflater(const deflate_params& agreed, ws_role role, const deflate_options& options = {}) noexcept
      : keep_(!(role == ws_role::server ? agreed.server_no_context_takeover : agreed.client_no_context_takeover)),
        bits_(static_cast<std::int8_t>(role == ws_role::server ? agreed.server_max_window_bits
                                                               : agreed.client_max_window_bits)),
        level_(static_cast<std::int8_t>(options.level)),
        memory_level_(static_cast<std::int8_t>(options.memory_level)) {}

  /// A deflater whose frames fit every connection whose agreement came of `options` without `per_connection`.
  static zlib_deflater shared(const deflate_options& options = {}) noexcept {
    return {deflate_params{.server_no_context_takeover = true}, ws_role::server, options};
  }

  /// Appends the payload of a frame with RSV1. False, and nothing appended, when the message must go uncompressed,
  /// which a sender is always free to do (RFC 7692, section 6): no memory, a window of 2^8 bytes, which zlib cannot
  /// write, or when no context is kept and it would not get smaller.
  bool deflate(std::string_view message, std::string& out) {
    if (!stream_ && !open()) return false;
    std::size_t start = out.size(), size = message.size();
    constexpr std::size_t slice = std::size_t{1} << 30;  // zlib counts in unsigned int
    do {
      auto part = message.substr(0, slice);
      message.remove_prefix(part.size());
      pump(part, message.empty() ? Z_SYNC_FLUSH : Z_NO_FLUSH, out);
    } while (!message.empty());
    // Section 7.2.1: the flush ends with 00 00 FF FF, which does not travel. A flush with nothing before it writes
    // nothing.
    if (out.size() - start >= 4)
      out.resize(out.size() - 4);
    else
      out += '\0';
    if (keep_) return true;
    ::deflateReset(stream_.get());
    if (out.size() - start < size) return true;
    out.resize(start);
    return false;
  }

 private:
  bool open() {
    if (bits_ < 9) return false;
    stream_.reset(new z_stream{});
    if (deflateInit2(stream_.get(), level_, Z_DEFLATED, -bits_, memory_level_, Z_DEFAULT_STRATEGY) != Z_OK)
      stream_.reset();
    return stream_ != nullptr;
  }

  void pump(std::string_view in, int flush, std::string& out) {
    z_stream& s = *stream_;
    s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));  // zlib only reads it
    s.avail_in = static_cast<uInt>(in.size());
    char piece[16384];
    do {
      s.next_out = reinterpret_cast<Bytef*>(piece);
      s.avail_out = sizeof piece;
      ::deflate(&s, flush);
      out.append(piece, sizeof piece - s.avail_out);
    } while (s.avail_out == 0);
  }

  std::unique_ptr<z_stream, deflate_detail::closer<::deflateEnd>> stream_;
  bool keep_;
  std::int8_t bits_, level_, memory_level_;
};

/// Appends a server's whole frame, compressed if that can be done, else as it is. Returns whether it was compressed.
/// Precondition: `what` is text or binary.
inline bool append_deflated_frame(std::string& out, zlib_deflater& deflater, ws_opcode what, std::string_view message) {
  std::string payload;
  bool compressed = deflater.deflate(message, payload);
  append_frame(out, what, compressed ? payload : message, true, compressed);
  return compressed;
}

/// The same for a client, masked with `key`: see `append_masked_frame`.
inline bool append_masked_deflated_frame(std::string& out, zlib_deflater& deflater, ws_opcode what,
                                         std::string_view message, std::uint32_t key) {
  std::string payload;
  bool compressed = deflater.deflate(message, payload);
  append_masked_frame(out, what, compressed ? payload : message, key, true, compressed);
  return compressed;
}

}  // namespace hailwire::proto
