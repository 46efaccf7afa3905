// SPDX-License-Identifier: BSL-1.0
// The storage and the broker over TLS, with a certificate that the client checks and one that it shows.
#include <condition_variable>

#include "catch.hpp"
#include "hailwire/broker/redis.hpp"
#include "hailwire/client_tls.hpp"
#include "redis_server.hpp"
#include "storage/asked.hpp"

using namespace hailwire;

namespace {

/// Certificates of an authority of the test's own.
struct certificates {
  certificates() {
    char name[] = "/tmp/hailwire-redis-tls-XXXXXX";
    REQUIRE(::mkdtemp(name));
    folder = name;
    const auto run = [&](const std::string& words) {
      REQUIRE(std::system(("cd " + folder + " && openssl " + words + " >/dev/null 2>&1").c_str()) == 0);
    };
    run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out "
        "ca.pem");
    std::ofstream(folder + "/names") << "subjectAltName=IP:127.0.0.1\n";
    for (const char* who : {"server", "client"}) {
      const std::string w = who;
      run("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + w + " -keyout " + w + ".key -out " + w +
          ".csr");
      run("x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -in " + w + ".csr -out " + w +
          ".pem");
    }
  }
  ~certificates() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  std::string file(const char* name) const { return folder + '/' + name; }
  std::string pem(const char* name) const { return client_tls::read_pem(file(name)); }
  std::string folder;
};

}  // namespace

TEST_CASE("Redis over TLS: who it is is proven on both sides, and all goes as it does without") {
  NEEDS_REDIS();
  certificates made;
  const auto port = free_port();
  redis_server server({"--tls-port", std::to_string(port), "--tls-cert-file", made.file("server.pem"), "--tls-key-file",
                       made.file("server.key"), "--tls-ca-cert-file", made.file("ca.pem"), "--tls-auth-clients",
                       "yes"});
  const auto url = "rediss://127.0.0.1:" + std::to_string(port);
  redis_options o;
  o.tls = client_tls({.ca = made.pem("ca.pem"), .certificate = made.pem("client.pem"), .key = made.pem("client.key")});
  auto a = redis_storage::open(url, o), b = redis_storage::open(url, o);
  REQUIRE((a && b));
  redis_broker broker(**b);
  std::mutex mutex;
  std::condition_variable came;
  std::vector<std::string> heard;
  const auto hub = broker.attach([&](const broker_event& e) {
    std::lock_guard lock(mutex);
    heard.push_back(e.stored ? std::string(e.stored->data.bytes()) : "look");
    came.notify_all();
  });
  broker.subscribe(hub, "c");
  const auto hears = [&](const std::string& what) {
    std::unique_lock lock(mutex);
    return came.wait_for(lock, std::chrono::seconds(20),
                         [&] { return std::find(heard.begin(), heard.end(), what) != heard.end(); });
  };
  CHECK(hears("look"));
  CHECK(append(**a, "c", "hello").offset == 1);
  CHECK(hears("hello"));
  const std::string large(3'000'000, 'x');  // over many records
  CHECK(append(**a, "c", large).offset == 2);
  CHECK(read(**b, "c", 1).messages.at(0).data.bytes() == large);
  broker.detach(hub);

  const auto why = [&](client_tls t, const std::string& to) {
    redis_options other;
    other.tls = t;
    auto s = redis_storage::open(to, other, std::chrono::milliseconds(500));
    return s ? "opened" : std::string(s.error().text());
  };
  CHECK(why(client_tls(), url).find("the server's certificate is refused") != std::string::npos);
  CHECK(why(client_tls({.ca = made.pem("ca.pem")}), url) != "opened");  // it shows none
  CHECK(why(client_tls({.ca = made.pem("ca.pem")}), "rediss://127.0.0.1:" + std::to_string(server.port())) != "opened");
}
