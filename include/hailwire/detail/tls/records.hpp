// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS 1.3 records after the handshake (RFC 8446, section 5): bytes and time in, bytes out.
//
// OpenSSL does the handshake; what remains of a TLS 1.3 connection is two keys, two counters and a handful of rules. An
// `SSL` that is kept is 13.8 KB in OpenSSL 3.0, whatever is released: 7.6 KB are the object itself, and its session
// stays, because `SSL_set_session` on a connection whose version was negotiated gives it a new, empty state. The cipher
// contexts, with their expanded keys, belong to all connections of a server. README.md says what is assumed of OpenSSL.
//
//   keys      key and nonce derive from a traffic secret; a KeyUpdate derives the next secret (section 7.2, 7.3)
//   record    5 bytes of header, which are authenticated; sealed: content, its type, zeros (section 5.2)
//   received  application data, alerts, KeyUpdate. All else ends the connection with an alert (section 6.2)
//
// Once an alert is sealed that ends our direction, and once anything could not be sealed, nothing is sealed any more.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/tls/cipher.hpp"

namespace hailwire::detail {

/// Both directions of a TLS 1.3 connection whose handshake is over.
class tls_record_layer {
 public:
  enum class state : std::uint8_t { open, ended, failed };

  tls_record_layer() = default;
  tls_record_layer(const tls_record_layer&) = delete;
  tls_record_layer& operator=(const tls_record_layer&) = delete;
  ~tls_record_layer() {
    if (!suite_) return;
    suite_->forget(in);
    suite_->forget(out);
  }

  /// Begins with the secrets in `in` and `out`. `written`: the records that were sent under them already (session
  /// tickets). `most`: the most content of a record either way, when the peer asked for less (RFC 6066, section 4).
  [[nodiscard]] bool begin(tls_suite& s, std::uint64_t written, std::size_t most = tls_record_content) noexcept {
    suite_ = &s;
    most_ = static_cast<std::uint16_t>(std::min(most, tls_record_content));
    if (!s.derive(in) || !s.derive(out)) return false;
    out.sequence = written;
    return true;
  }

  std::size_t most() const noexcept { return most_; }

  /// Opens the whole records that `bytes` begins with, contents into `into`, which is at least as large as `bytes`.
  /// Returns how many bytes it used; what to answer (an alert, a KeyUpdate) is appended to `reply`. `now`: seconds of
  /// a clock that never goes back.
  std::size_t receive(std::span<const char> bytes, std::span<char> into, std::size_t& produced, std::string& reply,
                      std::int64_t now) {
    std::size_t used = 0;
    produced = 0;
    forgive(now);
    while (state_ == state::open && bytes.size() - used >= tls_record_header) {
      auto rest = bytes.subspan(used);
      auto u = [&](std::size_t i) { return static_cast<std::uint8_t>(rest[i]); };
      std::size_t size = static_cast<std::size_t>(u(3)) << 8 | u(4);
      if (u(0) != application_data)
        fail(unexpected_message, reply);
      else if (size > tls_record_content + tls_record_overhead)
        fail(record_overflow, reply);
      else if (size < tls_suite::tag_size + 1)
        fail(bad_record_mac, reply);
      if (state_ != state::open || rest.size() < tls_record_header + size) break;
      receive_record(rest.first(tls_record_header + size), into.data() + produced, produced, reply);
      used += tls_record_header + size;
    }
    // However many asked for it in one read, one answer is enough; it is owed also to a peer that has said since that
    // it will send no more (section 4.6.3).
    if (std::exchange(update_asked_, false) && state_ != state::failed && !mute_ && !update_out(reply))
      fail(internal_error, reply);
    return used;
  }

  /// Appends one record of application data. False for good once that has failed.
  [[nodiscard]] bool seal(std::span<const std::span<const char>> pieces, std::string& to) {
    // AES-GCM keys are good for 2^24.5 full records (section 5.5).
    if (out.sequence >= std::uint64_t{1} << 24 && !update_out(to)) return mute_ = true, false;
    return seal(application_data, pieces, to);
  }
  /// Appends the alert that says nothing more will be written (section 6.1), and writes nothing more.
  void close(std::string& to) { alert(1, close_notify, to); }
  /// Seals nothing more: something that was sealed got lost.
  void silence() noexcept { mute_ = true; }

  state now() const noexcept { return state_; }

  tls_keys in, out;

 private:
  // Content types (section 5.1) and alerts (section 6).
  enum : std::uint8_t { alert_type = 21, handshake_type = 22, application_data = 23 };
  enum : std::uint8_t {
    close_notify = 0,
    unexpected_message = 10,
    bad_record_mac = 20,
    record_overflow = 22,
    illegal_parameter = 47,
    decode_error = 50,
    internal_error = 80,
    user_canceled = 90
  };
  // So that a peer cannot have the server compute for nothing, two counts, each of which loses one a second. Records
  // without data in a row, KeyUpdates among them: the precedent is BoringSSL's limit of 32 for both. KeyUpdates, also
  // with data in between: each costs as much as a small message, so the burst is worth 6 ms of a core; nobody needs one
  // a second (section 5.5: one for each 2^24.5 records).
  static constexpr std::uint8_t most_without_data = 32;
  static constexpr std::uint16_t most_updates = 1024;

  void forgive(std::int64_t now) noexcept {
    auto second = static_cast<std::uint32_t>(now);
    std::uint32_t passed = second - std::exchange(second_, second);
    idle_ = static_cast<std::uint8_t>(idle_ - std::min<std::uint32_t>(idle_, passed));
    updates_ = static_cast<std::uint16_t>(updates_ - std::min<std::uint32_t>(updates_, passed));
  }

  void receive_record(std::span<const char> record, char* to, std::size_t& produced, std::string& reply) {
    auto opened = suite_->open(in, record, to);
    if (!opened) return fail(bad_record_mac, reply);
    std::size_t size = *opened;
    if (size > tls_record_content + 1)
      return fail(record_overflow, reply);     // content, type and padding together (section 5.4)
    while (size && to[size - 1] == 0) --size;  // padding
    if (size == 0) return fail(unexpected_message, reply);
    auto type = static_cast<std::uint8_t>(to[--size]);
    if (size > most_) return fail(record_overflow, reply);  // RFC 6066, section 4
    // A handshake message in parts may not be interrupted (section 5.1).
    if (begun_ && type != handshake_type) return fail(unexpected_message, reply);
    if (type == application_data && size) {
      idle_ = 0;
      produced += size;
      return;
    }
    if (++idle_ > most_without_data) return fail(unexpected_message, reply);
    switch (type) {
      case application_data:
        break;
      case alert_type:
        if (size == 0) return fail(unexpected_message, reply);  // section 5.4
        if (size != 2) return fail(decode_error, reply);
        if (to[1] == close_notify)
          state_ = state::ended;
        else if (static_cast<std::uint8_t>(to[1]) != user_canceled)
          state_ = state::failed, mute_ = true;
        break;
      case handshake_type:
        receive_handshake({to, size}, reply);
        break;
      default:
        fail(unexpected_message, reply);
    }
  }

  // A KeyUpdate (section 4.6.3) is all that a client may send: this server asks for nothing after the handshake.
  void receive_handshake(std::string_view part, std::string& reply) {
    static constexpr unsigned char expected[] = {24, 0, 0, 1};
    if (part.empty()) return fail(unexpected_message, reply);
    for (std::size_t i = 0; i < part.size(); ++i) {
      auto byte = static_cast<unsigned char>(part[i]);
      if (begun_ < sizeof expected) {
        if (byte != expected[begun_]) return fail(begun_ == 0 ? unexpected_message : decode_error, reply);
        ++begun_;
        continue;
      }
      if (byte > 1) return fail(illegal_parameter, reply);
      // Nothing may follow under the old keys (section 5.1).
      if (i + 1 != part.size()) return fail(unexpected_message, reply);
      begun_ = 0;
      if (++updates_ > most_updates) return fail(unexpected_message, reply);
      update_asked_ = update_asked_ || byte == 1;
      if (!suite_->update(in)) return fail(internal_error, reply);
    }
  }
  // The next key stands before the peer is told of it.
  [[nodiscard]] bool update_out(std::string& to) {
    static constexpr char message[] = {24, 0, 0, 1, 0};
    const std::span<const char> piece(message);
    tls_keys fresh;
    if (!suite_->next(out, fresh) || !seal(handshake_type, {&piece, 1}, to)) return false;
    suite_->install(out, fresh);
    return true;
  }
  [[nodiscard]] bool seal(std::uint8_t type, std::span<const std::span<const char>> pieces, std::string& to) {
    if (mute_) return false;
    mute_ = !suite_->seal(out, type, pieces, to);
    return !mute_;
  }
  void alert(char level, std::uint8_t what, std::string& to) {
    const char message[] = {level, static_cast<char>(what)};
    const std::span<const char> piece(message);
    static_cast<void>(seal(alert_type, {&piece, 1}, to));  // an end that cannot be told is an end all the same
    mute_ = true;
  }
  void fail(std::uint8_t what, std::string& reply) {
    state_ = state::failed;
    alert(2, what, reply);
  }

  tls_suite* suite_ = nullptr;
  std::uint32_t second_ = 0;  // of the last read
  std::uint16_t most_ = tls_record_content;
  std::uint16_t updates_ = 0;
  state state_ = state::open;
  std::uint8_t begun_ = 0;  // bytes of a KeyUpdate that came so far
  std::uint8_t idle_ = 0;
  bool update_asked_ = false;
  bool mute_ = false;
};

}  // namespace hailwire::detail
