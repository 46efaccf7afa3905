// SPDX-License-Identifier: BSL-1.0
//
// hailwire in a libuv host: the server has no thread and no Asio context. libuv watches its one descriptor and calls
// `poll()` when there is something to do. The host's own timer publishes the time, once a second, to who follows
// `clock`.

#include <hailwire/hailwire.hpp>

#include <uv.h>

#include <cstdint>
#include <ctime>
#include <iostream>
#include <string>

using live_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

int main(int count, char** words) {
  live_server live(hailwire::own_thread);
  live.authorize(
      [](const hailwire::request&) { return hailwire::grant{.follow = {"clock", "chat-*"}, .publish = {"chat-*"}}; });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);

  uv_loop_t* loop = uv_default_loop();
  uv_poll_t input;
  uv_timer_t clock;
  uv_signal_t signals[2];
  input.data = clock.data = signals[0].data = signals[1].data = &live;

  uv_poll_init(loop, &input, live.native_handle());
  uv_poll_start(&input, UV_READABLE, [](uv_poll_t* watched, int, int) {
    if (!static_cast<live_server*>(watched->data)->poll()) uv_stop(watched->loop);  // stopped, and everybody is gone
  });

  uv_timer_init(loop, &clock);
  auto tick = [](uv_timer_t* t) {
    auto now = hailwire::payload::json(std::to_string(std::time(nullptr)));
    if (static_cast<live_server*>(t->data)->publish("clock", now)) std::cerr << "the clock was not told\n";
  };
  uv_timer_start(&clock, tick, 0, 1000);

  for (int i = 0; i < 2; ++i) {
    uv_signal_init(loop, &signals[i]);
    auto stop = [](uv_signal_t* s, int) { static_cast<live_server*>(s->data)->stop(); };
    uv_signal_start(&signals[i], stop, i ? SIGTERM : SIGINT);
  }
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  uv_run(loop, UV_RUN_DEFAULT);
}
