// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/receipts.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hailwire/broker/in_process.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/testing/manual_loop.hpp"

using namespace hailwire;

namespace {

constexpr proto::encoding numbers{"numbers", false,
                                  [](std::string& out, const proto::envelope& e) {
                                    out.append("<").append(std::to_string(e.content.offset)).append(">");
                                  },
                                  [](std::string& out, std::string_view, std::string_view json) { out.append(json); }};

options told_to_followers(std::size_t names = 100) {
  options o;
  o.channels = {{.pattern = "c", .receipts = true}};
  o.presence_names = names;
  return o;
}

struct place {
  explicit place(const options& o = told_to_followers(), in_process_broker* b = nullptr,
                 memory_storage* common = nullptr)
      : h(loop, detail::erase_storage(common ? *common : store), o) {
    if (b) h.join(detail::erase_broker(*b));
  }
  void fill(int n, const std::string& channel = "c") {
    for (int i = 0; i < n; ++i) CHECK_FALSE(h.publish(channel, payload::json("1")));
    loop.run();
    h.history(channel, {}, 1, [this](history_result r) { epoch = r.epoch; });
  }
  std::string all(const std::string& channel = "c") {
    std::string out = "none";
    h.watermarks(channel, [&](receipts_result r) {
      out = r.error ? r.error.message() : std::to_string(r.head) + ':';
      for (const auto& one : r.receipts)
        out += ' ' + one.user + ' ' + std::to_string(one.received) + '/' + std::to_string(one.read);
    });
    return out;
  }
  testing::manual_loop loop;
  memory_storage store;
  hub h;
  std::string epoch;
};

struct client final : session {
  client(hub& h, std::string user, std::string device = {}) : there(&h) {
    h.enter(*this);
    grant g;
    g.user = std::move(user);
    g.follow = channel_set::all();
    h.open(*this, std::move(g), std::move(device), true);
  }
  ~client() override {
    there->close(*this);
    there->forget(*this);
    there->leave(*this);
  }
  std::string follow(const std::string& channel = "c", start from = start::latest()) {
    std::string began;
    there->subscriptions.add(*this, channel, from, true, [&, channel](result<follow_start> r) {
      began = !r ? std::string(code_name(r.error().code))
                 : std::to_string(r->at.offset) + (r->recovered            ? ""
                                                   : r->lost.epoch_changed ? " epoch"
                                                                           : " trimmed");
      there->turn.request_wake(*this);
    });
    return began;
  }
  std::string mark(const std::string& epoch, std::uint64_t offset, bool read = false, bool hidden = false,
                   const std::string& channel = "c") {
    std::string out = "later";
    there->watermarks().mark(*this, channel, {epoch, offset}, read, hidden,
                             [&](std::error_code ec) { out = ec ? std::string(code_name(wire_code(ec))) : "ok"; });
    return out;
  }
  std::string take() { return std::exchange(got, {}); }

  void wake(detail::subscription* s) override {
    for (const auto& c : channels()) {
      auto* at = there->subscriptions.find(*this, c);
      if (s && at != s) continue;
      for (auto bytes = at->pending(); !bytes.empty(); bytes = at->live() ? bytes.first(0) : at->pending()) {
        got.append(bytes.data(), bytes.size());
        at->advance(bytes.size());
      }
    }
  }
  void settle() override {}
  void lost(detail::subscription&, const detail::gap&) override {}
  void keep(detail::subscription&, std::string_view) override {}
  void unreadable(detail::subscription&, std::error_code) override {}
  std::error_code notice(std::string_view name, std::string_view json) override {
    got.append("own ").append(name).append(json);
    return {};
  }
  void end(errc, std::uint16_t, std::string_view) override {}
  bool ending() const noexcept override { return false; }
  bool adjustable() const noexcept override { return true; }
  bool duplex() const noexcept override { return true; }
  hub& at() const noexcept override { return *there; }
  std::string_view transport() const noexcept override { return "test"; }
  const proto::encoding& encoding() const noexcept override { return numbers; }
  hub* there;
  std::string got;
};

std::string receipt_of(const std::string& epoch, const std::string& user, int received, int read,
                       const std::string& channel = "c") {
  return "{\"channel\":\"" + channel + "\",\"epoch\":\"" + epoch + "\",\"user\":\"" + user +
         "\",\"received\":" + std::to_string(received) + ",\"read\":" + std::to_string(read) + "}";
}
std::string shared(const std::string& receipt) { return "{\"receipt\":" + receipt + "}"; }
std::string own(const std::string& receipt) { return "own receipt" + receipt; }

}  // namespace

TEST_CASE("watermarks rise and never fall, read implies received, and what is refused moves nothing") {
  place p;
  p.fill(10);
  client ada(p.h, "ada", "phone");
  CHECK(ada.mark(p.epoch, 5) == "ok");
  CHECK(p.all() == "10: ada 5/0");
  CHECK(ada.mark(p.epoch, 3, true) == "ok");
  p.loop.advance(2'000);
  CHECK(p.all() == "10: ada 5/3");
  CHECK(ada.mark(p.epoch, 7, true) == "ok");
  p.loop.advance(2'000);
  CHECK(p.all() == "10: ada 7/7");
  CHECK(ada.mark(p.epoch, 2) == "ok");
  CHECK(ada.mark(p.epoch, 11) == "bad_request");
  CHECK(ada.mark("other", 8) == "not_found");
  p.loop.advance(2'000);
  CHECK(p.all() == "10: ada 7/7");
  CHECK(ada.mark(p.epoch, 10) == "ok");
  CHECK(p.all().starts_with("10: ada 10/7"));
}

TEST_CASE("a device's marks are written once a second, answered before, and none is lost") {
  place p;
  p.fill(100);
  client ada(p.h, "ada", "phone"), watch(p.h, "bob");
  ada.follow();
  watch.follow();
  for (std::uint64_t i = 1; i <= 50; ++i) CHECK(ada.mark(p.epoch, i, i % 2 == 0) == "ok");
  CHECK(p.all() == "100: ada 1/0");  // the rest waits
  p.loop.run();
  CHECK(watch.take() == shared(receipt_of(p.epoch, "ada", 1, 0)));
  p.loop.advance(1'200);
  CHECK(p.all() == "100: ada 50/50");
  p.loop.advance(1'200);
  CHECK(watch.take() == shared(receipt_of(p.epoch, "ada", 50, 50)));
  CHECK(ada.mark(p.epoch, 60) == "ok");
  CHECK(ada.mark(p.epoch, 70, true) == "ok");
  p.h.stop();
  CHECK(p.store.watermarks("c", {}).marks.at(0).levels.read == 70);
}

TEST_CASE("receipts are told to followers where the rule says so and there are few, always to one's own devices") {
  place p(told_to_followers(3));
  p.fill(10);
  p.fill(10, "quiet");
  const std::string quiet = p.epoch;
  p.fill(0);
  client phone(p.h, "ada", "phone"), desk(p.h, "ada", "desk"), bob(p.h, "bob");
  for (client* c : {&phone, &desk, &bob}) c->follow(), c->follow("quiet");
  phone.mark(p.epoch, 4, true);
  p.loop.run();
  for (client* c : {&phone, &desk, &bob}) CHECK(c->take() == shared(receipt_of(p.epoch, "ada", 4, 4)));
  phone.mark(quiet, 4, true, false, "quiet");
  p.loop.run();
  CHECK(bob.take().empty());
  CHECK(desk.take() == own(receipt_of(quiet, "ada", 4, 4, "quiet")));
  phone.take();
  p.loop.advance(3'000);
  client fourth(p.h, "eve");
  fourth.follow();
  phone.mark(p.epoch, 5, true);
  p.loop.run();
  CHECK(bob.take().empty());
  CHECK(desk.take() == own(receipt_of(p.epoch, "ada", 5, 5)));
}

TEST_CASE("a private read is told to the user's own devices alone") {
  place p;
  p.fill(10);
  client phone(p.h, "ada", "phone"), desk(p.h, "ada", "desk"), bob(p.h, "bob");
  for (client* c : {&phone, &desk, &bob}) c->follow();
  phone.mark(p.epoch, 6, true, true);
  p.loop.run();
  CHECK(bob.take() == shared(receipt_of(p.epoch, "ada", 6, 0)));
  const std::string heard = desk.take();
  CHECK(heard.find(own(receipt_of(p.epoch, "ada", 6, 6))) != std::string::npos);
  CHECK(p.all() == "10: ada 6/0");
  std::string mine;
  p.h.watermarks().list("c", "ada", true, [&](receipts_result r) { mine = std::to_string(r.receipts.at(0).read); });
  CHECK(mine == "6");
}

TEST_CASE("an inbox's receipts are its user's alone") {
  options o;
  o.channels = {{.pattern = "*", .receipts = true}};
  place p(o);
  p.fill(3, "@ada");
  client phone(p.h, "ada", "phone"), desk(p.h, "ada", "desk");
  phone.follow("@ada"), desk.follow("@ada");
  phone.mark(p.epoch, 2, true, false, "@ada");
  p.loop.run();
  CHECK(desk.take() == own(receipt_of(p.epoch, "ada", 2, 2, "@ada")));
}

TEST_CASE("a device comes back behind its own newest watermark, in whatever epoch that is") {
  place p;
  p.fill(10);
  client phone(p.h, "ada", "phone"), desk(p.h, "ada", "desk"), nobody(p.h, "");
  CHECK(phone.mark(p.epoch, 6) == "ok");
  CHECK(desk.mark(p.epoch, 2) == "ok");
  const start received{start::word::received, {}};
  CHECK(phone.follow("c", received) == "6");
  CHECK(desk.follow("c", received) == "2");
  CHECK(nobody.follow("c", received) == "0");
  p.loop.run();
  CHECK(phone.take() == "<7><8><9><10>");
  // What has not been written yet counts.
  CHECK(phone.mark(p.epoch, 9) == "ok");
  client again(p.h, "ada", "phone");
  CHECK(again.follow("c", received) == "9");
  client fresh(p.h, "eve", "new");
  CHECK(fresh.follow("c", received) == "0");
}

TEST_CASE("a 17th device is a conflict, and one that is only named takes nobody's place") {
  place p;
  p.fill(3);
  for (int i = 0; i < 40; ++i) client(p.h, "ada", "named" + std::to_string(i)).follow();
  for (int i = 0; i < 16; ++i) CHECK(client(p.h, "ada", std::to_string(i)).mark(p.epoch, 1) == "ok");
  client one_more(p.h, "ada", "16");
  CHECK(one_more.mark(p.epoch, 1) == "conflict");
  CHECK(one_more.mark(p.epoch, 2) == "conflict");
  CHECK(client(p.h, "ada", "3").mark(p.epoch, 2) == "ok");
}

TEST_CASE("followers of another hub are told of receipts too") {
  in_process_broker b;
  memory_storage common;
  place one(told_to_followers(), &b, &common), two(told_to_followers(), &b, &common);
  one.fill(5);
  two.loop.run();  // both hubs are there
  client ada(one.h, "ada", "phone"), far(two.h, "bob"), desk(two.h, "ada", "desk");
  ada.follow();
  far.follow();
  desk.follow();
  ada.mark(one.epoch, 4, true, true);
  one.loop.run();
  two.loop.run();
  CHECK(far.take().find(shared(receipt_of(one.epoch, "ada", 4, 0))) != std::string::npos);
  CHECK(desk.take().find(own(receipt_of(one.epoch, "ada", 4, 4))) != std::string::npos);
}
