// SPDX-License-Identifier: BSL-1.0

// The load generator: one epoll loop that speaks to any server by URL, checks that every message arrived, whole and in
// order, and prints one JSON object. Run it without arguments for its options.
//
// What is counted is counted between two instants, and so is the server's CPU time (`--pid`): connecting, warming up
// and draining are outside. Afterwards nothing more is sent, and what is still under way must arrive, else the run has
// failed.
//
// Fixed-rate runs (`--rate`) send at times fixed beforehand, whether or not earlier answers have come, and measure from
// those times: a server that stalls is charged for everything that should have been sent meanwhile (the correction for
// what is called coordinated omission).

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "load_client.hpp"

namespace load {

/// Latencies in buckets of 1/64 of a power of two: less than 1.6 % off anywhere.
class histogram {
 public:
  void add(std::int64_t ns) {
    auto v = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 1));
    unsigned power = 63 - static_cast<unsigned>(__builtin_clzll(v));
    std::size_t at = power < 6 ? v : (power - 5) * 64 + (v >> (power - 6)) - 64;
    ++counts_[at];
    ++total_;
    largest_ = std::max(largest_, v);
  }
  /// The smallest bound below which a share `q` lies, in microseconds.
  double quantile(double q) const {
    auto rank = static_cast<std::uint64_t>(q * static_cast<double>(total_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen <= rank) continue;
      double upper = i < 64 ? static_cast<double>(i + 1) : static_cast<double>((i % 64 + 65) << (i / 64 - 1));
      return std::min(upper, static_cast<double>(largest_)) / 1000;
    }
    return static_cast<double>(largest_) / 1000;
  }
  std::uint64_t total() const { return total_; }
  double largest() const { return static_cast<double>(largest_) / 1000; }

 private:
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(64 * 60);
  std::uint64_t total_ = 0, largest_ = 0;
};

/// CPU time of processes in seconds, all threads, as the scheduler accounts it.
inline double cpu_seconds(const std::vector<int>& pids) {
  double sum = 0;
  for (int pid : pids) {
    std::error_code ec;
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ec)) {
      std::uint64_t ns = 0;
      if (std::ifstream(task.path() / "schedstat") >> ns) sum += static_cast<double>(ns) / 1e9;
    }
  }
  return sum;
}
/// Private anonymous memory of processes in bytes.
inline std::int64_t anonymous_bytes(const std::vector<int>& pids) {
  std::int64_t sum = 0;
  for (int pid : pids) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("Anonymous:")) sum += std::atoll(line.c_str() + 10) * 1024;
  }
  return sum;
}
/// Memory in the kernel's TCP buffers, both ends of everything on this machine, in bytes.
inline std::int64_t tcp_bytes() {
  std::ifstream in("/proc/net/sockstat");
  for (std::string line; std::getline(in, line);)
    if (auto at = line.find(" mem "); line.starts_with("TCP:") && at != line.npos)
      return std::atoll(line.c_str() + at + 5) * 4096;
  return 0;
}

struct settings {
  std::string scenario, url, publish_url, as = "websocket", subprotocol, hello, text = "%p";
  std::size_t connections = 100, base = 0, size = 20, window = 1, stalled = 0;
  double rate = 0, warm_up = 0.3, seconds = 1, settle = 0.2;
  int status = 0;
  bool enveloped = false;
  std::vector<int> pids;
};

/// One kind of work. `start` begins it, `stop` ends sending, `drained` says whether everything has arrived.
class scenario : public events {
 public:
  explicit scenario(const settings& s) : set(s) {}
  virtual std::size_t capacity() const { return set.connections; }
  virtual void prepare() = 0;  // opens what has to be open before `start`
  virtual void start() {}
  virtual void stop() { stopped = true; }
  virtual bool drained() const { return true; }
  virtual bool spins() const { return set.rate > 0; }
  virtual std::string more() const { return {}; }

  const settings& set;
  pool* clients = nullptr;
  std::uint64_t done = 0;  // what is counted
  std::size_t ready_count = 0;
  bool started = false, stopped = false, measuring = false;
  histogram latencies;

 protected:
  address where(const std::string& url) const {
    auto a = parse_url(url);
    if (!a)
      std::fprintf(stderr, "load: not a URL with an IPv4 address that this build can reach: %s\n", url.c_str()),
          std::exit(2);
    return *a;
  }
  static std::string get(const std::string& path, const address& a, const std::string& more) {
    return "GET " + path + " HTTP/1.1\r\nHost: " + a.host + "\r\n" + more + "\r\n";
  }
  /// Opens connection `i` as `how` says, its URL's `%i` replaced.
  void open(std::size_t i, const address& a, const std::string& how) {
    std::string path;
    substitute(path, a.path, i);
    if (how == "websocket") {
      std::string more =
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
          "dGhlIHNhbXBsZSBub25jZQ==\r\n";
      if (!set.subprotocol.empty()) more += "Sec-WebSocket-Protocol: " + set.subprotocol + "\r\n";
      clients->open(i, a, kind::websocket, get(path, a, more));
    } else if (how == "sse") {
      clients->open(i, a, kind::events, get(path, a, "Accept: text/event-stream\r\n"));
    } else {
      clients->open(i, a, kind::polls, {});
    }
  }
  /// Opens connections `from` to `to`, not so fast that a listener's queue overflows.
  void open_all(std::size_t from, std::size_t to, const address& a, const std::string& how) {
    static constexpr std::size_t at_once = 100;
    std::int64_t late = nanoseconds() + 60'000'000'000;
    std::size_t first = ready_count;
    for (std::size_t i = from; i < to || ready_count - first < to - from;) {
      while (i < to && i - from - (ready_count - first) < at_once) open(i++, a, how);
      clients->turn(100);
      if (!clients->error.empty()) return;
      if (nanoseconds() > late) return clients->fail("connecting takes over a minute");
    }
  }
  void ready(client& c) override {
    ++ready_count;
    if (!set.hello.empty() && c.how == kind::websocket) {
      std::string text;
      substitute(text, set.hello, c.index);
      clients->send_frame(c, text);
    }
  }
  void say(client& c, std::uint32_t sequence, std::uint64_t target = 0) {
    make_payload(payload_, sequence, set.size);
    if (set.text == "%p") return clients->send_frame(c, payload_);
    text_.clear();
    substitute(text_, set.text, c.index, target, payload_);
    clients->send_frame(c, text_);
  }
  /// How many things should have been sent by now at the fixed rate: the first one at once.
  std::uint64_t due() const {
    return 1 + static_cast<std::uint64_t>(static_cast<double>(nanoseconds() - began_) * set.rate / 1e9);
  }
  /// Records how long after its time the `k`th thing came.
  void record(std::uint64_t k) {
    if (measuring)
      latencies.add(nanoseconds() - began_ - static_cast<std::int64_t>(static_cast<double>(k) * 1e9 / set.rate));
  }
  std::int64_t began_ = 0;
  std::string payload_, text_;
};

/// Every connection sends, the server sends back. `--window` messages of each are under way.
class echo final : public scenario {
 public:
  using scenario::scenario;
  void prepare() override { open_all(0, set.connections, where(set.url), "websocket"); }
  void start() override {
    started = true;
    began_ = nanoseconds();
    if (set.rate > 0) return;
    for (auto& c : clients->clients)
      for (std::size_t k = 0; k < set.window; ++k) say(c, c.sent++), ++under_way_;
  }
  void turn_over() override {
    if (!started || stopped || set.rate <= 0) return;
    for (auto until = due(); next_ < until; ++next_) {
      client& c = clients->clients[next_ % set.connections];
      say(c, c.sent++);
      ++under_way_;
    }
  }
  void marked(client& c, std::uint32_t sequence) override {
    if (sequence != c.seen)
      return clients->fail(c, "message " + std::to_string(sequence) + " in place of " + std::to_string(c.seen));
    ++c.seen;
    ++done;
    --under_way_;
    if (set.rate > 0) {
      record(std::uint64_t{sequence} * set.connections + c.index);
    } else if (!stopped) {
      say(c, c.sent++);
      ++under_way_;
    }
  }
  bool drained() const override { return under_way_ == 0; }

 private:
  std::uint64_t under_way_ = 0, next_ = 0;
};

/// One publisher, everybody receives. A message is over when all have it; `--window` of them are under way. Without
/// `--publish`, the first subscriber publishes.
class fan_out final : public scenario {
 public:
  using scenario::scenario;
  std::size_t capacity() const override { return set.connections + set.stalled + 1; }
  void prepare() override {
    auto a = where(set.url);
    if (set.as == "poll") return prepare_polls(a);
    open_all(0, set.connections, a, set.as);
    prepare_publisher();
    clients->receive_buffer = 4096;  // what piles up for those that never read is the server's then
    for (std::size_t i = 0; i < set.stalled && clients->error.empty(); ++i) {
      std::size_t at = set.connections + i;
      open_all(at, at + 1, a, set.as);
      clients->deafen(clients->clients[at]);
    }
  }
  void start() override {
    started = true;
    began_ = nanoseconds();
    counts_.assign(std::max<std::size_t>(set.window, 1) + (set.rate > 0 ? 1 << 16 : 0), 0);
  }
  void turn_over() override {
    if (!started || stopped) return;
    std::uint64_t until = set.rate > 0 ? std::min<std::uint64_t>(due(), over_ + counts_.size()) : over_ + set.window;
    for (; published_ < until; ++published_) publish(static_cast<std::uint32_t>(published_));
  }
  void marked(client& c, std::uint32_t sequence) override {
    if (sequence != c.seen)
      return clients->fail(c, "message " + std::to_string(sequence) + " in place of " + std::to_string(c.seen));
    if (sequence >= published_) return clients->fail(c, "a message that was not sent");
    ++c.seen;
    ++done;
    if (set.rate > 0) record(sequence);
    if (++counts_[sequence % counts_.size()] == set.connections) {
      counts_[sequence % counts_.size()] = 0;
      ++over_;
    }
  }
  void answered(client& c) override {
    if (c.index == publisher_) return;
    if (!started) ++first_answers_;
    ask(c);
  }
  bool drained() const override { return over_ == published_; }

 private:
  void prepare_publisher() {
    if (set.publish_url.empty() || !clients->error.empty()) return;
    publish_to_ = where(set.publish_url);
    publisher_ = set.connections + set.stalled;
    open_all(publisher_, publisher_ + 1, publish_to_, publish_to_.websocket ? "websocket" : "poll");
  }
  // A first answer may come at once, and says where following starts; whoever has no answer after a while is waiting.
  void prepare_polls(const address& a) {
    poll_at_ = a;
    open_all(0, set.connections, a, "poll");
    prepare_publisher();
  }
  void ready(client& c) override {
    scenario::ready(c);
    if (c.how == kind::polls && c.index < set.connections) ask(c);
  }
  void ask(client& c) {
    std::string more;
    if (!c.etag.empty()) more += "If-None-Match: " + c.etag + "\r\n";
    if (!c.modified.empty()) more += "If-Modified-Since: " + c.modified + "\r\n";
    c.out += get(poll_at_.path, poll_at_, more);
    clients->send(c);
  }
  void publish(std::uint32_t sequence) {
    client& c = clients->clients[publisher_ == SIZE_MAX ? 0 : publisher_];
    if (c.how == kind::websocket) return say(c, sequence);
    // On one connection, one request after the other, so that the order is the order of sequence numbers.
    make_payload(payload_, sequence, set.size);
    c.out += "POST " + publish_to_.path + " HTTP/1.1\r\nHost: " + publish_to_.host +
             "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(payload_.size()) + "\r\n\r\n" +
             payload_;
    clients->send(c);
  }

  address publish_to_, poll_at_;
  std::size_t publisher_ = SIZE_MAX, first_answers_ = 0;
  std::uint64_t published_ = 0, over_ = 0;
  std::vector<std::size_t> counts_;
};

/// Connection i follows a channel of its own; a message goes to a random other one, which then sends the next.
/// `--window` are under way in all.
class direct final : public scenario {
 public:
  using scenario::scenario;
  void prepare() override { open_all(0, set.connections, where(set.url), "websocket"); }
  void start() override {
    started = true;
    expected_.assign(1 << 20, UINT32_MAX);
    for (std::size_t k = 0; k < set.window; ++k) send_on(clients->clients[random_() % set.connections]);
  }
  void marked(client& c, std::uint32_t sequence) override {
    auto& slot = expected_[sequence % expected_.size()];
    if (slot != c.index || sequence >= next_) return clients->fail(c, "a message that is not for it, or twice");
    slot = UINT32_MAX;
    ++done;
    --under_way_;
    if (!stopped) send_on(c);
  }
  bool drained() const override { return under_way_ == 0; }

 private:
  void send_on(client& from) {
    auto to = static_cast<std::uint32_t>(random_() % set.connections);
    auto& slot = expected_[next_ % expected_.size()];
    if (slot != UINT32_MAX) return clients->fail("a message is a million messages late");
    slot = to;
    say(from, next_++, to);
    ++under_way_;
  }
  std::minstd_rand random_{42};
  std::vector<std::uint32_t> expected_;
  std::uint32_t next_ = 0;
  std::uint64_t under_way_ = 0;
};

/// Requests that are answered at once, one after the other on kept-alive connections. With `--status 304` the first
/// answer's ETag is sent along: nothing new.
class requests final : public scenario {
 public:
  using scenario::scenario;
  void prepare() override {
    at_ = where(set.url);
    open_all(0, set.connections, at_, "poll");
    for (auto& c : clients->clients) ask(c);
  }
  void start() override {
    started = true;
    for (auto& c : clients->clients)
      if (!c.sent) ask(c);
  }
  void answered(client& c) override {
    c.sent = 0;
    if (!started) return;
    if (set.status && c.status != set.status) return clients->fail(c, "answered " + std::to_string(c.status));
    ++done;
    if (!stopped) ask(c);
  }
  bool drained() const override {
    return std::none_of(clients->clients.begin(), clients->clients.end(), [](const client& c) { return c.sent; });
  }

 private:
  void ask(client& c) {
    c.sent = 1;
    c.out += "GET " + at_.path + " HTTP/1.1\r\nHost: " + at_.host + "\r\nUser-Agent: load\r\nAccept: */*\r\n";
    if (!c.etag.empty() && set.status == 304) c.out += "If-None-Match: " + c.etag + "\r\n";
    c.out += "\r\n";
    clients->send(c);
  }
  address at_;
};

/// Connections that come, shake hands and go; `--connections` are under way at a time.
class connect final : public scenario {
 public:
  using scenario::scenario;
  void prepare() override { at_ = where(set.url); }
  void start() override {
    started = true;
    for (std::size_t i = 0; i < set.connections; ++i) open(i, at_, set.as);
  }
  void ready(client& c) override {
    scenario::ready(c);
    ++done;
    over_.push_back(c.index);
  }
  void turn_over() override {
    for (auto i : std::exchange(over_, {})) {
      clients->close(clients->clients[i]);
      if (!stopped) open(i, at_, set.as);
    }
  }
  bool drained() const override {
    return std::all_of(clients->clients.begin(), clients->clients.end(), [](const client& c) { return c.fd < 0; });
  }

 private:
  address at_;
  std::vector<std::uint32_t> over_;
};

/// Connections that do nothing but live. Private anonymous memory is read at `--base` connections and at all of them,
/// each time after `--settle` seconds.
class idle final : public scenario {
 public:
  using scenario::scenario;
  void prepare() override {
    auto a = where(set.url);
    std::size_t held = 0;
    for (std::size_t until : {set.base, set.connections}) {
      open_all(held, until, a, set.as);
      if (!clients->error.empty()) return;
      held = until;
      for (auto late = nanoseconds() + static_cast<std::int64_t>(set.settle * 1e9);
           nanoseconds() < late && clients->error.empty();)
        clients->turn(50);
      bytes_[until == set.connections] = anonymous_bytes(set.pids);
    }
  }
  std::string more() const override {
    auto slope = static_cast<double>(bytes_[1] - bytes_[0]) / static_cast<double>(set.connections - set.base);
    return ",\"anonymous_bytes\":[" + std::to_string(bytes_[0]) + ',' + std::to_string(bytes_[1]) +
           "],\"bytes_per_connection\":" + std::to_string(slope);
  }

 private:
  std::int64_t bytes_[2] = {0, 0};
};

int usage() {
  std::fputs(
      "usage: load SCENARIO --url URL [options]\n"
      "scenarios: echo, fan_out, direct, requests, connect, idle\n"
      "  --url URL            ws://A.B.C.D:PORT/path or http://…, wss or https for TLS 1.3; %i becomes the "
      "connection's number\n"
      "  --as WAY             websocket (default), sse or poll: how fan_out, connect and idle follow\n"
      "  --connections N      of fan_out: subscribers (100)\n"
      "  --size N             bytes of a payload (20)\n"
      "  --window N           messages under way: per connection (echo), in all (fan_out, direct) (1)\n"
      "  --rate R             messages a second at fixed times, with latencies (echo, fan_out)\n"
      "  --text TEXT          what is sent over WebSocket: %p the payload, %t the receiver, %i the sender (%p)\n"
      "  --hello TEXT         a WebSocket message to send first\n"
      "  --enveloped          messages come with other bytes around the payload\n"
      "  --subprotocol NAME   offered in the WebSocket handshake\n"
      "  --publish URL        fan_out: publish there, by POST or over a WebSocket\n"
      "  --stalled N          fan_out: so many more subscribers that never read\n"
      "  --status N           requests: the answer to expect; 304 asks for what is new since the first answer\n"
      "  --base N             idle: the slope of memory is taken from N connections on\n"
      "  --warm-up S, --seconds S, --settle S\n"
      "  --pid PID            the server's process, for its CPU time and memory; may be repeated\n",
      stderr);
  return 2;
}

}  // namespace load

int main(int argc, char** argv) {
  using namespace load;
  settings set;
  if (argc < 2) return usage();
  set.scenario = argv[1];
  std::map<std::string, std::function<void(const char*)>> options = {
      {"--url", [&](const char* v) { set.url = v; }},
      {"--as", [&](const char* v) { set.as = v; }},
      {"--publish", [&](const char* v) { set.publish_url = v; }},
      {"--subprotocol", [&](const char* v) { set.subprotocol = v; }},
      {"--hello", [&](const char* v) { set.hello = v; }},
      {"--text", [&](const char* v) { set.text = v; }},
      {"--connections", [&](const char* v) { set.connections = std::strtoull(v, nullptr, 10); }},
      {"--base", [&](const char* v) { set.base = std::strtoull(v, nullptr, 10); }},
      {"--size", [&](const char* v) { set.size = std::strtoull(v, nullptr, 10); }},
      {"--window", [&](const char* v) { set.window = std::strtoull(v, nullptr, 10); }},
      {"--stalled", [&](const char* v) { set.stalled = std::strtoull(v, nullptr, 10); }},
      {"--rate", [&](const char* v) { set.rate = std::atof(v); }},
      {"--warm-up", [&](const char* v) { set.warm_up = std::atof(v); }},
      {"--seconds", [&](const char* v) { set.seconds = std::atof(v); }},
      {"--settle", [&](const char* v) { set.settle = std::atof(v); }},
      {"--status", [&](const char* v) { set.status = std::atoi(v); }},
      {"--pid", [&](const char* v) { set.pids.push_back(std::atoi(v)); }},
  };
  for (int i = 2; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--enveloped") {
      set.enveloped = true;
      continue;
    }
    auto option = options.find(argv[i]);
    if (option == options.end() || i + 1 == argc) return usage();
    option->second(argv[++i]);
  }
  std::unique_ptr<scenario> work;
  if (set.scenario == "echo") work = std::make_unique<echo>(set);
  if (set.scenario == "fan_out") work = std::make_unique<fan_out>(set);
  if (set.scenario == "direct") work = std::make_unique<direct>(set);
  if (set.scenario == "requests") work = std::make_unique<requests>(set);
  if (set.scenario == "connect") work = std::make_unique<load::connect>(set);
  if (set.scenario == "idle") work = std::make_unique<idle>(set);
  bool fine =
      work && !set.url.empty() && set.connections > 0 && set.size >= smallest_payload && set.base <= set.connections;
  if (!fine || (set.as != "websocket" && set.as != "sse" && set.as != "poll")) return usage();

  pool clients(work->capacity(), set.size);
  clients.to = work.get();
  clients.exact_frames = !set.enveloped && (set.scenario == "echo" || set.scenario == "fan_out");
  work->clients = &clients;

  auto run = [&](double seconds) {
    for (auto until = nanoseconds() + static_cast<std::int64_t>(seconds * 1e9);
         nanoseconds() < until && clients.error.empty();)
      clients.turn(work->spins() ? 0 : 20);
  };
  double connecting = static_cast<double>(nanoseconds());
  work->prepare();
  connecting = (static_cast<double>(nanoseconds()) - connecting) / 1e9;
  double wall = 0, cpu = 0, own = 0;
  std::uint64_t count = 0;
  std::int64_t memory[3] = {}, kernel[3] = {};  // before, after, and when nothing is under way any more
  if (set.scenario != "idle") {
    run(set.settle);
    work->start();
    run(set.warm_up);
    memory[0] = anonymous_bytes(set.pids), kernel[0] = tcp_bytes();
    auto own_cpu = [] {
      timespec t{};
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
    };
    double cpu_before = cpu_seconds(set.pids), own_before = own_cpu();
    auto began = nanoseconds();
    std::uint64_t before = work->done;
    work->measuring = true;
    run(set.seconds);
    work->measuring = false;
    count = work->done - before;
    wall = static_cast<double>(nanoseconds() - began) / 1e9;
    cpu = cpu_seconds(set.pids) - cpu_before;
    own = own_cpu() - own_before;
    memory[1] = anonymous_bytes(set.pids), kernel[1] = tcp_bytes();
    work->stop();
    for (auto late = nanoseconds() + 10'000'000'000; !work->drained() && clients.error.empty();) {
      clients.turn(20);
      if (nanoseconds() > late) clients.fail("messages are missing ten seconds after the last was sent");
    }
    memory[2] = anonymous_bytes(set.pids), kernel[2] = tcp_bytes();
    if (count == 0) clients.fail("nothing was done");
  }

  std::printf("{\"scenario\":\"%s\",\"connections\":%zu,\"count\":%llu,\"seconds\":%.4f,\"per_second\":%.1f",
              set.scenario.c_str(), set.connections, static_cast<unsigned long long>(count), wall,
              wall > 0 ? static_cast<double>(count) / wall : 0.0);
  std::printf(",\"server_cpu\":%.4f,\"per_cpu_second\":%.1f,\"load_cpu\":%.4f,\"connecting\":%.3f", cpu,
              cpu > 0 ? static_cast<double>(count) / cpu : 0.0, own, connecting);
  if (set.scenario != "idle") {
    std::printf(",\"server_bytes\":[%lld,%lld,%lld],\"tcp_bytes\":[%lld,%lld,%lld]", static_cast<long long>(memory[0]),
                static_cast<long long>(memory[1]), static_cast<long long>(memory[2]), static_cast<long long>(kernel[0]),
                static_cast<long long>(kernel[1]), static_cast<long long>(kernel[2]));
  }
  if (auto& h = work->latencies; h.total()) {
    std::printf(",\"microseconds\":{\"p50\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"max\":%.1f}", h.quantile(.5),
                h.quantile(.99), h.quantile(.999), h.largest());
  }
  std::string error;
  for (char c : clients.error) error += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  std::printf("%s%s}\n", work->more().c_str(), error.empty() ? "" : (",\"error\":\"" + error + "\"").c_str());
  return clients.error.empty() ? 0 : 1;
}
