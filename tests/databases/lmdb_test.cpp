// SPDX-License-Identifier: BSL-1.0
// A storage in LMDB, written as a host would: an embedded database whose keys are bytes in order, and whose write
// transactions are one at a time. A message's key is its channel and its offset; a channel's is its name alone.
#include <lmdb.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "catch.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/storage/blocking.hpp"
#include "hailwire/testing/storage_contract.hpp"

using namespace hailwire;

namespace {

class lmdb_storage {
 public:
  [[maybe_unused]] static constexpr bool thread_safe =
      true;  // LMDB's writers take turns, and its readers wait for nobody

  explicit lmdb_storage(const std::string& folder) {
    check(::mdb_env_create(&env_));
    ::mdb_env_set_mapsize(env_, std::size_t{1} << 30);
    check(::mdb_env_open(env_, folder.c_str(), MDB_NOTLS, 0644));
    transaction t(*this, 0);
    check(::mdb_dbi_open(t.get(), nullptr, 0, &log_));
    MDB_val mark = view(secret_key), secret;
    if (::mdb_get(t.get(), log_, &mark, &secret) == MDB_NOTFOUND) {
      secret_ = hailwire::detail::random_bits();
      secret = {sizeof secret_, &secret_};
      check(::mdb_put(t.get(), log_, &mark, &secret, 0));
    } else {
      std::memcpy(&secret_, secret.mv_data, sizeof secret_);
    }
    t.commit();
  }
  ~lmdb_storage() { ::mdb_env_close(env_); }
  lmdb_storage(const lmdb_storage&) = delete;
  lmdb_storage& operator=(const lmdb_storage&) = delete;

  append_result append(std::string_view channel, const draft& d) {
    const channel_draft one{channel, d};
    return append_all({&one, 1}).front();
  }
  /// One transaction, and so one wait for the disk.
  std::vector<append_result> append_all(std::span<const channel_draft> all) {
    std::vector<append_result> out;
    transaction t(*this, 0);
    for (const auto& one : all) {
      std::uint64_t offset = head(t.get(), one.channel) + 1;
      std::string key = key_of(one.channel, offset), name = key_of(one.channel), bytes = packed(one.message);
      MDB_val k = view(key), v = view(bytes);
      check(::mdb_put(t.get(), log_, &k, &v, 0));
      std::string number = big_endian(offset);
      k = view(name), v = view(number);
      check(::mdb_put(t.get(), log_, &k, &v, 0));
      out.emplace_back(position{epoch(one.channel), offset});
    }
    t.commit();
    return out;
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    read_result r;
    transaction t(*this, MDB_RDONLY);
    r.epoch = epoch(channel);
    r.head = head(t.get(), channel);
    std::size_t bytes = 0;
    for (auto offset = std::min(since, r.head) + 1; offset <= r.head && r.messages.size() < limit.messages; ++offset) {
      std::string key = key_of(channel, offset);
      MDB_val k = view(key), v;
      check(::mdb_get(t.get(), log_, &k, &v));
      message m = unpacked(offset, text(v));
      bytes += m.data.bytes().size();
      if (bytes > limit.bytes && !r.messages.empty()) break;
      r.messages.push_back(std::move(m));
    }
    return r;
  }

 private:
  class transaction {
   public:
    transaction(lmdb_storage& of, unsigned flags) { check(::mdb_txn_begin(of.env_, nullptr, flags, &t_)); }
    ~transaction() {
      if (t_) ::mdb_txn_abort(t_);
    }
    MDB_txn* get() const noexcept { return t_; }
    void commit() { check(::mdb_txn_commit(std::exchange(t_, nullptr))); }

   private:
    MDB_txn* t_ = nullptr;
  };
  static constexpr std::string_view secret_key = "e";

  static void check(int code) {
    if (code) throw std::runtime_error(::mdb_strerror(code));
  }
  static MDB_val view(std::string_view s) { return {s.size(), const_cast<char*>(s.data())}; }
  static std::string_view text(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }
  static std::string big_endian(std::uint64_t n) {
    std::string out(8, '\0');
    for (std::size_t i = 8; i-- > 0; n >>= 8) out[i] = static_cast<char>(n & 0xff);
    return out;
  }
  static std::uint64_t number(std::string_view s) {
    std::uint64_t n = 0;
    for (char c : s.substr(0, 8)) n = n << 8 | static_cast<unsigned char>(c);
    return n;
  }
  static std::string key_of(std::string_view channel) { return 'c' + std::string(channel); }
  // The length of the name comes first, so that no name and offset are another name's. LMDB's keys have 511 bytes at
  // most.
  static std::string key_of(std::string_view channel, std::uint64_t offset) {
    return 'm' + std::string(1, static_cast<char>(channel.size())) + std::string(channel) + big_endian(offset);
  }
  static std::string packed(const draft& d) {
    std::string out = big_endian(static_cast<std::uint64_t>(d.at));
    out += static_cast<char>(d.data.type());
    for (std::string_view s :
         {std::string_view(d.from), std::string_view(d.type), std::string_view(d.data.content_type())})
      out.append(big_endian(s.size())).append(s);
    return out.append(d.data.bytes());
  }
  static message unpacked(std::uint64_t offset, std::string_view s) {
    message m;
    m.offset = offset;
    m.at = static_cast<std::int64_t>(number(s));
    auto kind = static_cast<payload::kind>(s[8]);
    s.remove_prefix(9);
    std::string parts[3];
    for (auto& p : parts) {
      auto size = number(s);
      p = s.substr(8, size);
      s.remove_prefix(8 + size);
    }
    m.from = parts[0];
    m.type = parts[1];
    m.data = kind == payload::kind::json   ? payload::json(std::string(s))
             : kind == payload::kind::text ? payload::text(std::string(s), parts[2])
                                           : payload::binary(std::string(s), parts[2]);
    return m;
  }
  std::uint64_t head(MDB_txn* t, std::string_view channel) const {
    std::string name = key_of(channel);
    MDB_val k = view(name), v;
    int code = ::mdb_get(t, log_, &k, &v);
    if (code == MDB_NOTFOUND) return 0;
    check(code);
    return number(text(v));
  }
  // Each channel has its own, made of the file's secret.
  std::string epoch(std::string_view channel) const {
    return hailwire::detail::epoch_of(hailwire::detail::keyed_hash(secret_).add(channel).finish());
  }

  MDB_env* env_ = nullptr;
  MDB_dbi log_ = 0;
  hailwire::detail::bits128 secret_;
};

template <class Storage>
struct fixture {
  std::string folder;
  template <class... Args>
  std::unique_ptr<Storage> made(Args&&... args) {
    return std::make_unique<Storage>(std::forward<Args>(args)..., folder);
  }
  std::unique_ptr<Storage> open() {
    drop();
    char name[] = "/tmp/hailwire_lmdb.XXXXXX";
    REQUIRE(::mkdtemp(name));
    folder = name;
    return reopen();
  }
  std::unique_ptr<Storage> reopen() {
    if constexpr (std::is_same_v<Storage, lmdb_storage>) {
      return made();
    } else {
      return made(blocking_options{});
    }
  }
  void drop() {
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
  fixture() = default;
  fixture(fixture&& other) noexcept : folder(std::exchange(other.folder, {})) {}
  ~fixture() { drop(); }
};

}  // namespace

TEST_CASE("LMDB keeps the storage contract, through being opened again") {
  auto outcomes = testing::storage_contract(fixture<lmdb_storage>());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

TEST_CASE("LMDB keeps the storage contract off the loop, filled with what waits") {
  auto outcomes = testing::storage_contract(fixture<blocking_storage<lmdb_storage>>());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}
