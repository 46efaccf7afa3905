// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/connection/server_state.hpp"
#include "hailwire/detail/io/net.hpp"
#include "hailwire/fwd.hpp"
#include "hailwire/stats.hpp"
#include "hailwire/storage/memory.hpp"

namespace hailwire::detail {
class driver;
class own_thread_driver;
class owned_descriptor;
class stream_layer;
}  // namespace hailwire::detail

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {
class adopting;
using strand = net::strand<net::any_io_executor>;
/// The driver of `portable`, begun, and the strand that it runs on.
std::pair<std::shared_ptr<driver>, strand> make_asio_driver(const net::any_io_executor& ex);
}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// Who does a server's input and output is said with one word when it is made; the state machines and the wire are the
/// same. Without a word it is one epoll descriptor for all connections, which the executor's context waits on (Linux).
///
/// `portable`: Asio waits for each socket. The same throughput for messages, more memory for each connection.
struct portable_t {};
inline constexpr portable_t portable{};
/// `own_thread`: no executor; the thread that calls `run` blocks in the epoll descriptor (Linux). The least overhead.
struct own_thread_t {};
inline constexpr own_thread_t own_thread{};

/// Whose a request is; see `basic_server::claims`.
enum class claim : std::uint8_t {
  no,
  yes,
  need_more,  ///< what was read so far does not tell
};

/// Everything of a server that does not depend on its transports. Made through `server<Transports...>`.
///
/// Threads: distinct servers are independent. `publish`, `post`, `adopt`, `adopt_descriptor` and `quit` are safe from
/// any thread, and so is `claims` once paths are set (`on_websocket`). Everything else, and every hook, belongs to the
/// hub's executor, `get_executor()`: a strand over the executor that the server was given, so a host may run its
/// `io_context` with several threads. Before the context runs, and after it has stopped, any thread will do. Where one
/// thread runs the context, its handlers may call everything. A debug build asserts it where the server can be seen to
/// run elsewhere.
class basic_server {
 public:
  basic_server(const basic_server&) = delete;
  basic_server& operator=(const basic_server&) = delete;
  /// Closes everything, as `stop` does, at once; pending handlers get `operation_aborted` before this returns.
  ~basic_server();

  // ---- where clients come from -----------------------------------------------------------------------------------

  /// Listens on an IPv4 or IPv6 address, not on a name; port 0 has the system pick one. Returns the port. May be called
  /// several times. Throws `std::system_error`; the overload with an `std::error_code` does not, and returns 0.
  std::uint16_t listen(const std::string& address, std::uint16_t port);
  std::uint16_t listen(const std::string& address, std::uint16_t port, std::error_code& ec) {
    return bind_and_listen(address, port, {}, ec);
  }
  /// Listens on a Unix socket. The file must not exist and is not removed afterwards: both are the host's to decide.
  void listen_unix(const std::string& path);
  /// Takes a bound stream socket that is ready, or can be made ready, to accept, such as one from a supervisor. Owned
  /// from now on.
  void listen_descriptor(int descriptor);

  /// For a host that runs its own HTTP server: whether a request is for this server. `head` is what was read of the
  /// connection so far, from the request's first byte on. The path decides, so the request line must be whole; for a
  /// path that was given to `on_websocket` the whole head must be, because what does not ask for WebSocket there is the
  /// host's. A head that is none, or is over `options::head`, is not claimed. Safe from any thread once paths are set.
  claim claims(std::string_view head) const;
  /// Serves a connection that the host has accepted, beginning with the bytes it has read from it already. The socket
  /// may belong to another executor; nothing may be pending on it. Later requests on it that are not claimed go to
  /// `on_http`. Safe from any thread; off the server's own it begins when the server's context runs. Throws
  /// `std::system_error` for a socket that is not open.
  template <class Socket>
  void adopt(Socket socket, std::string_view already_read = {}) {
    constexpr bool releases = requires(detail::net_error_code& ec) { static_cast<int>(socket.release(ec)); };
    if constexpr (!releases && detail::of_another_asio<Socket>) {
      static_assert(!detail::of_another_asio<Socket>, HAILWIRE_ANOTHER_ASIO);
    } else {
      static_assert(releases,
                    "hailwire: adopt takes a socket; for another Asio stream, such as asio::ssl::stream, #include "
                    "<hailwire/adopt_stream.hpp> and call "
                    "hailwire::adopt_stream(server, std::move(stream), already_read)");
      detail::net_error_code ec;
      int d = static_cast<int>(socket.release(ec));
      if (ec) throw std::system_error(ec, "adopt a socket");
      adopt_descriptor(d, already_read);
    }
  }
  /// The same for a connected descriptor, which is the server's from now on.
  void adopt_descriptor(int descriptor, std::string_view already_read = {}) { serve(descriptor, {}, already_read); }

  // ---- publishing and sessions -----------------------------------------------------------------------------------

  /// Stores a message and sends it to everybody who follows the channel; see `hub::publish`. Safe from any thread.
  [[nodiscard]] std::error_code publish(std::string channel, payload p, publish_options o = {},
                                        publish_handler done = {}) {
    return gate_.messages.publish(std::move(channel), std::move(p), std::move(o), std::move(done));
  }
  /// The same without options: `done(std::error_code, position)`.
  template <std::invocable<std::error_code, position> F>
  [[nodiscard]] std::error_code publish(std::string channel, payload p, F done) {
    return publish(std::move(channel), std::move(p), publish_options{}, publish_handler(std::move(done)));
  }

  /// Takes a message back, whoever published it; see `hub::erase`. Safe from any thread.
  [[nodiscard]] std::error_code erase(std::string channel, position at, publish_handler done = {}) {
    return gate_.messages.erase(std::move(channel), std::move(at), std::move(done));
  }

  /// Every session. The pointers are good until the hub's executor runs something else.
  std::vector<session*> sessions() const;
  /// The sessions of one user.
  std::vector<session*> find(std::string_view user) const;
  /// The session of that key while it lives; null when it has ended.
  session* find(session_key k) const;
  /// What is done to a user's sessions at all nodes: closing them, taking a channel away, sending, finding. Its calls
  /// are safe from any thread.
  all_nodes& everywhere() noexcept { return gate_.messages.everywhere(); }
  /// `publish` to several channels, each a publish of its own in the order given; the payload is kept once. `done` is
  /// called once for each channel, also for one that is refused at once. Safe from any thread.
  void publish_all(const std::vector<std::string>& channels, const payload& p, const publish_options& o,
                   std::function<void(std::string_view channel, std::error_code, position)> done);
  /// Who follows a channel with presence; see `hub::presence`.
  void presence(std::string_view channel, presence_handler done, bool names = true) {
    gate_.messages.presence(channel, std::move(done), names);
  }
  /// How far each user has received and read a channel; see `hub::watermarks`.
  void watermarks(std::string_view channel, receipts_handler done) {
    gate_.messages.watermarks(channel, std::move(done));
  }
  hailwire::hub& hub() noexcept { return gate_.messages; }
  /// Joins the server to others that share its storage; see the `broker` concept. Before anything is followed. The
  /// broker must outlive the server.
  template <class Broker>
  void join(Broker& b) {
    gate_.messages.join(detail::erase_broker(b));
  }

  /// Runs `f` where hooks and handlers run, unless the server is gone by then. What it throws is logged. Safe from any
  /// thread.
  void post(detail::move_only_function<void()> f);
  /// Where hooks and handlers run, for a server that was made on an executor; one that was not throws
  /// `std::logic_error`.
  detail::strand get_executor() const;
  /// For a server that was made without an executor: serves on this thread until `quit`.
  void run();
  /// For a server that was made without an executor, in a host with a loop of its own (libuv, GLib, Qt, epoll,
  /// io_uring): one descriptor that is readable while there is something to do, timers and what was posted included.
  /// Watch it for readability, level-triggered or armed again after each `poll`; never read from it, write to it or
  /// close it.
  int native_handle() const;
  /// Does what there is to do, a bounded part of it, without waiting: when `native_handle()` is readable. What is left
  /// keeps that readable. Hooks run in here, on the calling thread. Between two calls the server belongs to whoever
  /// calls, as between two handlers of a context. Returns false once the server was stopped and its last connection is
  /// gone; `run` and `poll` are not for the same time.
  bool poll();
  /// Has `run` return. Safe from any thread, and from a signal's handler thread.
  void quit();
  const hailwire::options& settings() const noexcept { return gate_.settings; }

  /// What has been counted, and how everything stands. Looks at every channel in memory and at who is behind: for every
  /// few seconds, not for every message.
  server_stats stats() const;
  /// Whether new clients are taken: not from the beginning of a drain or a stop on. What a health check asks for.
  bool ready() const noexcept { return !gate_.leaving(); }

  /// Sends every client away, without a stampede of those who come back, then stops. At once `ready()` is false, who
  /// wants to follow is refused (`draining`, with the time after which to try again), held polls are answered with what
  /// there is, and connections are kept for no further request. Streams are told `bye`, where and within which span of
  /// time to come back, and closed with 1012, `closes_per_second` a second; until its turn each hears everything. What
  /// clients and the host publish meanwhile is stored and answered.
  ///
  /// When all have gone, and at the latest `deadline` from now, when those who are left are told so and closed in one
  /// go, the server stops as by `stop(done)`. `done` runs once, where hooks run, unless the server is destroyed first.
  /// Drained again, the earlier deadline holds and both handlers are called.
  void drain(std::chrono::milliseconds deadline, const drain_options& o = {},
             detail::move_only_function<void()> done = {});

  /// Stops listening, ends every session (streams with a close, held polls with an answer) and fails what is pending
  /// with `operation_aborted`. Idempotent. Publishing afterwards is an error. Connections get `close_time` to take
  /// their last bytes while the context goes on running; the destructor does not wait.
  void stop();
  /// The same, and `done` runs once, where hooks run, when the last connection is gone: within `close_time`, unless a
  /// peer takes its last bytes slowly, or the server is destroyed first.
  void stop(detail::move_only_function<void()> done);

  // ---- hooks: set them before the first connection ---------------------------------------------------------------

  /// Who is it, and what may they do? `decision(const request&)`, or `void(const request&, authorize_reply)` to answer
  /// later. Absent: everybody is anonymous and may follow and publish nothing.
  template <class F>
  void authorize(F f) {
    if constexpr (std::is_invocable_v<F&, const request&, authorize_reply>) {
      gate_.host.authorize = share(std::move(f));
      gate_.host.authorizes_at_once = false;
    } else {
      static_assert(std::is_invocable_r_v<decision, F&, const request&>,
                    "hailwire: an authorizer is hailwire::decision(const hailwire::request&) or "
                    "void(const hailwire::request&, hailwire::authorize_reply)");
      gate_.host.authorize = [f = share(std::move(f))](const request& r, authorize_reply reply) { reply(f(r)); };
      gate_.host.authorizes_at_once = true;
    }
  }
  /// `decision(session&, std::string_view token)`, or `void(session&, std::string_view, authorize_reply)` to answer
  /// later: a client brings a new token over its open connection (`renew`), usually because an `expiring` notice has
  /// told it to. What is allowed holds from then on, as by `session::permit`, and must be for the same user; else, and
  /// when it is refused, the old permission runs out in its time. The view is valid during the call. Absent:
  /// `not_implemented`.
  template <class F>
  void on_renew(F f) {
    if constexpr (std::is_invocable_v<F&, session&, std::string_view, authorize_reply>) {
      gate_.host.on_renew = share(std::move(f));
      gate_.host.renews_at_once = false;
    } else {
      static_assert(std::is_invocable_r_v<decision, F&, session&, std::string_view>,
                    "hailwire: on_renew takes hailwire::decision(hailwire::session&, std::string_view token) or "
                    "void(hailwire::session&, std::string_view token, hailwire::authorize_reply)");
      gate_.host.on_renew = [f = share(std::move(f))](session& s, std::string_view token, authorize_reply reply) {
        reply(f(s, token));
      };
      gate_.host.renews_at_once = true;
    }
  }
  /// `void(session&)`: somebody follows now. On polls this is every request.
  void on_open(std::function<void(session&)> f) { gate_.host.on_open = std::move(f); }
  /// `verdict(session&, std::string_view channel, const payload&)`: a client that may publish to the channel does.
  /// A call that ends the session refuses the publish, whatever it returns.
  void on_publish(std::function<verdict(session&, std::string_view, const payload&)> f) {
    gate_.host.on_publish = std::move(f);
  }
  /// `verdict(session&, std::string_view channel, const payload&, const content_reference&)`: the same for a publish
  /// that names a content, whose size and type are known then. Absent: such a publish is the other hook's, which sees
  /// the payload beside the content alone. Of one that is refused nothing is stored, and its upload is there as before.
  void on_publish(std::function<verdict(session&, std::string_view, const payload&, const content_reference&)> f) {
    gate_.host.on_publish_content = std::move(f);
  }
  /// `std::string(const request&, std::string_view channel, const message&)`: a client that may follow the channel
  /// fetches a message (`{path}/messages`). A URL sends it there instead (307, not to be kept), such as to a content
  /// delivery network for which the host has signed it; empty: this server answers.
  void on_fetch(std::function<std::string(const request&, std::string_view, const message&)> f) {
    gate_.host.on_fetch = std::move(f);
  }
  /// `bool(session&, std::string_view channel, const message&)`: a user that may publish to the channel takes back a
  /// message of its own; false is `forbidden`. Absent: nobody but the host takes anything back (`erase`).
  void on_erase(std::function<bool(session&, std::string_view, const message&)> f) {
    gate_.host.on_erase = std::move(f);
  }
  /// `void(session&, std::string_view name, std::string_view body, command_reply)`: a command that is not the
  /// protocol's. The views are valid during the call.
  void on_command(std::function<void(session&, std::string_view, std::string_view, command_reply)> f) {
    gate_.host.on_command = std::move(f);
  }
  /// `void(std::string_view channel, bool followed)`: a channel with presence has its first follower at this server, or
  /// has had its last, whose grace time is over. The view is valid during the call.
  void on_followed(std::function<void(std::string_view, bool)> f) { gate_.messages.on_followed(std::move(f)); }
  /// `void(session&, const close_reason&)`: the last that is heard of a session, once for each that `on_open` was
  /// called for. The session still counts then, in `sessions()`, `find()` and `hub().session_count()`: it is gone when
  /// this has returned. Those that are open when the server is destroyed get it from within the destructor, on its
  /// thread.
  void on_close(std::function<void(session&, const close_reason&)> f) { gate_.host.on_close = std::move(f); }
  /// Wakes devices that have no connection, by way of `n`: one of push/, or of the host's own. It stays the host's and
  /// outlives the server. One for each push service; a `threaded_server` is told of it in `each`. Where two nodes share
  /// a storage, a device that is live on the other one is woken unless it says `received`. Throws
  /// `std::invalid_argument` where the storage keeps no device tokens, and for a second one of a service.
  template <push_notifier N>
  void add_notifier(N& n) {
    gate_.messages.add_notifier(std::make_unique<detail::erased_notifier<N>>(n));
  }
  /// What no transport claims: `response(const request&)`, or `void(const request&, reply_to<result<response>>)` to
  /// answer later. An error `method_not_allowed` says that GET and HEAD are; a response may have its own `Allow`.
  /// Absent: 404.
  template <class F>
  void on_http(F f) {
    if constexpr (std::is_invocable_v<F&, const request&, reply_to<result<response>>>) {
      gate_.host.on_http = share(std::move(f));
      gate_.host.serves_at_once = false;
    } else {
      static_assert(std::is_invocable_r_v<result<response>, F&, const request&>,
                    "hailwire: on_http takes hailwire::response(const hailwire::request&) or "
                    "void(const hailwire::request&, hailwire::reply_to<hailwire::result<hailwire::response>>)");
      gate_.host.on_http = [f = share(std::move(f))](const request& r, reply_to<result<response>> reply) {
        reply(f(r));
      };
      gate_.host.serves_at_once = true;
    }
  }
  /// Is told what happens; `log_record` says what. Records below `least` are not made at all. Its own publishes do not
  /// come back to it: what a log's function gives rise to is dropped. Absent: nothing is logged.
  void on_log(std::function<void(const log_record&)> f, log_level least = log_level::info) {
    gate_.messages.log().set(std::move(f), least);
  }

 protected:
  // `publish_all` by way of `publish`, which is asked for each channel.
  template <class Publish>
  static void publish_to_each(const std::vector<std::string>& channels, const payload& p, const publish_options& o,
                              std::function<void(std::string_view, std::error_code, position)> done, Publish publish) {
    auto told = std::make_shared<decltype(done)>(std::move(done));
    for (const std::string& channel : channels) {
      auto ec = publish(channel, p, o, publish_handler([told, channel](std::error_code e, position at) {
                          (*told)(channel, e, std::move(at));
                        }));
      if (ec) (*told)(channel, ec, {});
    }
  }
  friend std::uint16_t listen_tls(basic_server&, const tls_context&, const std::string&, std::uint16_t,
                                  std::error_code&);
  friend void adopt_tls(basic_server&, const tls_context&, int);
  friend class tls_context;
  friend class detail::adopting;
  template <class... T>
  friend class threaded_server;
  // Called on the thread of the server that will serve the connection, with that server.
  using make_layer = std::function<std::unique_ptr<detail::stream_layer>(basic_server&)>;

  struct driving {
    std::shared_ptr<detail::driver> by;
    std::optional<detail::strand> executor = {};
    std::shared_ptr<detail::own_thread_driver> own = {};
  };
  static driving embedded(const net::any_io_executor& ex);
  // Here, so that only who calls it links that driver.
  static driving driven_by_asio(const net::any_io_executor& ex) {
    auto [driver, on] = detail::make_asio_driver(ex);
    return {std::move(driver), std::move(on)};
  }
  static driving on_own_thread();
  static std::unique_ptr<detail::any_storage> in_memory();

  basic_server(driving d, std::unique_ptr<detail::any_storage> store, const options& o, const detail::linkage& linked);

  // std::function wants copies; host callables need not be copyable.
  template <class F>
  static auto share(F f) {
    return [p = std::make_shared<F>(std::move(f))](auto&&... args) -> decltype(auto) {
      return (*p)(std::forward<decltype(args)>(args)...);
    };
  }

  /// `drain`, but for the stop: `drained` runs where hooks run.
  void send_away(std::chrono::milliseconds deadline, const drain_options& o,
                 detail::move_only_function<void()> drained);
  std::uint16_t bind_and_listen(const std::string& address, std::uint16_t port, make_layer layer, std::error_code& ec);
  /// Safe from any thread.
  void serve(int descriptor, make_layer layer, std::string_view already_read);
  void serve_here(detail::owned_descriptor own, const make_layer& layer, std::string_view already_read);
  /// Ends everything at once, hooks included; nothing but the destructor follows. Of servers that may call one another
  /// from their hooks none goes before all have ended.
  void end();
  void begin(int descriptor, make_layer layer, std::error_code& ec);
  void serve_accepted(int descriptor, const make_layer& layer);
  /// Connections that this server accepts are dealt to it and to others in turn. Before it listens.
  void share_with(basic_server& other) { parts_.push_back(&other); }

  std::optional<detail::strand> executor_;
  std::shared_ptr<detail::own_thread_driver> own_;
  std::shared_ptr<detail::driver> driver_;
  std::shared_ptr<basic_server*> self_ = std::make_shared<basic_server*>(this);  // null once it is gone
  std::shared_ptr<void> layers_share_;                                           // what all TLS connections do
  detail::vector<basic_server*> parts_;  // who serves what this one accepts; empty: itself
  std::size_t next_part_ = 0;
  detail::server_state gate_;
};

/// An Asio context, such as `asio::io_context`.
template <class T>
concept context = std::convertible_to<T&, net::execution_context&> && requires(T& c) { c.get_executor(); };
template <class T>
concept not_options = !std::convertible_to<T, const options&>;

/// Real-time messaging for the clients of a host's server, over the transports named: `websocket`, `sse`, `ndjson`,
/// `long_poll`, `short_poll`, or a host's own (`transport::transport_type`). The first that claims a request serves it;
/// one that is not named is not compiled in.
///
///     asio::io_context io;
///     hailwire::server<hailwire::sse> live(io);
///     live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = hailwire::channel_set::all()};
///     }); live.listen("127.0.0.1", 8080);
///     if (live.publish("prices", hailwire::payload::json(R"({"EUR":1.08})"))) return 1;
///     io.run();
template <class... Transports>
class server : public basic_server {
  static_assert(sizeof...(Transports) > 0,
                "hailwire: name at least one transport: hailwire::server<hailwire::websocket, hailwire::sse>");
  static_assert((transport::check_transport<Transports>() && ...));
  static constexpr const detail::linkage& linked_ = detail::linked<Transports...>;

 public:
  /// On an executor or a context, with history in memory (`memory_storage` with its defaults).
  explicit server(const net::any_io_executor& ex, const options& o = {})
      : basic_server(embedded(ex), in_memory(), o, linked_) {}
  template <context Context>
  explicit server(Context& c, const options& o = {}) : server(net::any_io_executor(c.get_executor()), o) {}

  /// With a storage of the host's choice. An lvalue stays the host's and must outlive the server; what is moved in, a
  /// storage or a `unique_ptr` or `shared_ptr` to one, is the server's.
  template <not_options Storage>
  server(const net::any_io_executor& ex, Storage&& store, const options& o = {})
      : basic_server(embedded(ex), detail::erase_storage<Storage>(std::forward<Storage>(store)), o, linked_) {}
  template <context Context, not_options Storage>
  server(Context& c, Storage&& store, const options& o = {})
      : server(net::any_io_executor(c.get_executor()), std::forward<Storage>(store), o) {}

  /// The same, driven by `portable` or `own_thread`.
  template <context Context>
  server(portable_t, Context& c, const options& o = {})
      : basic_server(driven_by_asio(c.get_executor()), in_memory(), o, linked_) {}
  template <context Context, not_options Storage>
  server(portable_t, Context& c, Storage&& store, const options& o = {})
      : basic_server(driven_by_asio(c.get_executor()), detail::erase_storage<Storage>(std::forward<Storage>(store)), o,
                     linked_) {}
  explicit server(own_thread_t, const options& o = {}) : basic_server(on_own_thread(), in_memory(), o, linked_) {}
  template <not_options Storage>
  server(own_thread_t, Storage&& store, const options& o = {})
      : basic_server(on_own_thread(), detail::erase_storage<Storage>(std::forward<Storage>(store)), o, linked_) {}

  // A context or an executor of the Asio that is not in use.
  template <class Other, class... More>
    requires detail::of_another_asio<Other>
  explicit server(Other&&, More&&...) : server(own_thread) {
    static_assert(!detail::of_another_asio<Other>, HAILWIRE_ANOTHER_ASIO);
  }
  template <class Other, class... More>
    requires detail::of_another_asio<Other>
  server(portable_t, Other&&, More&&...) : server(own_thread) {
    static_assert(!detail::of_another_asio<Other>, HAILWIRE_ANOTHER_ASIO);
  }

  /// Serves the host's own WebSocket frames on another path, or, with `*`, on every path that is not the live
  /// resource's. Of several that fit, the first one given does. Requests there that do not ask for WebSocket go to
  /// `on_http`. Throws `std::invalid_argument` for a path that does not begin with a slash. `WebSocket` is the one that
  /// is linked, or another one for these frames alone, such as `websocket_deflate_with<…>` of deflate.hpp.
  template <class WebSocket = typename transport::first_framed<Transports...>::type>
    requires transport::framed<WebSocket>
  void on_websocket(std::string path, frame_handlers handlers) {
    if (path != "*" && !path.starts_with('/'))
      throw std::invalid_argument("hailwire: on_websocket takes a path that begins with a slash, or *, not \"" + path +
                                  '"');
    gate_.frame_routes.push_back(std::unique_ptr<detail::frame_route>(
        new detail::frame_route{std::move(path), std::move(handlers),
                                [](const transport::live_request& a, const std::vector<std::string>& known,
                                   std::size_t most) { return WebSocket::begin_plain(a, known, most); }}));
  }
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/server.ipp"
#endif
