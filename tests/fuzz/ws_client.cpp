// SPDX-License-Identifier: BSL-1.0
// A hostile WebSocket server from its first byte: the client's handshake and what follows it, with and without
// permessage-deflate. However the bytes are cut the client says the same, a refusal keeps a bound, and nothing is said
// behind an end. The first byte chooses the limits, what is offered, and whether the input stands behind an answer that
// opens the connection, whose key no mutation could guess.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/client_deflate.hpp"
#include "splits.hpp"

using namespace hailwire::proto;

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

constexpr std::array<unsigned char, 16> nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

std::string run(std::string_view bytes, const ws_limits& limits, const ws_codec_offer* offer,
                const std::vector<std::size_t>& ends) {
  ws_client client(limits, offer);
  std::string request, said;
  client.open(request, "/live", "h", nonce, "hailwire.v1, other");
  bool opened = false, over = false;
  std::size_t from = 0;
  for (auto end : ends) {
    std::vector<char> exact(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                            bytes.begin() + static_cast<std::ptrdiff_t>(end));
    from = end;
    std::span<char> in(exact);
    for (;;) {
      using type = ws_client::event::type;
      const auto e = client.next(in);
      if (e.what == type::none) break;
      require(!over);
      require(opened == (e.what != type::opened && e.what != type::refused));
      switch (e.what) {
        case type::opened:
          require(e.data.empty() || e.data == "hailwire.v1" || e.data == "other");
          require(!client.compressed() || offer);
          opened = true;
          break;
        case type::refused:
          require(client.response().body.size() <= (std::size_t{64} << 10));
          over = true;
          break;
        case type::text:
          require(valid_utf8(e.data));
          [[fallthrough]];
        case type::binary:
          require(e.data.size() <= limits.message);
          break;
        case type::close:
          require(valid_utf8(e.data) && e.data.size() <= 123);
          over = true;
          break;
        case type::failed:
          require(e.code == 1002 || e.code == 1007 || e.code == 1008 || e.code == 1009);
          over = true;
          break;
        default:
          require(e.data.size() <= 125);
      }
      said += static_cast<char>('a' + static_cast<int>(e.what));
      said += std::to_string(e.code) + ':' + std::to_string(e.data.size()) + ':';
      said += e.data;
    }
    require(in.empty());
  }
  // The end of the connection is an answer's end, or no answer at all.
  const auto last = client.end();
  require(last.what == ws_client::event::type::none ||
          (last.what == ws_client::event::type::refused && !opened && !over));
  if (last.what != ws_client::event::type::none) said += "end";
  return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  ws_limits limits;
  limits.message = data[0] & 1 ? 40 : std::size_t{1} << 18;
  const ws_codec_offer* offer = data[0] & 2 ? &hailwire::client_compression<> : nullptr;
  std::string bytes;
  if (data[0] & 4)
    append_switching_protocols(bytes, handshake_key(nonce), data[0] & 8 ? "hailwire.v1" : "",
                               offer ? "permessage-deflate; server_no_context_takeover" : "");
  bytes.append(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = run(bytes, limits, offer, {bytes.size()});
  cut_everywhere(bytes,
                 [&](const std::vector<std::size_t>& ends) { require(run(bytes, limits, offer, ends) == whole); });
  return 0;
}
