// SPDX-License-Identifier: BSL-1.0
//
// hailwire in a GLib host (GTK, GStreamer, Qt where it runs on GLib): the main loop watches the server's one descriptor
// and calls `poll()` when there is something to do.

#include <glib-unix.h>
#include <glib.h>

#include <hailwire/hailwire.hpp>

#include <cstdint>
#include <ctime>
#include <iostream>
#include <string>

using live_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

struct host {
  live_server live{hailwire::own_thread};
  GMainLoop* loop = g_main_loop_new(nullptr, false);
};

int main(int count, char** words) {
  host h;
  h.live.authorize(
      [](const hailwire::request&) { return hailwire::grant{.follow = {"clock", "chat-*"}, .publish = {"chat-*"}}; });
  auto port = h.live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);

  auto ready = [](int, GIOCondition, void* of) -> gboolean {
    auto& here = *static_cast<host*>(of);
    if (!here.live.poll()) g_main_loop_quit(here.loop);  // stopped, and everybody is gone
    return G_SOURCE_CONTINUE;
  };
  g_unix_fd_add(h.live.native_handle(), G_IO_IN, ready, &h);

  auto tick = [](void* of) -> gboolean {
    auto now = hailwire::payload::json(std::to_string(std::time(nullptr)));
    if (static_cast<host*>(of)->live.publish("clock", now)) std::cerr << "the clock was not told\n";
    return G_SOURCE_CONTINUE;
  };
  tick(&h);
  g_timeout_add(1000, tick, &h);

  auto stop = [](void* of) -> gboolean {
    static_cast<host*>(of)->live.stop();
    return G_SOURCE_CONTINUE;
  };
  for (int signal : {SIGINT, SIGTERM}) g_unix_signal_add(signal, stop, &h);
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  g_main_loop_run(h.loop);
  g_main_loop_unref(h.loop);
}
