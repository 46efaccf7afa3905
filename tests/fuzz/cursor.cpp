// SPDX-License-Identifier: BSL-1.0
// Cursors under any bytes: what is read prints the same again. The first byte says for how many channels.
#include <cstdlib>

#include "hailwire/message.hpp"

using namespace hailwire;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::size_t channels = data[0] % 40;
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  auto read = parse_cursor(text, channels);
  if (!read) {
    require(read.error().code == errc::bad_request && !read.error().message.empty());
    return 0;
  }
  require(read->size() == channels && text.size() <= max_cursor_size);
  std::string printed;
  for (const start& s : *read) {
    if (!printed.empty()) printed += ',';
    switch (s.from) {
      case start::word::latest:
        printed += "latest";
        break;
      case start::word::earliest:
        printed += "earliest";
        break;
      case start::word::received:
        printed += "received";
        break;
      case start::word::at:
        require(valid_epoch(s.at.epoch) && s.at.offset <= max_offset);
        append_position(printed, s.at.epoch, s.at.offset);
    }
  }
  // A single word stands for all channels; everything else is written in one way only.
  require(printed == text || (text.find_first_of(".,") == text.npos && channels != 1));
  if (channels == 0) return 0;
  auto again = parse_cursor(printed, channels);
  require(bool(again));
  for (std::size_t i = 0; i < channels; ++i)
    require((*again)[i].from == (*read)[i].from && (*again)[i].at == (*read)[i].at);
  return 0;
}
