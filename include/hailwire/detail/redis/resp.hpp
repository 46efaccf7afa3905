// SPDX-License-Identifier: BSL-1.0
#pragma once

// Redis's protocol, version 2 (RESP2), by hiredis's command formatter and reply reader, which are alike in 0.14
// and 1.x. Bytes in, bytes out; no socket.

#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// A command as a list of arguments, each of any bytes. What is added as a view has to live until `append_to`.
class redis_command {
 public:
  redis_command() = default;
  redis_command(std::initializer_list<std::string_view> words) {
    for (auto w : words) add(w);
  }

  redis_command& add(std::string_view word) {
    words_.push_back(word.data() ? word.data() : "");
    sizes_.push_back(word.size());
    bytes_ += word.size();
    return *this;
  }
  /// Keeps the bytes itself.
  redis_command& own(std::string word) { return add(owned_.emplace_back(std::move(word))); }
  redis_command& number(std::uint64_t n) { return own(std::to_string(n)); }
  redis_command& number(std::int64_t n) { return own(std::to_string(n)); }

  std::size_t size() const noexcept { return words_.size(); }
  /// Of all arguments, without what the protocol adds.
  std::size_t bytes() const noexcept { return bytes_; }
  std::string_view word(std::size_t i) const noexcept { return {words_[i], sizes_[i]}; }

  /// Appends the command's bytes on the wire. Throws `std::bad_alloc`.
  void append_to(std::string& out) const {
    char* made = nullptr;
    // The arguments are only read; hiredis's signature has been const in the second place alone.
    auto words = words_;
    const auto n = ::redisFormatCommandArgv(&made, static_cast<int>(words.size()), words.data(), sizes_.data());
    if (n < 0) throw std::bad_alloc();
    std::unique_ptr<char, free_command> owner(made);
    out.append(made, static_cast<std::size_t>(n));
  }

 private:
  struct free_command {
    void operator()(char* p) const noexcept { ::redisFreeCommand(p); }
  };
  std::vector<const char*> words_;
  std::vector<std::size_t> sizes_;
  std::deque<std::string> owned_;  // a deque: what is in it does not move
  std::size_t bytes_ = 0;
};

/// A look at a reply, valid as long as it. Asking for what it is not gives nothing: a number 0, an empty text.
class redis_reply {
 public:
  explicit redis_reply(const ::redisReply* r = nullptr) noexcept : r_(r) {}

  bool is_error() const noexcept { return is(REDIS_REPLY_ERROR); }
  bool is_nil() const noexcept { return !r_ || is(REDIS_REPLY_NIL); }
  bool is_array() const noexcept { return is(REDIS_REPLY_ARRAY); }
  bool is_integer() const noexcept { return is(REDIS_REPLY_INTEGER); }
  /// A string, a status or an error.
  std::string_view text() const noexcept {
    return is(REDIS_REPLY_STRING) || is(REDIS_REPLY_STATUS) || is(REDIS_REPLY_ERROR)
               ? std::string_view(r_->str, r_->len)
               : std::string_view();
  }
  std::int64_t integer() const noexcept { return is_integer() ? r_->integer : 0; }
  /// Of an array; 0 of everything else.
  std::size_t size() const noexcept { return is_array() ? r_->elements : 0; }
  /// The element, or nil where there is none.
  redis_reply operator[](std::size_t i) const noexcept { return redis_reply(i < size() ? r_->element[i] : nullptr); }
  /// Whether an error begins with this word.
  bool failed_with(std::string_view word) const noexcept {
    return is_error() && text().starts_with(word) && (text().size() == word.size() || text()[word.size()] == ' ');
  }

 private:
  bool is(int type) const noexcept { return r_ && r_->type == type; }
  const ::redisReply* r_;
};

/// Reads replies from bytes as they come, in any pieces. It holds one unfinished reply of at most `most` bytes.
class redis_reader {
 public:
  struct free_reply {
    void operator()(::redisReply* r) const noexcept { ::freeReplyObject(r); }
  };
  using reply_pointer = std::unique_ptr<::redisReply, free_reply>;

  explicit redis_reader(std::size_t most) : reader_(::redisReaderCreate()), most_(most) {
    if (!reader_) throw std::bad_alloc();
  }

  /// Takes what the connection has brought. False: see `error`.
  bool feed(std::span<const char> in) {
    if (!error_.empty()) return false;
    if (::redisReaderFeed(reader_.get(), in.data(), in.size()) != REDIS_OK) return fail();
    unfinished_ += in.size();
    return true;
  }
  /// The next whole reply; null where there is none yet, or an error.
  reply_pointer next() {
    if (!error_.empty()) return nullptr;
    void* made = nullptr;
    if (::redisReaderGetReply(reader_.get(), &made) != REDIS_OK) {
      fail();
      return nullptr;
    }
    reply_pointer out(static_cast<::redisReply*>(made));
    if (out)
      unfinished_ = reader_->len - reader_->pos;
    else if (unfinished_ > most_)
      error_ = "a reply of more than " + std::to_string(most_) + " bytes";
    return out;
  }
  /// In English; empty: none.
  const std::string& error() const noexcept { return error_; }

 private:
  struct free_reader {
    void operator()(::redisReader* r) const noexcept { ::redisReaderFree(r); }
  };
  bool fail() {
    error_ = "not a reply of Redis: " + std::string(reader_->errstr);
    return false;
  }
  std::unique_ptr<::redisReader, free_reader> reader_;
  std::size_t most_, unfinished_ = 0;
  std::string error_;
};

}  // namespace hailwire::detail
