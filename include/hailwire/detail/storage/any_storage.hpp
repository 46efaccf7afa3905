// SPDX-License-Identifier: BSL-1.0
#pragma once

// A storage as the hub knows it: whatever the host has brought, its type erased, every operation answered by a handler.

#include <concepts>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hailwire/storage_concept.hpp"

namespace hailwire {

namespace detail {

/// What a storage's exception, which is being caught, counts as.
template <class Result>
[[gnu::cold]] Result failed() {
  Result r(make_error_code(errc::internal));
  r.cause = std::current_exception();
  return r;
}

/// The parts of a storage that it need not have.
enum class storage_member : std::uint8_t { retention, erase, watermarks, tokens, content };

/// A storage with its type erased. Handlers are called exactly once, from any thread, possibly before the call returns.
struct any_storage {
  virtual ~any_storage() = default;
  virtual void append(std::string_view channel, draft&& d, append_handler done) = 0;
  /// Where a storage in memory looks for a channel; only its own to understand.
  struct place {
    alignas(8) unsigned char bytes[16];
  };
  /// Whether it answers when it returns; then an append or a read needs no handler. `at` is of this
  /// channel.
  virtual bool at_once() const noexcept { return false; }
  virtual append_result append_now(const place& /*at*/, std::string_view /*channel*/, const draft& /*d*/) {
    return errc::internal;
  }
  /// Such an append comes soon: memory is asked for before it is needed.
  virtual place prefetch(std::string_view /*channel*/) noexcept { return {}; }
  virtual void prefetch_entry(const place& /*at*/) noexcept {}
  virtual void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) = 0;
  virtual read_result read_now(std::string_view /*channel*/, std::uint64_t /*since*/, read_limit /*limit*/) {
    return make_error_code(errc::internal);
  }
  virtual bool keeps_keys() const noexcept = 0;
  virtual bool announces() const noexcept { return false; }

  /// The optional members. What a storage does not have answers `errc::not_implemented`.
  virtual bool offers(storage_member) const noexcept { return false; }
  virtual void erase(std::string_view /*channel*/, position&& /*at*/, draft&& /*d*/, append_handler done) {
    done(errc::not_implemented);
  }
  virtual void mark(std::string_view /*channel*/, watermark&& /*m*/, mark_handler done) { done(errc::not_implemented); }
  virtual void watermarks(std::string_view /*channel*/, watermark_query&& /*q*/, watermarks_handler done) {
    done(errc::not_implemented);
  }
  virtual void keep_token(device_token&& /*t*/, tokens_handler done) { done(errc::not_implemented); }
  virtual void tokens(std::string_view /*user*/, tokens_handler done) { done(errc::not_implemented); }
  virtual void forget_token(std::string_view /*user*/, std::string_view /*device*/, std::string_view /*token*/,
                            tokens_handler done) {
    done(errc::not_implemented);
  }
  virtual void open_content(upload&& /*u*/, const content_limits& /*limits*/, upload_handler done) {
    done(errc::not_implemented);
  }
  virtual void find_content(std::string_view /*id*/, upload_handler done) { done(errc::not_implemented); }
  virtual void write_content(std::string_view /*id*/, std::uint64_t /*offset*/, std::string&& /*bytes*/,
                             upload_handler done) {
    done(errc::not_implemented);
  }
  virtual void commit_content(std::string_view /*id*/, upload_handler done) { done(errc::not_implemented); }
  virtual void abort_content(std::string_view /*id*/, upload_handler done) { done(errc::not_implemented); }
  virtual void read_content(std::string_view /*id*/, std::uint64_t /*from*/, std::size_t /*size*/,
                            content_handler done) {
    done(errc::not_implemented);
  }
};

// What a handed-in storage is: itself, or what a smart pointer points to.
template <class T>
struct pointee {
  using type = T;
};
template <class T, class D>
struct pointee<std::unique_ptr<T, D>> {
  using type = T;
};
template <class T>
struct pointee<std::unique_ptr<T>> {
  using type = T;
};
template <class T>
struct pointee<std::shared_ptr<T>> {
  using type = T;
};

/// `Holder` is a reference to a storage (the host's), a storage, or a smart pointer to one.
template <class Holder>
class erased_storage final : public any_storage {
  using type = typename pointee<std::remove_cvref_t<Holder>>::type;

 public:
  explicit erased_storage(Holder&& s) : holder_(std::forward<Holder>(s)) {}

  void append(std::string_view channel, draft&& d, append_handler done) override {
    if constexpr (asynchronous_storage<type>) {
      storage().async_append(channel, std::move(d), std::move(done));
    } else {
      done(append_now(prefetch(channel), channel, d));
    }
  }
  place prefetch(std::string_view channel) noexcept override {
    place out{};
    if constexpr (has_places) {
      auto at = storage().place_of(channel);
      static_assert(sizeof at == sizeof out.bytes && std::is_trivially_copyable_v<decltype(at)>);
      std::memcpy(out.bytes, &at, sizeof at);
      storage().prefetch_entry(at, 0);
    }
    return out;
  }
  void prefetch_entry(const place& at) noexcept override {
    if constexpr (has_places) storage().prefetch_entry(own(at), 1);
  }
  bool at_once() const noexcept override { return !asynchronous_storage<type>; }
  append_result append_now(const place& at, std::string_view channel, const draft& d) override {
    if constexpr (asynchronous_storage<type>) {
      return any_storage::append_now(at, channel, d);
    } else {
      try {
        if constexpr (has_places) {
          return storage().append(own(at), channel, d);
        } else {
          return storage().append(channel, d);
        }
      } catch (...) {
        return failed<append_result>();
      }
    }
  }
  void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) override {
    if constexpr (asynchronous_storage<type>) {
      storage().async_read(channel, since, limit, std::move(done));
    } else {
      done(read_now(channel, since, limit));
    }
  }
  read_result read_now(std::string_view channel, std::uint64_t since, read_limit limit) override {
    if constexpr (asynchronous_storage<type>) {
      return any_storage::read_now(channel, since, limit);
    } else {
      try {
        return storage().read(channel, since, limit);
      } catch (...) {
        return failed<read_result>();
      }
    }
  }
  bool keeps_keys() const noexcept override {
    if constexpr (requires {
                    { type::keeps_keys } -> std::convertible_to<bool>;
                  }) {
      return type::keeps_keys;
    } else {
      return false;
    }
  }

  bool announces() const noexcept override { return detail::announces<type>; }

  bool offers(storage_member part) const noexcept override {
    switch (part) {
      case storage_member::retention:
        return retaining_storage<type>;
      case storage_member::erase:
        return erasing_storage<type>;
      case storage_member::watermarks:
        return watermark_storage<type>;
      case storage_member::tokens:
        return token_storage<type>;
      case storage_member::content:
        return content_storage<type>;
    }
    return false;
  }
  void erase(std::string_view channel, position&& at, draft&& d, append_handler done) override {
    if constexpr (!erasing_storage<type>) {
      any_storage::erase(channel, std::move(at), std::move(d), std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_erase(channel, std::move(at), std::move(d), std::move(done));
    } else {
      answer<append_result>(
          done, [&] { return append_result(storage().erase(channel, std::as_const(at), std::as_const(d))); });
    }
  }
  void mark(std::string_view channel, watermark&& m, mark_handler done) override {
    if constexpr (!watermark_storage<type>) {
      any_storage::mark(channel, std::move(m), std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_mark(channel, std::move(m), std::move(done));
    } else {
      answer<mark_result>(done, [&] { return storage().mark(channel, std::as_const(m)); });
    }
  }
  void watermarks(std::string_view channel, watermark_query&& q, watermarks_handler done) override {
    if constexpr (!watermark_storage<type>) {
      any_storage::watermarks(channel, std::move(q), std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_watermarks(channel, std::move(q), std::move(done));
    } else {
      answer<watermarks_result>(done, [&] { return storage().watermarks(channel, std::as_const(q)); });
    }
  }
  void keep_token(device_token&& t, tokens_handler done) override {
    if constexpr (!token_storage<type>) {
      any_storage::keep_token(std::move(t), std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_keep_token(std::move(t), std::move(done));
    } else {
      answer<tokens_result>(done, [&] { return storage().keep_token(std::as_const(t)); });
    }
  }
  void tokens(std::string_view user, tokens_handler done) override {
    if constexpr (!token_storage<type>) {
      any_storage::tokens(user, std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_tokens(user, std::move(done));
    } else {
      answer<tokens_result>(done, [&] { return storage().tokens(user); });
    }
  }
  void forget_token(std::string_view user, std::string_view device, std::string_view token,
                    tokens_handler done) override {
    if constexpr (!token_storage<type>) {
      any_storage::forget_token(user, device, token, std::move(done));
    } else if constexpr (asynchronous_storage<type>) {
      storage().async_forget_token(user, device, token, std::move(done));
    } else {
      answer<tokens_result>(done, [&] { return storage().forget_token(user, device, token); });
    }
  }

  void open_content(upload&& u, const content_limits& limits, upload_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_open_content(std::move(u), limits, std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<upload_result>(done, [&] { return upload_result(storage().open_content(std::as_const(u), limits)); });
    } else {
      any_storage::open_content(std::move(u), limits, std::move(done));
    }
  }
  void find_content(std::string_view id, upload_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_find_content(id, std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<upload_result>(done, [&] { return upload_result(storage().find_content(id)); });
    } else {
      any_storage::find_content(id, std::move(done));
    }
  }
  void write_content(std::string_view id, std::uint64_t offset, std::string&& bytes, upload_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_write_content(id, offset, std::move(bytes), std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<upload_result>(
          done, [&] { return upload_result(storage().write_content(id, offset, std::string_view(bytes))); });
    } else {
      any_storage::write_content(id, offset, std::move(bytes), std::move(done));
    }
  }
  void commit_content(std::string_view id, upload_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_commit_content(id, std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<upload_result>(done, [&] { return upload_result(storage().commit_content(id)); });
    } else {
      any_storage::commit_content(id, std::move(done));
    }
  }
  void abort_content(std::string_view id, upload_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_abort_content(id, std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<upload_result>(done, [&] { return upload_result(storage().abort_content(id)); });
    } else {
      any_storage::abort_content(id, std::move(done));
    }
  }
  void read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done) override {
    if constexpr (asynchronous_content<type>) {
      storage().async_read_content(id, from, size, std::move(done));
    } else if constexpr (content_storage<type>) {
      answer<content_result>(done, [&] { return content_result(storage().read_content(id, from, size)); });
    } else {
      any_storage::read_content(id, from, size, std::move(done));
    }
  }

 private:
  template <class Result, class Handler, class Work>
  static void answer(Handler& done, Work work) {
    Result r;
    try {
      r = work();
    } catch (...) {
      r = failed<Result>();
    }
    done(std::move(r));
  }
  static constexpr bool has_places = requires(type& s, std::string_view c) { s.prefetch_entry(s.place_of(c), 0); };
  static auto own(const place& at) noexcept {
    decltype(std::declval<type&>().place_of(std::string_view())) out;
    std::memcpy(&out, at.bytes, sizeof out);
    return out;
  }
  type& storage() noexcept {
    if constexpr (std::is_same_v<type, std::remove_cvref_t<Holder>>) {
      return holder_;
    } else {
      return *holder_;
    }
  }
  Holder holder_;
};

/// One whose type is erased already goes on as it is.
template <class Storage>
std::unique_ptr<any_storage> erase_storage(Storage&& s) {
  if constexpr (std::is_same_v<std::remove_cvref_t<Storage>, std::unique_ptr<any_storage>>) {
    return std::forward<Storage>(s);
  } else {
    explain_storage<typename pointee<std::remove_cvref_t<Storage>>::type>();
    static_assert(
        std::is_lvalue_reference_v<Storage> || std::is_move_constructible_v<Storage>,
        "hailwire: this storage cannot be moved: hand in std::make_unique<my_storage>(…), or an object of the "
        "host's that outlives the server");
    return std::unique_ptr<erased_storage<Storage>>(new erased_storage<Storage>(std::forward<Storage>(s)));
  }
}

}  // namespace detail
}  // namespace hailwire
