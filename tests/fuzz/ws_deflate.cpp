// SPDX-License-Identifier: BSL-1.0
// The WebSocket machine with an inflater on any bytes, in the client's role, where no mask hides what a mutation does
// to the stream. The first byte chooses the limit, whether the context is kept, and the window's size.

#include <cstddef>
#include <cstdint>

#include "hailwire/proto/deflate.hpp"
#include "ws_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ws_fuzz;
  if (size == 0) return 0;
  ws_limits limits;
  limits.message = data[0] & 1 ? 40 : std::size_t{1} << 18;
  if (data[0] & 2) limits.empty_fragments = 2;
  deflate_params agreed;
  agreed.server_no_context_takeover = data[0] & 4;
  // A window that is kept and smaller than 15 is zlib's to police, which it does only where a call ends: there the cut
  // matters to a peer that broke its promise, so these runs are only held against the other rules.
  bool small = (data[0] & 12) == 8;
  if (small) agreed.server_max_window_bits = 9;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto machine = [&](auto&& use) {
    zlib_inflater inflater(agreed, ws_role::client);
    ws_connection connection(ws_role::client, limits);
    use(connection, &inflater);
  };
  if (small) {
    record out;
    machine([&](ws_connection& c, ws_inflater* inflater) { feed(c, inflater, limits, bytes, out); });
    return 0;
  }
  std::size_t choice = data[0];
  for (std::size_t i = 1; i < size && i < 9; ++i) choice = choice * 31 + data[i];
  compare(bytes, limits, choice, machine);
  return 0;
}
