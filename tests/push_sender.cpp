// SPDX-License-Identifier: BSL-1.0
//
// The push notifiers as a program, for tests whose push services are not C++:
//
//     push_sender CONFIGURATION.json
//
// Reads one notice a line, as JSON: {"id":1,"service":"apns","device":{…the device command's object…},"registered":0},
// with the "kept" that an earlier line was told, too or in place of it. Writes one line for each: {"id":1,"outcome":
// "delivered"|"gone"|"failed"|"refused","reason":"…","kept":"…"}. At the end of its input it waits for all answers,
// writes {"counters":{…}} for each notifier, and ends.

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/read_until.hpp>
#include <asio/streambuf.hpp>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "hailwire/push/apns.hpp"
#include "hailwire/push/fcm.hpp"
#include "hailwire/push/web_push.hpp"
#include "hailwire/push/webhook.hpp"

using nlohmann::json;

namespace {

struct any_notifier {
  std::function<hailwire::result<hailwire::push_token>(std::string_view, const hailwire::push_token&)> accept;
  std::function<void(hailwire::push_device, hailwire::push_notice, hailwire::push_handler)> notify;
  std::function<hailwire::push_counters()> counters;
};

class sender {
 public:
  sender(asio::io_context& io, const json& c) : in_(io, ::dup(0)) {
    hailwire::push_limits limits;
    limits.first_retry = std::chrono::milliseconds(c.value("first_retry", 20));
    limits.longest_retry = std::chrono::milliseconds(c.value("longest_retry", 200));
    limits.give_up = std::chrono::seconds(c.value("give_up", 60));
    limits.request_time = std::chrono::seconds(c.value("request_time", 20));
    limits.max_waiting = c.value("max_waiting", std::size_t{10'000});
    const hailwire::push_network network{.ca = c.value("ca", "")};
    if (c.contains("webhook"))
      add(std::make_shared<hailwire::webhook>(
          io,
          hailwire::webhook_options{
              .url = c["webhook"]["url"], .secrets = c["webhook"]["secrets"], .limits = limits, .network = network}));
    if (c.contains("apns")) {
      const json& a = c["apns"];
      add(std::make_shared<hailwire::apns>(io, hailwire::apns_options{.team = a["team"],
                                                                      .key_id = a["key_id"],
                                                                      .key = a["key"],
                                                                      .topic = a["topic"],
                                                                      .url = a["url"],
                                                                      .sandbox_url = a["sandbox_url"],
                                                                      .limits = limits,
                                                                      .network = network}));
    }
    if (c.contains("fcm"))
      add(std::make_shared<hailwire::fcm>(io, hailwire::fcm_options{.service_account = c["fcm"]["service_account"],
                                                                    .url = c["fcm"]["url"],
                                                                    .limits = limits,
                                                                    .network = network}));
    if (c.contains("web"))
      add(std::make_shared<hailwire::web_push>(
          io, hailwire::web_push_options{.keys = c["web"]["keys"],
                                         .subject = "mailto:ops@example.org",
                                         .title = c["web"].value("title", "New message"),
                                         .navigate = "https://chat.example.org/",
                                         .services = c["web"].value("services", std::vector<std::string>()),
                                         .own_services = c["web"].value("own_services", std::vector<std::string>()),
                                         .limits = limits,
                                         .network = network}));
    read();
  }

 private:
  template <class N>
  void add(std::shared_ptr<N> n) {
    static_assert(hailwire::push_notifier<N>);
    all_[std::string(n->service())] = {
        [n](std::string_view object, const hailwire::push_token& kept) { return n->accept(object, kept); },
        [n](hailwire::push_device to, hailwire::push_notice what, hailwire::push_handler done) {
          n->async_notify(std::move(to), std::move(what), std::move(done));
        },
        [n] { return n->counters(); }};
  }

  void read() {
    asio::async_read_until(in_, buffer_, '\n', [this](std::error_code ec, std::size_t) {
      if (ec) {
        ended_ = true;
        return end_if_done();
      }
      std::istream text(&buffer_);
      std::string line;
      std::getline(text, line);
      take(json::parse(line));
      read();
    });
  }
  void take(const json& j) {
    any_notifier& n = all_.at(j["service"]);
    hailwire::push_token kept;
    if (j.contains("kept")) kept = {j["kept"]["token"], j["kept"]["extra"]};
    if (j.contains("device")) {
      auto r = n.accept(j["device"].dump(), kept);
      if (!r) return tell({{"id", j["id"]}, {"outcome", "refused"}, {"reason", std::string(r.error().text())}});
      kept = std::move(*r);
    }
    ++open_;
    static constexpr const char* words[] = {"delivered", "gone", "failed"};
    n.notify(
        {"ada", "phone", j["service"], kept.token, kept.extra, j.value("registered", std::int64_t{0})},
        {j.value("channel", "@ada"), "E1", j.value("offset", std::uint64_t{42}), j.value("count", std::uint64_t{3})},
        [this, id = j["id"], kept](hailwire::push_result r) {
          tell({{"id", id},
                {"outcome", words[static_cast<int>(r.outcome)]},
                {"reason", r.reason},
                {"kept", {{"token", kept.token}, {"extra", kept.extra}}}});
          --open_;
          end_if_done();
        });
  }
  void end_if_done() {
    if (!ended_ || open_ > 0) return;
    for (auto& [name, n] : all_) {
      const auto c = n.counters();
      tell({{"counters", name},
            {"delivered", c.delivered},
            {"gone", c.gone},
            {"failed", c.failed},
            {"dropped", c.dropped},
            {"retried", c.retried},
            {"waiting", c.waiting}});
    }
    std::fflush(stdout);
    std::_Exit(0);
  }
  static void tell(const json& j) {
    std::puts(j.dump().c_str());
    std::fflush(stdout);
  }

  std::map<std::string, any_notifier> all_;
  asio::posix::stream_descriptor in_;
  asio::streambuf buffer_;
  std::size_t open_ = 0;
  bool ended_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: push_sender CONFIGURATION.json\n", stderr), 2;
  try {
    std::ifstream file(argv[1]);
    asio::io_context io;
    sender s(io, json::parse(file));
    io.run();
  } catch (const std::exception& e) {
    return std::fprintf(stderr, "push_sender: %s\n", e.what()), 1;
  }
}
