// SPDX-License-Identifier: BSL-1.0
// Commands under any bytes: a checked command or a clear refusal, and the answer to either is JSON.
#include "hailwire/proto/command.hpp"

#include <cstdlib>

using namespace hailwire;
using namespace hailwire::proto;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto id = command_id(text);
  auto c = read_command(text);
  std::string reply;
  if (!c) {
    require(c.error().code == errc::bad_request || c.error().code == errc::too_large);
    require(!c.error().message.empty() && valid_utf8(c.error().message));
    append_reply_error(reply, id, c.error());
    require(!json::validate(reply));
    reply.clear();
    append_problem(reply, c.error());
    require(!json::validate(reply));
    return 0;
  }
  using verb = command::verb;
  require(!json::validate(text) && !json::validate(c->body));
  require(c->id == id && id.size() <= max_command_id && (id.empty() || !json::validate(id)));
  append_reply_ok(reply, c->id, c->body);
  require(!json::validate(reply));

  bool names_channel =
      c->what != verb::renew && c->what != verb::device && c->what != verb::ping && c->what != verb::other;
  require(names_channel ? valid_channel(c->channel) : c->channel.empty());
  require((c->what == verb::publish) == (c->has_data || c->has_bytes) && !(c->has_data && c->has_bytes));
  if (c->has_data) require(!json::validate(c->data));
  require(c->type.size() <= 64 && printable_utf8(c->type) && c->key.size() <= 64 && c->key.find(' ') == c->key.npos);
  if (c->since) require(bool(parse_cursor(*c->since, 1)));
  require(!(c->before && c->after));
  require(c->before.value_or(0) <= max_offset && c->after.value_or(0) <= max_offset &&
          c->offset.value_or(0) <= max_offset);
  if (c->limit) require(*c->limit >= 1 && *c->limit <= max_history);
  if (c->epoch) require(valid_epoch(*c->epoch));
  require((c->what == verb::received || c->what == verb::read) == c->offset.has_value());
  if (c->has_bytes) {
    std::string base64;
    append_base64(base64, c->bytes);
    require(decode_base64(base64) == c->bytes);
  }
  return 0;
}
