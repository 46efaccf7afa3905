// SPDX-License-Identifier: BSL-1.0
// The WebSocket machine on any bytes. The first byte chooses the role (bit 0), the limits (bits 1 and 2) and where to
// split.

#include <cstddef>
#include <cstdint>

#include "ws_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ws_fuzz;
  if (size == 0) return 0;
  ws_limits limits;
  if (data[0] & 2) limits.message = 16;
  if (data[0] & 4) limits.empty_fragments = 2;
  auto role = data[0] & 1 ? ws_role::client : ws_role::server;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::size_t choice = data[0];
  for (std::size_t i = 1; i < size && i < 9; ++i) choice = choice * 31 + data[i];
  compare(bytes, limits, choice, [&](auto&& use) {
    ws_connection machine(role, limits);
    use(machine, nullptr);
  });
  return 0;
}
