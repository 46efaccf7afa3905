// SPDX-License-Identifier: BSL-1.0
#pragma once

// One server on several threads. Each thread has a hub of its own with its own connections; they are joined by an
// `in_process_broker` and share one storage, exactly as hubs on several machines are joined by a broker and share a
// storage. The hot paths of a hub know nothing of it: what is locked is the storage and the way from one hub to
// another.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/broker/in_process.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/server.hpp"

namespace hailwire {

namespace detail {

options within_system(options o) noexcept;

/// A storage behind several hubs. It keeps the promise of the storage concept that a single hub keeps by itself: calls
/// for one channel never overlap.
class common_storage {
 public:
  /// How it answers: later, in an order of its own; or at once, and then what must not overlap.
  enum class guard : std::uint8_t { later, none, channel, all };

  common_storage(std::unique_ptr<any_storage> s, guard g, bool content_later = false)
      : storage_(std::move(s)), guard_(g), content_later_(content_later) {}

  any_storage& storage() noexcept { return *storage_; }
  bool content_answers_later() const noexcept { return content_later_; }

  /// Calls `start(handler)`, which asks the storage something about `channel`, alone with it where that must be.
  template <class Result, class Start>
  void ask(std::string_view channel, move_only_function<void(Result)> done, Start start) {
    if (guard_ == guard::later) return start(std::move(done));
    // The answer is handed on when the guard is released: the hub may well use the storage again before it returns.
    std::optional<Result> answer;
    auto keep = [&answer](Result r) { answer = std::move(r); };
    if (guard_ == guard::none) {
      start(keep);
    } else {
      std::lock_guard lock(guards_[guard_ == guard::all ? 0 : std::hash<std::string_view>()(channel) % guards_.size()]);
      start(keep);
    }
    done(std::move(*answer));
  }

 private:
  std::unique_ptr<any_storage> storage_;
  guard guard_;
  bool content_later_;
  std::array<std::mutex, 64> guards_;
};

/// What each hub takes for its storage. It answers later, as far as the hub knows: another hub may be in front.
class common_storage_share final : public any_storage {
 public:
  explicit common_storage_share(std::shared_ptr<common_storage> s) noexcept : of_(std::move(s)) {}

  void append(std::string_view channel, draft&& d, append_handler done) override {
    of_->ask<append_result>(channel, std::move(done),
                            [&](append_handler h) { all().append(channel, std::move(d), std::move(h)); });
  }
  void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) override {
    of_->ask<read_result>(channel, std::move(done),
                          [&](read_handler h) { all().read(channel, since, limit, std::move(h)); });
  }
  bool keeps_keys() const noexcept override { return true; }
  bool offers(storage_member part) const noexcept override { return all().offers(part); }
  void erase(std::string_view channel, position&& at, draft&& d, append_handler done) override {
    of_->ask<append_result>(channel, std::move(done),
                            [&](append_handler h) { all().erase(channel, std::move(at), std::move(d), std::move(h)); });
  }
  void mark(std::string_view channel, watermark&& m, mark_handler done) override {
    of_->ask<mark_result>(channel, std::move(done),
                          [&](mark_handler h) { all().mark(channel, std::move(m), std::move(h)); });
  }
  void watermarks(std::string_view channel, watermark_query&& q, watermarks_handler done) override {
    of_->ask<watermarks_result>(channel, std::move(done),
                                [&](watermarks_handler h) { all().watermarks(channel, std::move(q), std::move(h)); });
  }
  // A token may pass from one user to another, so all of them count as one channel.
  void keep_token(device_token&& t, tokens_handler done) override {
    of_->ask<tokens_result>({}, std::move(done),
                            [&](tokens_handler h) { all().keep_token(std::move(t), std::move(h)); });
  }
  void tokens(std::string_view user, tokens_handler done) override {
    of_->ask<tokens_result>({}, std::move(done), [&](tokens_handler h) { all().tokens(user, std::move(h)); });
  }
  void forget_token(std::string_view user, std::string_view device, std::string_view token,
                    tokens_handler done) override {
    of_->ask<tokens_result>({}, std::move(done),
                            [&](tokens_handler h) { all().forget_token(user, device, token, std::move(h)); });
  }
  // Content may answer later also where the storage does not; else all of it counts as one channel.
  void open_content(upload&& u, const content_limits& limits, upload_handler done) override {
    content<upload_result>(std::move(done),
                           [&](upload_handler h) { all().open_content(std::move(u), limits, std::move(h)); });
  }
  void find_content(std::string_view id, upload_handler done) override {
    content<upload_result>(std::move(done), [&](upload_handler h) { all().find_content(id, std::move(h)); });
  }
  void write_content(std::string_view id, std::uint64_t offset, std::string&& bytes, upload_handler done) override {
    content<upload_result>(std::move(done),
                           [&](upload_handler h) { all().write_content(id, offset, std::move(bytes), std::move(h)); });
  }
  void commit_content(std::string_view id, upload_handler done) override {
    content<upload_result>(std::move(done), [&](upload_handler h) { all().commit_content(id, std::move(h)); });
  }
  void abort_content(std::string_view id, upload_handler done) override {
    content<upload_result>(std::move(done), [&](upload_handler h) { all().abort_content(id, std::move(h)); });
  }
  void read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done) override {
    content<content_result>(std::move(done),
                            [&](content_handler h) { all().read_content(id, from, size, std::move(h)); });
  }

 private:
  template <class Result, class Start>
  void content(move_only_function<void(Result)> done, Start start) {
    if (of_->content_answers_later()) return start(std::move(done));
    of_->ask<Result>({}, std::move(done), std::move(start));
  }
  any_storage& all() const noexcept { return of_->storage(); }
  std::shared_ptr<common_storage> of_;
};

template <class Storage>
constexpr common_storage::guard guard_for() {
  using guard = common_storage::guard;
  if constexpr (asynchronous_storage<Storage>) {
    return guard::later;
  } else if constexpr (requires { requires bool(Storage::thread_safe); }) {
    return guard::none;
  } else if constexpr (requires { requires bool(Storage::single_threaded); }) {
    return guard::all;
  } else {
    return guard::channel;
  }
}

}  // namespace detail

}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// `server<Transports...>` on several threads behind one port. Connections are dealt to the threads in turn; a client
/// follows any channel from any of them, and one `publish` reaches all.
///
///     hailwire::threaded_server<hailwire::websocket> live(4);
///     live.each([](auto& s) { s.authorize(my_authorizer); });
///     live.listen("0.0.0.0", 8080);
///     live.run();
///
/// Hooks and handlers of a session run on the thread of its hub, so those of different sessions run at the same time:
/// what they share, the host guards. `sessions()` and `find()` of a `server<Transports...>` know the sessions of their
/// own thread.
///
/// The storage must keep keys (`keeps_keys`), or a publish that is repeated over another connection could be stored
/// twice. It is never called for one channel twice at a time; one that is `single_threaded` is called once at a time.
/// One that guards itself better says `static constexpr bool thread_safe = true`, as `memory_storage` does.
///
/// Limits of `options` hold for each thread, but `max_sessions`, `max_memory` and `newcomers_per_second`, which are
/// divided among them, and `max_connections`, `max_connections_per_address` and `max_sessions_per_address`, which count
/// over all of them.
///
/// Threads: `publish`, `publish_all`, `erase`, `presence`, `watermarks`, `post_each`, `stats`, `quit`, `stop` and
/// `drain` are safe from any; the rest is for one thread, before `run`.
template <class... Transports>
class threaded_server {
 public:
  using part = server<Transports...>;

  /// `threads`: 1–64; 0 means as many as the machine has cores. History is kept in memory.
  explicit threaded_server(unsigned threads, const options& o = {})
      : threaded_server(threads, std::unique_ptr<memory_storage>(new memory_storage), o) {}
  /// With a storage of the host's choice, handed in as to `server`. Throws `std::invalid_argument` for too many
  /// threads.
  template <not_options Storage>
  threaded_server(unsigned threads, Storage&& store, options o = {}) {
    using type = typename detail::pointee<std::remove_cvref_t<Storage>>::type;
    static_assert(
        requires { requires bool(type::keeps_keys); },
        "hailwire: several hubs need a storage that keeps keys: static constexpr bool keeps_keys = true, and an append "
        "that does");
    if (threads == 0) threads = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
    if (threads > 64) throw std::invalid_argument("hailwire: a threaded_server has at most 64 threads");
    auto common = std::make_shared<detail::common_storage>(detail::erase_storage<Storage>(std::forward<Storage>(store)),
                                                           detail::guard_for<type>(), asynchronous_content<type>);
    o.max_sessions = (o.max_sessions + threads - 1) / threads;
    if (!o.max_memory) o.max_memory = detail::within_system(o).max_memory;
    if (o.max_memory) o.max_memory = *o.max_memory / threads;
    o.newcomers_per_second = (o.newcomers_per_second + threads - 1) / threads;
    if (o.ticket_key.empty()) o.ticket_key = detail::random_key();  // one for all threads
    for (unsigned i = 0; i < threads; ++i) {
      parts_.push_back(std::make_unique<part>(
          own_thread, std::unique_ptr<detail::any_storage>(new detail::common_storage_share(common)), o));
      parts_.back()->join(broker_);
      parts_.back()->hub().share_epochs(parts_.front()->hub());
      parts_.back()->hub().share_devices(parts_.front()->hub());
    }
    auto counts = std::make_shared<detail::address_table>(), of_connections = std::make_shared<detail::address_table>();
    for (auto& p : parts_) {
      parts_.front()->share_with(*p);
      p->gate_.from_address.share(counts);
      p->gate_.connections_of_address.share(of_connections);
      p->gate_.door.share(parts_.front()->gate_.door);
    }
  }
  threaded_server(const threaded_server&) = delete;
  threaded_server& operator=(const threaded_server&) = delete;
  /// Not while `run` is running. Hooks that run meanwhile (`on_close`) may still call `publish`, which is an error by
  /// then.
  ~threaded_server() {
    for (auto& p : parts_) p->stop();
    for (auto& p : parts_) p->end();
  }

  /// Joins the server to those of other processes that share its storage, by a broker that also joins the hubs of one
  /// process (as `redis_broker` does), which takes the place of the one in here. Before anything is followed. The
  /// broker must outlive the server.
  template <class Broker>
  void join(Broker& b) {
    for (auto& p : parts_) p->join(b);
  }

  /// Calls `f(server<Transports...>&)` for the server of each thread: to set hooks.
  template <class F>
  void each(F f) {
    for (auto& p : parts_) f(*p);
  }
  /// The server that listens. What it accepts is dealt to all: for `listen_tls`, and for the listens that are not here.
  part& front() noexcept { return *parts_.front(); }
  std::uint16_t listen(const std::string& address, std::uint16_t port) { return front().listen(address, port); }

  /// As `server::publish`; `done` runs on one of the threads, the same for all publishes to a channel.
  [[nodiscard]] std::error_code publish(std::string channel, payload p, publish_options o = {},
                                        publish_handler done = {}) {
    auto& by = part_of(channel);
    return by.publish(std::move(channel), std::move(p), std::move(o), std::move(done));
  }

  /// As `server::publish_all`; `done` may be called on several threads at a time.
  void publish_all(const std::vector<std::string>& channels, const payload& p, const publish_options& o,
                   std::function<void(std::string_view channel, std::error_code, position)> done) {
    part::publish_to_each(channels, p, o, std::move(done), [this](auto&&... publish_this) {
      return publish(std::forward<decltype(publish_this)>(publish_this)...);
    });
  }
  /// Runs `f(server<Transports...>&)` once on the thread of each, with its server: to find sessions, close them or send
  /// to them. The calls run at the same time. Safe from any thread; what `f` throws is logged.
  template <class F>
  void post_each(F f) {
    auto shared = std::make_shared<F>(std::move(f));
    for (auto& p : parts_) p->post([p = p.get(), shared] { (*shared)(*p); });
  }

  /// As `server::everywhere`: the sessions of all threads, and of other nodes. Safe from any thread.
  all_nodes& everywhere() noexcept { return front().everywhere(); }

  /// As `server::erase`; `done` runs where that of a publish to the channel does.
  [[nodiscard]] std::error_code erase(std::string channel, position at, publish_handler done = {}) {
    auto& by = part_of(channel);
    return by.erase(std::move(channel), std::move(at), std::move(done));
  }

  /// As `hub::presence`, of all threads together. `done` runs on one of them; not after `quit`. Safe from any thread.
  void presence(std::string channel, presence_handler done, bool names = true) {
    auto* by = &part_of(channel);
    by->post([by, names, channel = std::move(channel), done = std::move(done)]() mutable {
      by->presence(channel, std::move(done), names);
    });
  }
  /// As `hub::watermarks`; the same holds for `done`.
  void watermarks(std::string channel, receipts_handler done) {
    auto* by = &part_of(channel);
    by->post([by, channel = std::move(channel), done = std::move(done)]() mutable {
      by->watermarks(channel, std::move(done));
    });
  }
  /// As `server::on_followed`, of all threads together. The calls of `f` come one after the other, in order, on any of
  /// the threads; what it throws is logged.
  void on_followed(std::function<void(std::string_view channel, bool followed)> f) {
    struct counts {
      std::mutex mutex;
      std::map<std::string, unsigned, std::less<>> threads;  // that have followers
      std::function<void(std::string_view, bool)> told;
    };
    auto all = std::make_shared<counts>();
    all->told = std::move(f);
    each([&](part& p) {
      p.on_followed([all](std::string_view channel, bool followed) {
        std::lock_guard lock(all->mutex);
        auto at = all->threads.find(channel);
        if (at == all->threads.end()) at = all->threads.emplace(std::string(channel), 0).first;
        const bool changed = followed ? ++at->second == 1 : --at->second == 0;
        if (!followed && changed) all->threads.erase(at);
        if (changed) all->told(channel, followed);
      });
    });
  }

  /// Serves, on this thread and on others that it starts, until `quit`.
  void run() {
    std::vector<std::thread> others;
    for (std::size_t i = 1; i < parts_.size(); ++i) others.emplace_back([p = parts_[i].get()] { p->run(); });
    front().run();
    for (auto& t : others) t.join();
  }
  /// What `server::stats` says, of all threads together. `told` runs once, on one of the threads; not after `quit`.
  /// Safe from any thread.
  void stats(std::function<void(const server_stats&)> told) {
    struct sum {
      std::mutex mutex;
      server_stats of;
      std::size_t left;
    };
    auto all = std::make_shared<sum>();
    all->left = parts_.size();
    for (auto& p : parts_) {
      p->post([p = p.get(), all, told] {
        std::unique_lock lock(all->mutex);
        all->of += p->stats();
        if (--all->left) return;
        lock.unlock();
        told(all->of);
      });
    }
  }
  /// Has `run` return.
  void quit() {
    for (auto& p : parts_) p->quit();
  }
  /// Ends every session, as `server::stop` does, each on its thread; `run` goes on, so that last bytes leave.
  void stop() { stop({}); }
  /// The same, and `done` runs, on one of the threads, when the last connection is gone.
  void stop(std::function<void()> done) {
    each_then([](part& p, std::function<void()> stopped) { p.stop(std::move(stopped)); }, std::move(done));
  }
  /// Sends every client away and then stops, as `server::drain` does, all threads at once: the rates are those of all
  /// together. `done` runs on one of the threads. Safe from any thread.
  void drain(std::chrono::milliseconds deadline, drain_options o = {}, std::function<void()> done = {}) {
    o.closes_per_second = (o.closes_per_second + parts_.size() - 1) / parts_.size();
    o.returns_per_second = (o.returns_per_second + parts_.size() - 1) / parts_.size();
    // None stops before all are drained: who follows on one thread may publish through another.
    each_then([deadline, o = std::move(o)](
                  part& p, std::function<void()> drained) { p.send_away(deadline, o, std::move(drained)); },
              [this, done = std::move(done)] { stop(done); });
  }

 private:
  part& part_of(std::string_view channel) noexcept {
    return *parts_[std::hash<std::string_view>()(channel) % parts_.size()];
  }
  /// Begins something on each thread, and calls `done`, if there is one, when all have ended it.
  template <class Begin>
  void each_then(Begin begin, std::function<void()> done) {
    auto left = std::make_shared<std::atomic<std::size_t>>(parts_.size());
    auto ended = [left, done = std::move(done)] {
      if (--*left == 0 && done) done();
    };
    for (auto& p : parts_) p->post([p = p.get(), begin, ended] { begin(*p, ended); });
  }

  in_process_broker broker_;  // outlives the hubs
  std::vector<std::unique_ptr<part>> parts_;
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
