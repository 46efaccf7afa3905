// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS 1.3 records after the handshake (RFC 8446, section 5): bytes in, bytes out.
//
// OpenSSL does the handshake; what remains of a TLS 1.3 connection is two keys, two counters and a handful of rules. An
// `SSL` that is kept is 13.8 KB in OpenSSL 3.0, whatever is released: 7.6 KB are the object itself, and its session
// stays, because `SSL_set_session` on a connection whose version was negotiated gives it a new, empty state. With the
// server's own part that was 14,471 bytes for an idle connection and 15,163 for one that follows by WebSocket; so it is
// 769 and 1,466. The cipher contexts, with their expanded keys, belong to all connections of a server. Secrets come
// from OpenSSL's key log, whose lines are documented to name them; every cipher and hash is OpenSSL's, comparing tags
// included.
//
//   keys      key and nonce derive from a traffic secret; a KeyUpdate derives the next secret (section 7.2, 7.3)
//   record    5 bytes of header, which are authenticated; sealed: content, its type, zeros (section 5.2)
//   received  application data, alerts, KeyUpdate. All else ends the connection with an alert (section 6.2)

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace hailwire::detail {

/// The most content of one record (section 5.1), and the most that sealing adds to it (section 5.2).
inline constexpr std::size_t tls_record_content = 16 * 1024;
inline constexpr std::size_t tls_record_overhead = 256;
inline constexpr std::size_t tls_record_header = 5;

template <auto Free>
struct tls_free {
  void operator()(auto* p) const noexcept { Free(p); }
};
using tls_cipher_context = std::unique_ptr<EVP_CIPHER_CTX, tls_free<::EVP_CIPHER_CTX_free>>;

/// One direction of a connection. Its place in memory is its name: not moved while in use.
struct tls_keys {
  std::array<unsigned char, 48> secret{};  // of SHA-384, the largest
  std::array<unsigned char, 32> key{};
  std::array<unsigned char, 12> iv{};
  std::uint64_t sequence = 0;

  tls_keys() = default;
  tls_keys(const tls_keys&) = delete;
  tls_keys& operator=(const tls_keys&) = delete;
  ~tls_keys() {
    ::OPENSSL_cleanse(secret.data(), secret.size());
    ::OPENSSL_cleanse(key.data(), key.size());
  }
};

/// A cipher suite of TLS 1.3 with one context for sealing and one for opening, which all connections of one thread
/// share.
class tls_suite {
 public:
  /// Null for a suite that is not known here or not offered by OpenSSL's providers.
  static std::unique_ptr<tls_suite> make(std::uint16_t id) {
    std::unique_ptr<tls_suite> s(new tls_suite);
    switch (id) {  // RFC 8446, appendix B.4
      case 0x1301:
        s->set(::EVP_aes_128_gcm(), ::EVP_sha256());
        break;
      case 0x1302:
        s->set(::EVP_aes_256_gcm(), ::EVP_sha384());
        break;
      case 0x1303:
        s->set(::EVP_chacha20_poly1305(), ::EVP_sha256());
        break;
      default:
        return nullptr;
    }
    bool fine = s->sealing_ && s->opening_ &&
                ::EVP_EncryptInit_ex(s->sealing_.get(), s->cipher_, nullptr, nullptr, nullptr) == 1 &&
                ::EVP_DecryptInit_ex(s->opening_.get(), s->cipher_, nullptr, nullptr, nullptr) == 1;
    return fine ? std::move(s) : nullptr;
  }

  std::size_t secret_size() const noexcept { return secret_size_; }

  /// Derives key and nonce from `k.secret`; records count from 0 again (sections 5.3, 7.3).
  bool derive(tls_keys& k) {
    forget(k);
    k.sequence = 0;
    return expand(k, "key", std::span(k.key).first(key_size_)) && expand(k, "iv", k.iv);
  }
  /// The next generation of keys (section 7.2).
  bool update(tls_keys& k) {
    std::array<unsigned char, 48> next;
    bool fine = expand(k, "traffic upd", std::span(next).first(secret_size_));
    if (fine) k.secret = next;
    ::OPENSSL_cleanse(next.data(), next.size());
    return fine && derive(k);
  }
  /// To be called before keys that have been used are destroyed: another's may come to lie at the same place.
  void forget(const tls_keys& k) noexcept {
    if (sealing_for_ == &k) sealing_for_ = nullptr;
    if (opening_for_ == &k) opening_for_ = nullptr;
  }

  /// Appends one record to `out`; the pieces make its content, at most `tls_record_content` together.
  bool seal(tls_keys& k, std::uint8_t type, std::span<const std::span<const char>> pieces, std::string& out) {
    std::size_t content = 0, begin = out.size();
    for (auto& p : pieces) content += p.size();
    std::size_t sealed = content + 1 + tag_size;
    out.resize(begin + tls_record_header + sealed);
    auto* at = reinterpret_cast<unsigned char*>(out.data()) + begin;
    // Types are hidden: every record says application data (section 5.2).
    const unsigned char header[tls_record_header] = {23, 3, 3, static_cast<unsigned char>(sealed >> 8),
                                                     static_cast<unsigned char>(sealed)};
    std::memcpy(at, header, sizeof header);
    at += sizeof header;
    auto* c = sealing_.get();
    int n = 0;
    bool fine = start(c, sealing_for_, k, 1) && ::EVP_EncryptUpdate(c, nullptr, &n, header, sizeof header) == 1;
    for (auto& p : pieces) {
      if (p.empty()) continue;
      fine = fine && ::EVP_EncryptUpdate(c, at, &n, reinterpret_cast<const unsigned char*>(p.data()),
                                         static_cast<int>(p.size())) == 1;
      at += n;
    }
    fine = fine && ::EVP_EncryptUpdate(c, at, &n, &type, 1) == 1 && ::EVP_EncryptFinal_ex(c, at + 1, &n) == 1 &&
           ::EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, tag_size, at + 1) == 1;
    ++k.sequence;
    if (!fine) out.resize(begin);
    return fine;
  }

  /// Opens one record, header and all, into `into`, which has room for what is sealed. The size of content, type and
  /// padding; none when it is not authentic.
  std::optional<std::size_t> open(tls_keys& k, std::span<const char> record, char* into) {
    auto* from = reinterpret_cast<const unsigned char*>(record.data());
    auto* to = reinterpret_cast<unsigned char*>(into);
    std::size_t size = record.size() - tls_record_header - tag_size;
    unsigned char tag[tag_size];
    std::memcpy(tag, from + tls_record_header + size, tag_size);
    auto* c = opening_.get();
    int n = 0, last = 0;
    bool fine = start(c, opening_for_, k, 0) && ::EVP_DecryptUpdate(c, nullptr, &n, from, tls_record_header) == 1 &&
                ::EVP_DecryptUpdate(c, to, &n, from + tls_record_header, static_cast<int>(size)) == 1 &&
                ::EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, tag_size, tag) == 1 &&
                ::EVP_DecryptFinal_ex(c, to + n, &last) == 1;
    ++k.sequence;
    if (!fine) return std::nullopt;
    return size;
  }

  static constexpr int tag_size = 16;

 private:
  tls_suite() : sealing_(::EVP_CIPHER_CTX_new()), opening_(::EVP_CIPHER_CTX_new()) {}
  void set(const EVP_CIPHER* c, const EVP_MD* h) {
    cipher_ = c;
    hash_ = h;
    key_size_ = static_cast<std::size_t>(::EVP_CIPHER_get_key_length(c));
    secret_size_ = static_cast<std::size_t>(::EVP_MD_get_size(h));
  }

  // The nonce is the record's number over the fixed one (section 5.3). A key that the context still holds from the
  // record before is not expanded again.
  static bool start(EVP_CIPHER_CTX* c, const tls_keys*& loaded, const tls_keys& k, int sealing) {
    auto nonce = k.iv;
    for (std::size_t i = 0; i < 8; ++i)
      nonce[11 - i] = static_cast<unsigned char>(nonce[11 - i] ^ (k.sequence >> (8 * i)));
    const unsigned char* key = std::exchange(loaded, &k) == &k ? nullptr : k.key.data();
    if (::EVP_CipherInit_ex(c, nullptr, nullptr, key, nonce.data(), sealing) == 1) return true;
    loaded = nullptr;
    return false;
  }

  // HKDF-Expand-Label without context (section 7.1). Nothing here is longer than one block of the hash, so HKDF-Expand
  // (RFC 5869, section 2.3) is one HMAC.
  bool expand(const tls_keys& k, std::string_view label, std::span<unsigned char> to) const {
    unsigned char info[32];
    std::size_t n = 0;
    info[n++] = 0;
    info[n++] = static_cast<unsigned char>(to.size());
    info[n++] = static_cast<unsigned char>(6 + label.size());
    for (char c : std::string_view("tls13 ")) info[n++] = static_cast<unsigned char>(c);
    for (char c : label) info[n++] = static_cast<unsigned char>(c);
    info[n++] = 0;
    info[n++] = 1;
    unsigned char block[EVP_MAX_MD_SIZE];
    bool fine = ::HMAC(hash_, k.secret.data(), static_cast<int>(secret_size_), info, n, block, nullptr) != nullptr;
    if (fine) std::memcpy(to.data(), block, to.size());
    ::OPENSSL_cleanse(block, sizeof block);
    return fine;
  }

  const EVP_CIPHER* cipher_ = nullptr;
  const EVP_MD* hash_ = nullptr;
  std::size_t key_size_ = 0, secret_size_ = 0;
  tls_cipher_context sealing_, opening_;
  const tls_keys *sealing_for_ = nullptr, *opening_for_ = nullptr;
};

/// Both directions of a TLS 1.3 connection whose handshake is over.
class tls_records {
 public:
  enum class state : std::uint8_t { open, ended, failed };

  tls_records() = default;
  tls_records(const tls_records&) = delete;
  tls_records& operator=(const tls_records&) = delete;
  ~tls_records() {
    if (!suite_) return;
    suite_->forget(in);
    suite_->forget(out);
  }

  /// Begins with the secrets in `in` and `out`. `written`: the records that were sent under them already (session
  /// tickets). `most`: the most content of a record that the peer takes, when it asked for less (RFC 6066, section 4).
  bool begin(tls_suite& s, std::uint64_t written, std::size_t most = tls_record_content) {
    suite_ = &s;
    most_ = static_cast<std::uint16_t>(std::min(most, tls_record_content));
    if (!s.derive(in) || !s.derive(out)) return false;
    out.sequence = written;
    return true;
  }

  std::size_t most() const noexcept { return most_; }

  /// Opens the whole records that `bytes` begins with, contents into `into`, which is at least as large as `bytes`.
  /// Returns how many bytes it used; what to answer (an alert, a KeyUpdate) is appended to `reply`.
  std::size_t receive(std::span<const char> bytes, std::span<char> into, std::size_t& produced, std::string& reply) {
    std::size_t used = 0;
    produced = 0;
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
    if (std::exchange(update_asked_, false) && state_ == state::open) update_out(reply);
    return used;
  }

  /// Appends one record of application data.
  bool seal(std::span<const std::span<const char>> pieces, std::string& to) {
    // AES-GCM keys are good for 2^24.5 full records (section 5.5).
    if (out.sequence >= std::uint64_t{1} << 24 && !update_out(to)) return false;
    return suite_->seal(out, application_data, pieces, to);
  }
  /// Appends the alert that says nothing more will be written (section 6.1).
  void close(std::string& to) { alert(1, 0, to); }

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
  // Records without data that are taken in a row, KeyUpdates among them, so that a peer cannot have the server compute
  // for nothing. The precedent is BoringSSL's limit for both.
  static constexpr std::uint8_t most_without_data = 32;

  void receive_record(std::span<const char> record, char* to, std::size_t& produced, std::string& reply) {
    auto opened = suite_->open(in, record, to);
    if (!opened) return fail(bad_record_mac, reply);
    std::size_t size = *opened;
    if (size > tls_record_content + 1)
      return fail(record_overflow, reply);     // content, type and padding together (section 5.4)
    while (size && to[size - 1] == 0) --size;  // padding
    if (size == 0) return fail(unexpected_message, reply);
    auto type = static_cast<std::uint8_t>(to[--size]);
    if (type == application_data && size) {
      idle_ = 0;
      // A handshake message in parts may not be interrupted (section 5.1).
      if (begun_) return fail(unexpected_message, reply);
      produced += size;
      return;
    }
    if (++idle_ > most_without_data) return fail(unexpected_message, reply);
    switch (type) {
      case application_data:
        if (begun_) fail(unexpected_message, reply);
        break;
      case alert_type:
        if (size != 2) return fail(decode_error, reply);
        if (to[1] == close_notify)
          state_ = state::ended;
        else if (static_cast<std::uint8_t>(to[1]) != user_canceled)
          state_ = state::failed;
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
      update_asked_ = update_asked_ || byte == 1;
      if (!suite_->update(in)) return fail(internal_error, reply);
    }
  }
  bool update_out(std::string& to) {
    static constexpr char message[] = {24, 0, 0, 1, 0};
    const std::span<const char> piece(message);
    return suite_->seal(out, handshake_type, {&piece, 1}, to) && suite_->update(out);
  }
  void alert(char level, std::uint8_t what, std::string& to) {
    const char message[] = {level, static_cast<char>(what)};
    const std::span<const char> piece(message);
    suite_->seal(out, alert_type, {&piece, 1}, to);
  }
  void fail(std::uint8_t what, std::string& reply) {
    state_ = state::failed;
    alert(2, what, reply);
  }

  tls_suite* suite_ = nullptr;
  std::uint16_t most_ = tls_record_content;
  state state_ = state::open;
  std::uint8_t begun_ = 0;  // bytes of a KeyUpdate that came so far
  std::uint8_t idle_ = 0;
  bool update_asked_ = false;
};

}  // namespace hailwire::detail
