// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <charconv>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire::proto {

/// A message together with what its bytes need from outside it. All views live as long as the call they are given to.
struct envelope {
  std::string_view channel, epoch;
  const message& content;
  std::string_view json;  ///< the message object, written once for all encodings that want it
};

/// One way in which messages become bytes: a transport's framing of the message object, or of the bare payload. There
/// is one object of it for each way, with static lifetime, and ways are told apart by its address.
struct encoding {
  std::string_view name;
  bool wants_json;  ///< whether `append` reads `envelope::json`
  /// Appends one whole frame, or nothing where there is nothing of it for these clients; offset 0: an ephemeral one.
  void (*append)(std::string& out, const envelope& message);
  /// Appends one whole frame of a notice that all subscribers share, `json` being `{"name":…}` on one line; null: these
  /// clients have no notices. It ends with the bytes that messages end with.
  void (*notice)(std::string& out, std::string_view name, std::string_view json) = nullptr;
  bool signals = false;  ///< what it is given as `json` is a signal, without the payload
};

/// Appends a payload as the `data` or `bytes` member: `"data":<json>` or `"bytes":"<base64>"`.
void append_payload_member(std::string& out, const payload& p);

/// Whether a client that takes payloads alone is sent anything of a message: not of one that was taken back, nor of one
/// that takes another back.
inline bool has_payload(const message& m) noexcept { return !m.erased && !m.erases; }

/// Appends the message object that every transport carries. Of a message that was taken back there is neither payload
/// nor type; one that takes another back has the other's offset in place of a payload.
void append_message(std::string& out, std::string_view channel, const message& m);

/// The same without the payload: its epoch, size and type stand in its place, and whoever wants it fetches it. What
/// cannot be fetched, because it has no place in the log, is written whole. `beside`: of a message that names a content
/// the publisher's own payload is written too, where there is one.
void append_signal(std::string& out, std::string_view channel, std::string_view epoch, const message& m,
                   bool beside = false);

/// The message object for whoever wants payloads: one that is over `inline_limit`, or lies beside the log, is not
/// carried along.
inline void append_inlined(std::string& out, std::string_view channel, std::string_view epoch, const message& m,
                           std::size_t inline_limit) {
  m.content || m.data.bytes().size() > inline_limit ? append_signal(out, channel, epoch, m, true)
                                                    : append_message(out, channel, m);
}

/// The message object as an encoding wants it.
inline void append_as(std::string& out, const encoding& how, std::string_view channel, std::string_view epoch,
                      const message& m, std::size_t inline_limit) {
  how.signals ? append_signal(out, channel, epoch, m) : append_inlined(out, channel, epoch, m, inline_limit);
}

/// An encoding of message objects, with signals in place of messages.
constexpr encoding signals_of(encoding messages) noexcept {
  messages.signals = true;
  return messages;
}

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/envelope.ipp"
#endif
