// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/connection/trusted_proxies.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE proxies::proxies(const options& o) : reads_(o.forwarding) {
  for (const std::string& text : o.trusted_proxies) {
    if (text == "unix") {
      unix_ = true;
    } else if (auto range = proto::ip_range::parse(text)) {
      ranges_.push_back(*range);
    } else {
      throw std::invalid_argument("hailwire: trusted_proxies has \"" + text +
                                  "\", which is neither an address, nor a range such as 10.0.0.0/8, nor unix");
    }
  }
}

HAILWIRE_INLINE bool proxies::trust(const proto::ip_address& a) const noexcept {
  for (const auto& r : ranges_)
    if (r.contains(a)) return true;
  return false;
}

HAILWIRE_INLINE bool proxies::trust(std::string_view peer) const noexcept {
  if (peer == "unix") return unix_;
  auto e = proto::endpoint::parse(peer);
  return e && trust(*e->address);
}

HAILWIRE_INLINE result<std::optional<proto::requester>> proxies::look(const proto::http1::head& h,
                                                                      std::string_view peer) const {
  if (!any() || !trust(peer)) return std::optional<proto::requester>();
  auto hops = reads_ == options::forwarding_header::forwarded ? proto::read_forwarded(h) : proto::read_x_forwarded(h);
  if (!hops) return hops.error();
  auto e = proto::endpoint::parse(peer);
  // On a Unix socket the last proxy has no address. Its own word stands for one that is trusted.
  bool here = true;
  auto found = proto::walk_hops(*hops, e ? *e : proto::endpoint{proto::ip_address{}, 0},
                                [&](const proto::ip_address& a) { return std::exchange(here, false) || trust(a); });
  if (!e && found.from.address == proto::ip_address{}) found.from.address.reset();
  return std::optional(std::move(found));
}

HAILWIRE_INLINE address_table::key address_table::of(const proto::ip_address& a) noexcept {
  key k;
  std::memcpy(&k.high, a.bytes.data(), 8);
  std::memcpy(&k.low, a.bytes.data() + 8, 8);
  if (!a.is_v4()) k.low = 0;
  return k;
}

HAILWIRE_INLINE address_table::counted* address_table::add(const key& k, std::size_t most) {
  const std::uint64_t h = hash(k);
  part& p = part_of(h);
  std::lock_guard lock(p.mutex);
  counted* there = p.find(h, k);
  if (there ? there->n >= most : most == 0) return nullptr;
  if (!there) p.counts.insert(*(there = new counted{{}, k, 0}), h);
  ++there->n;
  return there;
}

HAILWIRE_INLINE void address_table::remove(counted& of) {
  part& p = part_of(hash(of.of));
  std::lock_guard lock(p.mutex);
  if (--of.n == 0) p.counts.remove(of), delete &of;
}

HAILWIRE_INLINE std::size_t address_table::addresses() const {
  std::size_t n = 0;
  for (const part& p : parts_) {
    std::lock_guard lock(p.mutex);
    n += p.counts.size();
  }
  return n;
}

HAILWIRE_INLINE std::uint64_t address_table::hash(const key& k) const noexcept {
  char bytes[16];
  std::memcpy(bytes, &k.high, 8);
  std::memcpy(bytes + 8, &k.low, 8);
  return table_hash(secret_, {bytes, sizeof bytes});
}

HAILWIRE_INLINE bool address_count::add(std::uint32_t number, std::string_view peer, std::size_t most) {
  auto e = proto::endpoint::parse(peer);
  if (!e) return true;
  if (!table_) table_ = std::make_shared<address_table>();
  while (whose_.size() <= number) whose_.push_back(nullptr);  // first: what is counted is always remembered
  whose_[number] = table_->add(address_table::of(*e->address), most);
  return whose_[number] != nullptr;
}

HAILWIRE_INLINE void address_count::remove(std::uint32_t number) {
  if (number >= whose_.size()) return;
  if (auto* of = std::exchange(whose_[number], nullptr)) table_->remove(*of);
}

}  // namespace hailwire::detail
