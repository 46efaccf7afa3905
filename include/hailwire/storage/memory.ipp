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
    : options_(options), secret_(detail::random_bits()), ages_(options.age.count() > 0) {
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
  if (ages_.load(std::memory_order_relaxed)) sweep(s);

  log* l = s.find(hash, channel);
  if (l && l->capacity > 1)
    __builtin_prefetch(l->ring + (l->size < l->capacity ? (l->first + l->size) % l->capacity : l->first), 1);
  std::unique_ptr<kept_key> key;
  if (!d.key.empty()) {
    bits128 name = detail::keyed_hash(secret_).add(hash.low).add(hash.high).add(d.key).finish(),
            print = detail::fingerprint(secret_, d);
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
  return store(s, l, hash, channel, d.keep, entry(d), std::move(key));
}

HAILWIRE_INLINE append_result memory_storage::store(shard& s, log* l, const bits128& hash, std::string_view channel,
                                                    const retention& keep, entry e, std::unique_ptr<kept_key> key) {
  std::uint16_t number = 0;
  if (keep != retention()) {
    if (l && l->keep && s.retentions[l->keep - 1u] == keep) {
      number = l->keep;
    } else if (number = number_of(s, keep); number == 0) {
      return errc::overloaded;
    }
  }
  if (!l) {
    if (channels_.fetch_add(1, std::memory_order_relaxed) >= options_.channels) {
      channels_.fetch_sub(1, std::memory_order_relaxed);
      return errc::overloaded;
    }
    l = s.add(hash, channel);
  }
  const bounds most = bounds_of(s, number);
  l->make_room(most.messages);  // the last step that can throw: key and message are kept together or not at all
  l->keep = number;
  l->push(std::move(e), most.messages, most.bytes);
  if (key) {
    key->offset = l->head;
    key->of = l;
    ++l->keys;
    s.keep(std::move(key));
  }
  return position{detail::epoch_of(hash), l->head};  // an epoch takes no allocation, so nothing throws here
}

HAILWIRE_INLINE append_result memory_storage::erase(std::string_view channel, const position& at, const draft& d) {
  const std::uint64_t offset = at.offset;
  const bits128 hash = hash_of(channel);
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  log* l = s.find(hash, channel);
  if (!l || at.epoch != detail::epoch_of(hash)) return errc::not_found;
  drop_aged(s, *l);
  if (offset < l->oldest() || offset > l->head) return errc::not_found;
  if (std::uint64_t by = (*l)[offset].erased_by()) {
    append_result first(position{detail::epoch_of(hash), by});
    first.duplicate = true;
    return first;
  }
  if ((*l)[offset].erases()) return errc::not_found;
  draft plain;
  plain.at = d.at;
  plain.from = d.from;
  entry note(plain, offset), bare = (*l)[offset].taken_back(l->head + 1);  // before the first change
  append_result r = store(s, l, hash, channel, d.keep, std::move(note), nullptr);
  if (!r.error && offset >= l->oldest()) {
    entry& erased = (*l)[offset];
    l->bytes -= erased.data.bytes().size();
    std::swap(erased, bare);
    l->bytes += erased.data.bytes().size();
  }
  return r;
}

HAILWIRE_INLINE mark_result memory_storage::mark(std::string_view channel, const watermark& m) {
  const bits128 hash = hash_of(channel);
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  const std::string epoch = detail::epoch_of(hash);
  if (m.epoch != epoch) return errc::not_found;
  const log* l = s.find(hash, channel);
  watermark_levels levels;
  detail::raise(levels, m.levels);
  if (levels.received > (l ? l->head : 0)) return errc::bad_request;

  mark_name name{std::string(channel), m.user, {}};
  std::vector<mark_table::iterator> devices;
  std::vector<std::int64_t> seen;
  auto own = s.marks.end();
  mark_result r;
  for (auto at = s.marks.lower_bound(name); at != s.marks.end() && at->first.same_user(name); ++at) {
    devices.push_back(at);
    seen.push_back(at->second.at);
    if (at->first.device == m.device) own = at;
    if (at->second.epoch == epoch) detail::raise(r.before, at->second.levels);
  }
  if (own == s.marks.end()) {
    const std::size_t old = detail::gives_way(seen, m.at);
    if (old == detail::none_gives_way) return errc::conflict;
    const bool more = old == devices.size();
    if (more && marks_.load(std::memory_order_relaxed) >= options_.watermarks) return errc::overloaded;
    name.device = m.device;
    own = s.marks.try_emplace(std::move(name)).first;
    more ? void(marks_.fetch_add(1, std::memory_order_relaxed)) : void(s.marks.erase(devices[old]));
  }
  if (own->second.epoch != epoch) own->second = {epoch, {}, 0};
  detail::raise(own->second.levels, levels);
  own->second.at = std::max(own->second.at, m.at);
  r.after = r.before;
  detail::raise(r.after, own->second.levels);
  return r;
}

HAILWIRE_INLINE watermarks_result memory_storage::watermarks(std::string_view channel, const watermark_query& q) {
  shard& s = shard_of(hash_of(channel));
  std::lock_guard lock(s.mutex);
  watermarks_result r;
  mark_name from{std::string(channel), q.user, {}};
  if (q.user.empty() && !q.after.empty()) from.user = q.after + '\0';  // no name lies between the two
  std::size_t users = 0;
  for (auto at = s.marks.lower_bound(from); at != s.marks.end() && at->first.channel == channel; ++at) {
    const auto& [name, value] = *at;
    if (!q.user.empty() && name.user != q.user) break;
    if (r.marks.empty() || r.marks.back().user != name.user) {
      if (q.user.empty() && users > 0 && users >= q.users) {
        r.more = true;
        break;
      }
      ++users;
    }
    r.marks.push_back({name.user, name.device, value.epoch, value.levels, value.at});
  }
  return r;
}

HAILWIRE_INLINE tokens_result memory_storage::keep_token(const device_token& t) {
  std::lock_guard lock(tokens_mutex_);
  const device_name who(t.user, t.device);
  device_token kept = t;
  auto own = tokens_.find(who);
  std::optional<device_name> gone;
  if (own == tokens_.end()) {
    std::vector<std::int64_t> seen;
    std::vector<token_table::iterator> devices;
    for (auto at = tokens_.lower_bound({t.user, {}}); at != tokens_.end() && at->first.first == t.user; ++at) {
      devices.push_back(at);
      seen.push_back(at->second.at);
    }
    const std::size_t old = detail::gives_way(seen, t.at);
    if (old == detail::none_gives_way) return errc::conflict;
    if (old == devices.size() && tokens_.size() >= options_.tokens) return errc::overloaded;
    if (old < devices.size()) gone = devices[old]->first;
  }
  // What may throw comes before the first change that shows.
  device_name owner = who;
  auto [name, fresh] = named_.try_emplace({t.service, t.token}, who);
  if (own == tokens_.end()) {
    try {
      own = tokens_.try_emplace(who).first;
    } catch (...) {
      if (fresh) named_.erase(name);
      throw;
    }
  } else if (own->second.token != t.token || own->second.service != t.service) {
    named_.erase(named_.find({own->second.service, own->second.token}));
  }
  std::swap(own->second, kept);
  if (name->second != who) {  // it was another device's
    std::swap(name->second, owner);
    tokens_.erase(owner);
    if (gone == owner) gone.reset();
  }
  if (gone) drop_token(*gone);
  return {};
}

HAILWIRE_INLINE tokens_result memory_storage::tokens(std::string_view user) {
  std::lock_guard lock(tokens_mutex_);
  tokens_result r;
  for (auto at = tokens_.lower_bound({std::string(user), {}}); at != tokens_.end() && at->first.first == user; ++at)
    r.tokens.push_back(at->second);
  return r;
}

HAILWIRE_INLINE tokens_result memory_storage::forget_token(std::string_view user, std::string_view device,
                                                           std::string_view token) {
  std::lock_guard lock(tokens_mutex_);
  const device_name who{std::string(user), std::string(device)};
  auto own = tokens_.find(who);
  if (own != tokens_.end() && (token.empty() || own->second.token == token)) drop_token(who);
  return {};
}

HAILWIRE_INLINE void memory_storage::drop_token(const device_name& who) noexcept {
  auto at = tokens_.find(who);
  named_.erase({at->second.service, at->second.token});
  tokens_.erase(at);
}

HAILWIRE_INLINE memory_storage::bounds memory_storage::bounds_of(const shard& s, std::uint16_t number) const noexcept {
  bounds out{options_.messages, options_.bytes, age_of(options_.age)};
  if (number == 0) return out;
  const retention& own = s.retentions[number - 1u];
  if (own.messages) out.messages = std::clamp<std::uint64_t>(own.messages, 1, UINT32_MAX / 2);
  if (own.bytes) out.bytes = own.bytes;
  if (own.age.count() > 0) out.age = age_of(own.age);
  return out;
}

HAILWIRE_INLINE std::uint16_t memory_storage::number_of(shard& s, const retention& keep) {
  auto found = std::find(s.retentions.begin(), s.retentions.end(), keep);
  if (found == s.retentions.end()) {
    if (s.retentions.size() == most_retentions) return 0;
    found = s.retentions.insert(s.retentions.end(), keep);
    if (keep.age.count() > 0) ages_.store(true, std::memory_order_relaxed);
  }
  return static_cast<std::uint16_t>(found - s.retentions.begin() + 1);
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
  drop_aged(s, l);
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

HAILWIRE_INLINE memory_storage::entry::entry(const draft& d, std::uint64_t erases) : data(d.data), at(d.at) {
  if (d.from.empty() && d.type.empty() && !erases && !d.content) return;
  rare r;
  r.erases = erases;
  write(d.from, d.type, r, d.content.get());
}

HAILWIRE_INLINE void memory_storage::entry::write(std::string_view from, std::string_view type, rare r,
                                                  const content_reference* content) {
  sizes n;
  n.from = static_cast<std::uint32_t>(from.size());
  n.type = static_cast<std::uint32_t>(type.size()) & 0x7FFFFFFF;
  std::string_view id, media;
  if (content) {
    r.content = 1;
    r.size = content->size;
    id = content->id;
    media = content->type;
    r.id = static_cast<std::uint32_t>(id.size());
    r.media = static_cast<std::uint32_t>(media.size()) & 0x7FFFFFFF;
  }
  n.has_rare = content || r.erases || r.erased_by;
  words.reset(new char[sizeof n + (n.has_rare ? sizeof r : 0) + from.size() + type.size() + id.size() + media.size()]);
  char* to = words.get();
  auto add = [&](const void* bytes, std::size_t size) {
    if (size) std::memcpy(to, bytes, size);
    to += size;
  };
  add(&n, sizeof n);
  if (n.has_rare) add(&r, sizeof r);
  for (std::string_view text : {from, type, id, media}) add(text.data(), text.size());
}

HAILWIRE_INLINE memory_storage::entry::rare memory_storage::entry::rarely() const noexcept {
  rare r;
  sizes n;
  if (words) std::memcpy(&n, words.get(), sizeof n);
  if (n.has_rare) std::memcpy(&r, words.get() + sizeof n, sizeof r);
  return r;
}

HAILWIRE_INLINE memory_storage::entry memory_storage::entry::taken_back(std::uint64_t by) const {
  draft plain;
  plain.at = at;
  entry out(plain);
  rare r;
  r.erased_by = by;
  out.write(as_message(0).from, {}, r, nullptr);
  return out;
}

HAILWIRE_INLINE message memory_storage::entry::as_message(std::uint64_t offset) const {
  message m;
  m.offset = offset;
  m.at = at;
  m.data = data;
  if (words) {
    sizes n;
    std::memcpy(&n, words.get(), sizeof n);
    const char* from = words.get() + sizeof n + (n.has_rare ? sizeof(rare) : 0);
    m.from.assign(from, n.from);
    m.type.assign(from + n.from, n.type);
    if (n.has_rare) {
      const rare r = rarely();
      const char* id = from + n.from + n.type;
      m.erases = r.erases;
      m.erased = r.erased_by != 0;
      if (r.content) {
        m.content = std::make_shared<const content_reference>(
            content_reference{std::string(id, r.id), r.size, std::string(id + r.id, r.media)});
      }
    }
  }
  return m;
}

HAILWIRE_INLINE memory_storage::log::log(std::string_view channel) noexcept
    : name_size(static_cast<std::uint16_t>(channel.size())) {
  channel.copy(behind(this), name_size);
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

HAILWIRE_INLINE void memory_storage::sweep(shard& s) {
  s.swept = (s.swept + 1) & (s.channels.buckets() - 1);
  for (auto* n = s.channels.bucket(s.swept); n; n = n->next_in_bucket) drop_aged(s, *static_cast<log*>(n));
}

HAILWIRE_INLINE void memory_storage::drop_aged(shard& s, log& l) {
  if (!ages_.load(std::memory_order_relaxed)) return;
  if (const std::int64_t age = bounds_of(s, l.keep).age; age > 0) l.drop_before(options_.clock() - age);
}

}  // namespace hailwire
