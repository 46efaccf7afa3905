// SPDX-License-Identifier: BSL-1.0

// Fixed work on the paths that every message takes, for counting instructions: `paths MODE` sets up, then does a number
// of operations inside `measured`, which callgrind is told to look at alone, and prints how many they were. The upper
// modes run one codec; the lower ones the whole stack without sockets, on fake time.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/base/posted_functions.hpp"
#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/proto/command.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/proto/ws_frame.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#ifdef HAILWIRE_PATHS_TLS
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hailwire/tls.hpp"
#endif

namespace hw = hailwire;

/// The name that callgrind is given. Work is repeated inside, so that the call itself counts for nothing.
extern "C" __attribute__((noinline)) void measured(const std::function<void()>* work, std::size_t times) {
  for (std::size_t i = 0; i < times; ++i) (*work)();
}

namespace {

/// What a mode is: `work` does `operations` of them.
struct path {
  std::function<void()> work;
  std::size_t operations = 1;
  std::shared_ptr<void> holds = nullptr;
};

std::uint64_t outcome = 0;  // keeps results alive

std::string masked(std::string_view payload) {
  std::string out;
  hw::proto::append_masked_frame(out, hw::proto::ws_opcode::text, payload, 0x3d21fa37);
  return out;
}

/// Input is unmasked where it lies, so each turn takes one of its own. They are made beforehand: a copy would be
/// counted with the turn.
auto inputs(std::string_view bytes, std::size_t turns = 6000) {
  auto all = std::make_shared<std::vector<std::string>>(turns, std::string(bytes));
  return [all, next = std::size_t{0}]() mutable -> std::string& { return (*all)[next++]; };
}

path ws_receive(std::size_t size) {
  std::string frames;
  for (int i = 0; i < 100; ++i) frames += masked(std::string(size, 'x'));
  auto limits = std::make_shared<hw::proto::ws_limits>();
  auto in = std::make_shared<hw::proto::ws_connection>(hw::proto::ws_role::server, *limits);
  return {[=, limits = limits, next = inputs(frames, 64)]() mutable {
            std::span<char> rest(next());
            while (!rest.empty()) outcome += in->next(rest).data.size();
          },
          100};
}

path ws_encode() {
  return {[out = std::make_shared<std::string>(), text = std::string(128, 'x')] {
            out->clear();
            for (int i = 0; i < 100; ++i) hw::proto::append_text(*out, text);
            outcome += out->size();
          },
          100};
}

constexpr std::string_view browser_request =
    "GET /live?channel=chat&channel=news&since=k3Jx81mQ.1042%2Ck3Jx81mR.17 HTTP/1.1\r\nHost: app.example:8443\r\n"
    "Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36\r\n"
    "Accept: text/event-stream\r\nOrigin: https://app.example\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: "
    "cors\r\nSec-Fetch-Dest: empty\r\n"
    "Referer: https://app.example/room/7\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: "
    "en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

path http_head() {
  auto parser = std::make_shared<hw::proto::http1::head_parser>();
  auto head = std::make_shared<hw::proto::http1::head>();
  return {[=] {
    parser->reset();
    if (parser->parse(browser_request, *head) != hw::proto::http1::progress::done) std::abort();
    outcome += head->headers.size();
  }};
}

path json_validate() {
  std::string text = "{\"items\":[";
  for (int i = 0; i < 12; ++i)
    text +=
        (i ? "," : "") + std::string(
                             "{\"id\":1042,\"name\":\"caf\u00e9 au "
                             "lait\",\"price\":-3.25e1,\"tags\":[true,false,null],\"note\":\"a \\\"quoted\\\" word\"}");
  text += "]}";
  return {[text] {
    if (hw::proto::json::validate(text)) std::abort();
    ++outcome;
  }};
}

path command() {
  std::string text =
      R"({"id":17,"publish":{"channel":"chat","type":"note","key":"a1b2c3d4","data":{"text":"hello, world","at":[1,2,3]}}})";
  return {[text] {
    auto c = hw::proto::read_command(text);
    if (!c) std::abort();
    outcome += c->data.size();
  }};
}

path storage_append() {
  auto store = std::make_shared<hw::memory_storage>();
  auto d = std::make_shared<hw::draft>();
  d->at = 1'767'225'600'000;
  d->data = hw::payload::text(std::string(128, 'x'));
  for (int i = 0; i < 2000; ++i) store->append("chat", *d);
  return {[=] { outcome += store->append("chat", *d).offset; }};
}

/// A loop of fixed time. It posts and runs as the epoll driver does, so that what is counted of a loop is what a
/// server's own costs, without system calls.
class turn_loop final : public hw::detail::event_loop {
 public:
  void post(hw::detail::move_only_function<void()> f) override { posted_.add(std::move(f), true); }
  bool here() const noexcept override { return true; }
  std::int64_t now() const noexcept override { return now_; }
  std::int64_t unix_time() const noexcept override { return 1'767'225'600'000; }
  void alarm(std::int64_t) override {}
  void on_alarm(hw::detail::move_only_function<void()> f) override { rung_ = std::move(f); }
  /// Time passes once, before anything is measured.
  void pass(std::int64_t ms) {
    now_ += ms;
    if (rung_) rung_();
    run();
  }
  void run() {
    while (posted_.any()) posted_.run();
  }

 private:
  hw::detail::posted_functions posted_;
  hw::detail::move_only_function<void()> rung_;
  std::int64_t now_ = 1000;
};

/// A client's end that takes everything and keeps nothing, unless it is told to look or to stand still.
class sink final : public hw::detail::connection {
 public:
  using connection::connection;
  using connection::receive;
  void say(std::string& bytes) { receive(bytes); }
  bool keeps = false, stands_still = false;
  bool takes_all = false;  // and nothing else: what the end itself costs is not to be counted
  std::string kept;
#ifdef HAILWIRE_PATHS_TLS
  hw::detail::tls_layer* layer = nullptr;
  int wire = -1, away = -1;
#endif

 protected:
  std::size_t write(std::span<const std::span<const char>> pieces) override {
    if (takes_all && pieces.size() == 1) return outcome += pieces[0].size(), pieces[0].size();
    if (stands_still) return 0;
#ifdef HAILWIRE_PATHS_TLS
    if (layer) {
      static char taken[256 * 1024];
      auto n = layer->write(wire, pieces).bytes;
      outcome += static_cast<std::size_t>(::recv(away, taken, sizeof taken, 0));
      return n;
    }
#endif
    std::size_t n = 0;
    for (auto& p : pieces) {
      n += p.size();
      if (keeps) kept.append(p.data(), p.size());
    }
    outcome += n;
    return n;
  }
  void watch(bool, bool) override {}
  void shut_write() override {}
  void shut() override {}
  std::string peer() const override { return "203.0.113.7:4711"; }
};

struct house {
  static constexpr auto& linked = hw::detail::linked<hw::transport::websocket, hw::transport::sse,
                                                     hw::transport::long_poll, hw::transport::short_poll>;
  explicit house(const hw::options& o = settings())
      : gate(loop, hw::detail::erase_storage(std::make_unique<hw::memory_storage>()), o, linked) {
    hw::shared_grant everybody = hw::grant{.follow = hw::channel_set::all(), .publish = hw::channel_set::all()};
    gate.host.authorize = [everybody](const hw::request&, hw::authorize_reply reply) { reply(everybody); };
    gate.host.authorizes_at_once = true;  // as `server::authorize` says of a function that returns its answer
    auto route = std::unique_ptr<hw::detail::frame_route>(new hw::detail::frame_route);
    route->path = "/echo";
    route->handlers.on_message = [](hw::frame_socket& s, std::string_view bytes, bool) { s.send_text(bytes); };
    route->begin = [](const hw::transport::live_request& a, const std::vector<std::string>& known, std::size_t most) {
      return hw::transport::websocket::begin_plain(a, known, most);
    };
    gate.frame_routes.push_back(std::move(route));
  }
  ~house() {
    gate.messages.stop();
    gate.destroy_all();
    clients.clear();
  }
  static hw::options settings() {
    hw::options o;
    o.stall_time = std::chrono::hours(1);
    // Counted, as by default, and never met; or not counted at all; or with those that are off by default.
    o.newcomers_per_second = o.commands_per_second = o.bytes_per_second = limits == "none" ? 0 : 1'000'000'000'000;
    if (limits == "none") o.max_keys_per_user = 0;
    if (limits == "all") {
      o.max_connections = o.max_connections_per_address = o.max_sessions_per_address = 1'000'000'000;
      o.max_memory = std::size_t{1} << 50;
      o.channels = {{.pattern = "*", .publishes_per_second = 1'000'000'000}};
    }
    return o;
  }
  static inline std::string_view limits = "usual";
  /// From now on clients are who `?user=` says.
  void name_clients() {
    gate.host.authorize = [](const hw::request& r, hw::authorize_reply reply) {
      hw::grant g{.follow = hw::channel_set::all(), .publish = hw::channel_set::all()};
      g.user = r.param("user");
      reply(std::move(g));
    };
  }
  sink& open(const std::string& target, const std::string& more) {
    clients.push_back(std::make_shared<sink>(gate));
    clients.back()->start();
    ask(*clients.back(), target, more);
    return *clients.back();
  }
  void ask(sink& c, const std::string& target, const std::string& more = {}) {
    std::string request = "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n";
    c.say(request);
    loop.run();
  }
  sink& open_websocket(const std::string& target, const std::string& subprotocol = {}) {
    return open(target,
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                "dGhlIHNhbXBsZSBub25jZQ==\r\n" +
                    (subprotocol.empty() ? std::string() : "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"));
  }

  turn_loop loop;
  hw::detail::server_state gate;
  std::vector<std::shared_ptr<sink>> clients;
};

/// One WebSocket frame of 20 bytes in, one out.
path echo() {
  auto h = std::make_shared<house>();
  sink& c = h->open_websocket("/echo");
  c.takes_all = true;
  return {[h, &c, next = inputs(masked(std::string(20, 'x')))]() mutable {
    c.say(next());
    h->loop.run();
  }};
}

/// `window` publishes of 128 bytes in one turn, to 1,000 subscribers.
path fan_out(std::size_t window, bool one_stands_still, const std::string& how) {
  auto h = std::make_shared<house>();
  for (int i = 0; i < 1000; ++i) {
    if (how == "sse") {
      h->open("/live?channel=c", "Accept: text/event-stream\r\n");
    } else {
      h->open_websocket("/live?channel=c", how);
    }
  }
  for (auto& c : h->clients) c->takes_all = true;
  if (one_stands_still) h->clients[500]->takes_all = false, h->clients[500]->stands_still = true;
  return {[h, window] {
            for (std::size_t i = 0; i < window; ++i)
              static_cast<void>(h->gate.messages.publish("c", hw::payload::text(std::string(128, 'x'))));
            h->loop.run();
          },
          window * 1000};
}

#ifdef HAILWIRE_PATHS_TLS
std::string text_of(BIO* b) {
  char* text = nullptr;
  long size = BIO_get_mem_data(b, &text);
  return {text, static_cast<std::size_t>(size)};
}
hw::tls_certificate self_signed() {
  using namespace hw::detail;
  std::unique_ptr<EVP_PKEY, tls_free<::EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
  x509_pointer x(::X509_new());
  ::X509_gmtime_adj(::X509_getm_notBefore(x.get()), 0);
  ::X509_gmtime_adj(::X509_getm_notAfter(x.get()), 1'000'000);
  ::X509_set_pubkey(x.get(), key.get());
  ::X509_sign(x.get(), key.get(), ::EVP_sha256());
  bio_pointer chain(::BIO_new(::BIO_s_mem())), secret(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_X509(chain.get(), x.get());
  ::PEM_write_bio_PKCS8PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(chain.get()), text_of(secret.get())};
}

/// The same over TLS. Handshakes are dear, so 20 layers serve the 1,000 subscribers in turns; each write still finds
/// another one's key in the ciphers, as on a server.
path fan_out_tls(std::size_t window) {
  struct all {
    std::shared_ptr<const hw::detail::tls_contexts> contexts;
    std::shared_ptr<hw::detail::tls_shared> shared = std::make_shared<hw::detail::tls_shared>(
        [this](hw::detail::move_only_function<void()> f) { posted.push_back(std::move(f)); });
    std::vector<hw::detail::move_only_function<void()>> posted;
    std::vector<int> descriptors;
    std::vector<std::unique_ptr<hw::detail::tls_layer>> layers;
    house h;
    ~all() {
      for (int d : descriptors) ::close(d);
    }
  };
  auto a = std::make_shared<all>();
  hw::tls_options o;
  o.certificates = {self_signed()};
  o.records = hw::tls_records::own;
  std::string what;
  if (hw::detail::make_tls_contexts(o, a->contexts, what)) std::abort();
  hw::detail::ssl_ctx_pointer context(::SSL_CTX_new(::TLS_client_method()));
  ::SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256");
  constexpr std::size_t subscribers = 1000, layers = 20;
  std::vector<char> buffer(64 * 1024);
  for (std::size_t i = 0; i < layers; ++i) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
    a->descriptors.insert(a->descriptors.end(), ends, ends + 2);
    auto layer = std::make_unique<hw::detail::tls_layer>(a->shared, a->contexts);
    hw::detail::ssl_pointer client(::SSL_new(context.get()));
    ::SSL_set_fd(client.get(), ends[1]);
    for (int n = 0; n < 4 && ::SSL_connect(client.get()) != 1; ++n) {
      layer->read(ends[0], buffer);
      for (auto due = std::exchange(a->posted, {}); auto& f : due) f();
    }
    layer->read(ends[0], buffer);
    if (!layer->peer() || !layer->keeps_records()) std::abort();
    a->layers.push_back(std::move(layer));
  }
  for (std::size_t i = 0; i < subscribers; ++i) {
    sink& s = a->h.open_websocket("/live?channel=c", "hailwire.v1.raw");
    s.layer = a->layers[i % layers].get();
    s.wire = a->descriptors[i % layers * 2];
    s.away = a->descriptors[i % layers * 2 + 1];
  }
  return {[a, window] {
            for (std::size_t i = 0; i < window; ++i)
              if (a->h.gate.messages.publish("c", hw::payload::text(std::string(128, 'x')))) std::abort();
            a->h.loop.run();
          },
          window * subscribers};
}
#endif

/// A publish by command from one client to another's own channel.
path direct() {
  auto h = std::make_shared<house>();
  h->open_websocket("/live?channel=d1").takes_all = true;
  sink& from = h->open_websocket("/live?channel=d2");
  return {[h, &from,
           next = inputs(masked(R"({"publish":{"channel":"d1","data":")" + std::string(62, 'x') + "\"}}"))]() mutable {
    from.say(next());
    h->loop.run();
  }};
}

/// A device says that it has received one more message: what a receipt costs, without those that it is told to.
path receipt() {
  auto h = std::make_shared<house>();
  h->name_clients();
  sink& from = h->open_websocket("/live?channel=r&user=ada&device=phone");
  for (int i = 0; i < 6000; ++i) static_cast<void>(h->gate.messages.publish("r", hw::payload::text("x")));
  h->loop.run();
  from.takes_all = true;
  std::string epoch;
  h->gate.messages.history("r", {}, 1, [&](hw::history_result r) { epoch = r.epoch; });
  auto frames = std::make_shared<std::vector<std::string>>();
  for (int i = 1; i <= 6000; ++i)
    frames->push_back(
        masked(R"({"id":1,"received":{"channel":"r","epoch":")" + epoch + R"(","offset":)" + std::to_string(i) + "}}"));
  return {[h, &from, frames, next = std::size_t{0}]() mutable {
    from.say((*frames)[next++]);
    h->loop.run();
  }};
}

/// One user's receipt as 1,000 followers are told of it.
path receipt_told() {
  auto h = std::make_shared<house>();
  for (int i = 0; i < 1000; ++i) h->open_websocket("/live?channel=told");
  for (auto& c : h->clients) c->takes_all = true;
  return {[h] {
            h->gate.messages.tell("told", "receipt",
                                  R"({"channel":"told","epoch":"abcdefghijkl","user":"ada","received":42,"read":40})");
            h->loop.run();
          },
          1000};
}

/// A user comes to a channel with presence of 1,000 members and leaves it again: two changes, each told to all of them.
path presence() {
  hw::options o = house::settings();
  o.channels = {{.pattern = "p", .presence = true}};
  o.presence_names = 2000;  // all of them are named
  auto h = std::make_shared<house>(o);
  h->name_clients();
  for (int i = 0; i < 1000; ++i) h->open_websocket("/live?channel=p&user=u" + std::to_string(i));
  for (auto& c : h->clients) c->takes_all = true;
  h->loop.pass(20'000);  // behind the time in which joins are gathered
  sink& other = h->open_websocket("/live?channel=q&user=other");
  auto come = std::make_shared<std::string>(masked(R"({"subscribe":{"channel":"p"}})"));
  auto go = std::make_shared<std::string>(masked(R"({"unsubscribe":{"channel":"p"}})"));
  return {[h, &other, come, go] {
            std::string in = *come;
            other.say(in);
            h->loop.run();
            in = *go;
            other.say(in);
            h->loop.run();
          },
          2000};
}

std::string etag_of(const std::string& answer) {
  auto at = answer.find("ETag: ") + 6;
  return answer.substr(at, answer.find("\r\n", at) - at);
}

/// A short poll with nothing new.
path short_poll() {
  auto h = std::make_shared<house>();
  auto c = std::make_shared<sink>(h->gate);
  c->start();
  c->keeps = true;
  h->ask(*c, "/live?channel=c");
  c->keeps = false;
  h->clients.push_back(c);
  std::string request =
      "GET /live?channel=c HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: load\r\nAccept: */*\r\nIf-None-Match: " +
      etag_of(c->kept) + "\r\n\r\n";
  return {[h, c, request]() mutable {
    c->say(request);
    h->loop.run();
  }};
}

/// A message to 100 polls that wait, and their next requests.
path long_poll() {
  auto h = std::make_shared<house>();
  auto requests = std::make_shared<std::string>();
  for (int i = 0; i < 100; ++i) {
    auto c = std::make_shared<sink>(h->gate);
    c->start();
    h->clients.push_back(c);
    h->ask(*c, "/live?channel=c");
  }
  auto round = [h] {
    sink& first = *h->clients.front();
    first.keeps = true;
    first.kept.clear();
    static_cast<void>(h->gate.messages.publish("c", hw::payload::text(std::string(128, 'x'))));
    h->loop.run();
    std::string request =
        "GET /live?channel=c&wait=55 HTTP/1.1\r\nHost: h\r\nIf-None-Match: " + etag_of(first.kept) + "\r\n\r\n";
    for (auto& c : h->clients) c->say(request);
    h->loop.run();
  };
  h->clients.front()->keeps = true;
  h->ask(*h->clients.front(), "/live?channel=c");
  std::string request =
      "GET /live?channel=c&wait=55 HTTP/1.1\r\nHost: h\r\nIf-None-Match: " + etag_of(h->clients.front()->kept) +
      "\r\n\r\n";
  for (auto& c : h->clients) c->say(request);
  h->loop.run();
  return {round, 100};
}

}  // namespace

int main(int argc, char** argv) {
  struct mode {
    std::function<path()> make;
    std::size_t times;
  };
  const std::map<std::string_view, mode> modes = {
      {"ws_receive_64", {[] { return ws_receive(64); }, 50}},
      {"ws_receive_1k", {[] { return ws_receive(1024); }, 20}},
      {"ws_encode", {ws_encode, 50}},
      {"http_head", {http_head, 1000}},
      {"json_validate", {json_validate, 200}},
      {"command", {command, 1000}},
      {"storage_append", {storage_append, 5000}},
      {"echo", {echo, 5000}},
      {"fan_out_1", {[] { return fan_out(1, false, "hailwire.v1.raw"); }, 50}},
      {"fan_out_16", {[] { return fan_out(16, false, "hailwire.v1.raw"); }, 20}},
      {"fan_out_16_stalled", {[] { return fan_out(16, true, "hailwire.v1.raw"); }, 20}},
      {"fan_out_16_envelope", {[] { return fan_out(16, false, ""); }, 20}},
      {"fan_out_sse", {[] { return fan_out(1, false, "sse"); }, 50}},
#ifdef HAILWIRE_PATHS_TLS
      {"fan_out_1_tls", {[] { return fan_out_tls(1); }, 20}},
      {"fan_out_16_tls", {[] { return fan_out_tls(16); }, 10}},
#endif
      {"direct", {direct, 3000}},
      {"receipt", {receipt, 3000}},
      {"receipt_told", {receipt_told, 50}},
      {"presence", {presence, 20}},
      {"short_poll", {short_poll, 3000}},
      {"long_poll", {long_poll, 30}},
  };
  if (argc == 3) house::limits = argv[2];
  auto chosen = argc == 2 || argc == 3 ? modes.find(argv[1]) : modes.end();
  if (chosen == modes.end()) {
    std::fputs("usage: paths MODE [usual|none|all: which limits are on], where MODE is one of\n", stderr);
    for (auto& [name, m] : modes) std::fprintf(stderr, "  %s\n", std::string(name).c_str());
    return 2;
  }
  path p = chosen->second.make();
  for (int i = 0; i < 3; ++i) p.work();  // caches, and memory that is asked for once
  measured(&p.work, chosen->second.times);
  std::printf("%zu\n", chosen->second.times * p.operations);
  return outcome ? 0 : 1;
}
