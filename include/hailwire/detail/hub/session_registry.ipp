// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstring>

#include "hailwire/detail/hub/session_registry.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void session_registry::enter(session& s) {
  if (free_slot_ == no_slot) {
    s.slot_ = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot& at = slots_[s.slot_ = free_slot_];
    free_slot_ = at.next_free();
    s.generation_ = at.generation();
  }
  slots_[s.slot_].take(s);
  ++connections_;
}

HAILWIRE_INLINE void session_registry::open(session& s, shared_grant g, std::string device, bool listed) {
  const bool enters = listed && !g.user().empty();
  if (!device.empty()) s.ensure_rare().device = std::move(device);
  if (enters) s.ensure_extra();
  if (enters && named_ == users_.size()) more_users();  // from here on nothing throws
  ++s.generation_;
  s.open_ = true;
  s.listed_ = listed;
  s.grant_ = std::move(g);
  listed_ += listed;
  named_ += enters;
  if (enters) enter_user(s);
}

HAILWIRE_INLINE void session_registry::close(session& s) noexcept {
  if (s.listed_) {
    --listed_;
    if (!s.user().empty()) remove_user(s);
  }
  s.open_ = s.listed_ = false;
  s.grant_ = {};
  auto dying = std::move(s.extra_);  // the host's data may look at the hub from its destructor
}

HAILWIRE_INLINE session* session_registry::find(session_key k) const noexcept {
  session* s = k.slot < slots_.size() ? slots_[k.slot].taken() : nullptr;
  return s && s->open_ && s->generation_ == k.generation ? s : nullptr;
}

HAILWIRE_INLINE std::vector<session*> session_registry::find(std::string_view user) const {
  std::vector<session*> out;
  if (users_.empty()) return out;
  for (std::uint32_t i = users_[bucket(user)]; i != no_slot; i = slots_[i].taken()->extra_->next_user)
    if (slots_[i].taken()->user() == user) out.push_back(slots_[i].taken());
  return out;
}

HAILWIRE_INLINE std::vector<session*> session_registry::sessions() const {
  std::vector<session*> out;
  each([&](session& s) {
    if (s.listed_) out.push_back(&s);
  });
  return out;
}

HAILWIRE_INLINE std::vector<session*> session_registry::entered() const {
  std::vector<session*> out;
  each([&](session& s) { out.push_back(&s); });
  return out;
}

HAILWIRE_INLINE std::string session_registry::id_of(session_key k) const {
  std::uint32_t left = k.slot, right = k.generation;
  for (std::uint64_t round : {id_secret_[0].low, id_secret_[0].high, id_secret_[1].low, id_secret_[1].high}) {
    left ^= round_of(right, round);
    std::swap(left, right);
  }
  std::uint64_t word = std::uint64_t{left} << 32 | right;
  std::string out;
  proto::append_base64(out, std::string_view(reinterpret_cast<const char*>(&word), 8), proto::base64url_letters);
  return out;
}

HAILWIRE_INLINE session* session_registry::find_id(std::string_view id) const noexcept {
  std::uint64_t word = 0;
  if (id.size() != 11) return nullptr;
  unsigned char bytes[9] = {};
  unsigned bits = 0, have = 0;
  std::size_t n = 0;
  for (char c : id) {
    const auto digit = proto::base64url_letters.find(c);
    if (digit == std::string_view::npos) return nullptr;
    bits = bits << 6 | static_cast<unsigned>(digit);
    for (have += 6; have >= 8; have -= 8) bytes[n++] = static_cast<unsigned char>(bits >> (have - 8));
  }
  std::memcpy(&word, bytes, sizeof word);
  auto left = static_cast<std::uint32_t>(word >> 32), right = static_cast<std::uint32_t>(word);
  for (std::uint64_t round : {id_secret_[1].high, id_secret_[1].low, id_secret_[0].high, id_secret_[0].low}) {
    std::swap(left, right);
    left ^= round_of(right, round);
  }
  return find({left, right});
}

HAILWIRE_INLINE void session_registry::remove_user(session& s) noexcept {
  std::uint32_t* at = &users_[bucket(s.user())];
  while (*at != s.slot_) at = &slots_[*at].taken()->extra_->next_user;
  *at = s.extra_->next_user;
  --named_;
}

HAILWIRE_INLINE void session_registry::more_users() {
  vector<std::uint32_t> larger;
  larger.assign(std::max<std::size_t>(8, 2 * users_.size()), no_slot);
  users_.swap(larger);
  each([&](session& s) {
    if (s.listed_ && !s.user().empty()) enter_user(s);
  });
}

}  // namespace hailwire::detail
