// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/storage/memory.hpp"

namespace hailwire {

HAILWIRE_INLINE std::int64_t system_milliseconds() noexcept {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

HAILWIRE_INLINE std::int64_t steady_milliseconds() noexcept {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

HAILWIRE_INLINE memory_storage::memory_storage(const memory_options& options)
    : options_(options), secret_(detail::random_bits()) {
  options_.messages = std::clamp<std::size_t>(options_.messages, 1, UINT32_MAX / 2);
}

HAILWIRE_INLINE void memory_storage::prefetch_entry(const place& at, int step) noexcept {
  shard& s = shard_of(at.hash);
  std::lock_guard lock(s.mutex);
  if (step == 0) {
    __builtin_prefetch(s.channels.bucket_address(at.hash.low));
  } else if (const auto* node = s.channels.candidate(at.hash.low, false)) {
    __builtin_prefetch(node);
    __builtin_prefetch(reinterpret_cast<const char*>(node) + 64);
  }
}

HAILWIRE_INLINE append_result memory_storage::append(const place& at, std::string_view channel, const draft& d) {
  const bits128& hash = at.hash;
  const std::int64_t now = d.key.empty() ? 0 : options_.steady();
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  if (options_.age.count() > 0) sweep(s, options_.clock());

  log* l = s.find(hash, channel);
  if (l && l->capacity > 1)
    __builtin_prefetch(l->ring + (l->size < l->capacity ? (l->first + l->size) % l->capacity : l->first), 1);
  std::unique_ptr<kept_key> key;
  if (!d.key.empty()) {
    bits128 name = detail::keyed_hash(secret_).add(hash.low).add(hash.high).add(d.key).finish(),
            print = detail::fingerprint(secret_, d.data);
    forget_keys(s, now);
    if (auto* known = s.keys.find(name.low, [&](const kept_key& k) { return k.name == name; })) {
      if (known->print != print) return errc::conflict;
      append_result first(position{detail::epoch_of(hash), known->offset});
      first.duplicate = true;
      return first;
    }
    if (l && l->keys >= options_.keys) return errc::overloaded;
    key = std::unique_ptr<kept_key>(new kept_key());
    key->name = name;
    key->print = print;
    key->at = now;
  }
  entry e(d);
  if (!l) {
    if (channels_.fetch_add(1, std::memory_order_relaxed) >= options_.channels) {
      channels_.fetch_sub(1, std::memory_order_relaxed);
      return errc::overloaded;
    }
    l = s.add(hash, channel);
  }
  l->make_room(options_.messages);  // the last step that can throw: key and message are kept together or not at all
  l->push(std::move(e), options_.messages, options_.bytes);
  if (key) {
    key->offset = l->head;
    key->of = l;
    ++l->keys;
    s.keep(std::move(key));
  }
  return position{detail::epoch_of(hash), l->head};  // an epoch takes no allocation, so nothing throws here
}

HAILWIRE_INLINE read_result memory_storage::read(std::string_view channel, std::uint64_t since, read_limit limit) {
  const bits128 hash = hash_of(channel);
  read_result r;
  r.epoch = detail::epoch_of(hash);
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  log* found = s.find(hash, channel);
  if (!found) return r;
  log& l = *found;
  if (options_.age.count() > 0) l.drop_before(oldest_time(options_.clock()));
  r.head = l.head;
  r.oldest = l.oldest();
  if (since >= l.head || l.size == 0) return r;

  std::uint64_t offset = std::max(since + 1, r.oldest);
  std::size_t count = std::min<std::uint64_t>(limit.messages, l.head - offset + 1);
  std::size_t bytes = 0, fit = 0;
  for (; fit < count; ++fit) {
    bytes += l[offset + fit].data.bytes().size();
    if (bytes > limit.bytes && fit > 0) break;
  }
  r.messages.reserve(fit);
  for (std::size_t i = 0; i < fit; ++i) r.messages.push_back(l[offset + i].as_message(offset + i));
  return r;
}

HAILWIRE_INLINE memory_storage::entry::entry(const draft& d) : data(d.data), at(d.at) {
  std::uint32_t sizes[2] = {static_cast<std::uint32_t>(d.from.size()), static_cast<std::uint32_t>(d.type.size())};
  if (sizes[0] == 0 && sizes[1] == 0) return;
  words.reset(new char[sizeof sizes + sizes[0] + sizes[1]]);
  std::memcpy(words.get(), sizes, sizeof sizes);
  std::memcpy(words.get() + sizeof sizes, d.from.data(), sizes[0]);
  std::memcpy(words.get() + sizeof sizes + sizes[0], d.type.data(), sizes[1]);
}

HAILWIRE_INLINE message memory_storage::entry::as_message(std::uint64_t offset) const {
  message m;
  m.offset = offset;
  m.at = at;
  m.data = data;
  if (words) {
    std::uint32_t sizes[2];
    std::memcpy(sizes, words.get(), sizeof sizes);
    m.from.assign(words.get() + sizeof sizes, sizes[0]);
    m.type.assign(words.get() + sizeof sizes + sizes[0], sizes[1]);
  }
  return m;
}

HAILWIRE_INLINE memory_storage::log::log(std::string_view channel) noexcept
    : name_size(static_cast<std::uint32_t>(channel.size())) {
  channel.copy(behind(this), channel.size());
}

HAILWIRE_INLINE memory_storage::entry& memory_storage::log::slot(std::uint64_t place) noexcept {
  if (capacity == 1) return only;
  std::uint64_t at = first + place;
  return ring[at < capacity ? at : at - capacity];
}

HAILWIRE_INLINE void memory_storage::log::make_room(std::size_t most) {
  if (size < capacity || size >= most) return;
  resize(static_cast<std::uint32_t>(std::min<std::size_t>(most, std::size_t{capacity} * 2)));
}

HAILWIRE_INLINE void memory_storage::log::push(entry e, std::size_t most, std::size_t most_bytes) noexcept {
  bytes += e.data.bytes().size();
  while (size > 0 && (size >= most || bytes > most_bytes)) drop();
  ::new (static_cast<void*>(&slot(size++))) entry(std::move(e));
  ++head;
}

HAILWIRE_INLINE void memory_storage::log::drop() noexcept {
  bytes -= slot(0).data.bytes().size();
  slot(0).~entry();
  first = (first + 1) % capacity;
  --size;
}

HAILWIRE_INLINE void memory_storage::log::clear() noexcept {
  while (size > 0) drop();
  if (capacity > 1) ::operator delete(ring);
  capacity = 1;
  first = 0;
}

HAILWIRE_INLINE void memory_storage::log::drop_before(std::int64_t time) {
  while (size > 0 && slot(0).at < time) drop();
  if (size > 1 && std::min(slot(1).at, slot(size - 1).at) < time) {
    std::uint32_t young = 0;  // how many behind the last one that is too old
    while (slot(size - 1 - young).at >= time) ++young;
    while (size > young) drop();
  }
  if (size == 0) {
    clear();
  } else if (size < capacity / 4) {
    resize(capacity / 2);
  }
}

HAILWIRE_INLINE void memory_storage::log::resize(std::uint32_t room) {
  auto* moved = static_cast<entry*>(::operator new(room * sizeof(entry)));
  for (std::uint32_t i = 0; i < size; ++i) {
    ::new (static_cast<void*>(moved + i)) entry(std::move(slot(i)));
    slot(i).~entry();
  }
  if (capacity > 1) ::operator delete(ring);
  ring = moved;
  capacity = room;
  first = 0;
}

HAILWIRE_INLINE memory_storage::shard::~shard() {
  while (oldest_key) forget_oldest();
  channels.delete_all();
}

HAILWIRE_INLINE memory_storage::log* memory_storage::shard::add(const bits128& hash, std::string_view channel) {
  auto* l = new (detail::with_tail::tail{channel.size()}) log(channel);
  channels.insert(*l, hash.low);
  return l;
}

HAILWIRE_INLINE void memory_storage::shard::keep(std::unique_ptr<kept_key> owned) noexcept {
  kept_key* k = owned.release();
  keys.insert(*k, k->name.low);
  (youngest_key ? youngest_key->younger : oldest_key) = k;
  youngest_key = k;
}

HAILWIRE_INLINE void memory_storage::shard::forget_oldest() noexcept {
  std::unique_ptr<kept_key> k(oldest_key);
  oldest_key = k->younger;
  if (!oldest_key) youngest_key = nullptr;
  --k->of->keys;
  keys.remove(*k);
}

HAILWIRE_INLINE void memory_storage::forget_keys(shard& s, std::int64_t now) noexcept {
  const auto lifetime = std::chrono::duration_cast<std::chrono::milliseconds>(options_.key_lifetime).count();
  while (s.oldest_key && now - s.oldest_key->at > lifetime) s.forget_oldest();
}

HAILWIRE_INLINE void memory_storage::sweep(shard& s, std::int64_t now) {
  s.swept = (s.swept + 1) & (s.channels.buckets() - 1);
  for (auto* n = s.channels.bucket(s.swept); n; n = n->next_in_bucket)
    static_cast<log*>(n)->drop_before(oldest_time(now));
}

}  // namespace hailwire
