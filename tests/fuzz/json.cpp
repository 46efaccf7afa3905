// SPDX-License-Identifier: BSL-1.0
// The JSON scanner under any bytes: success or an error inside the text, and its functions agree with one another.
#include "hailwire/proto/json.hpp"

#include <cstdlib>

namespace json = hailwire::proto::json;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}

/// A span handed out lies in the text and is one value, as it stands and one level deeper.
void check_value(std::string_view text, const json::value& v) {
  require(v.text.data() >= text.data() && v.text.data() + v.text.size() <= text.data() + text.size());
  json::value again;
  require(!json::read_value(v.text, again) && again.type == v.type && again.text.data() == v.text.data() &&
          again.text.size() == v.text.size());
  auto decoded = json::unescape(v.text);
  if (v.type != json::kind::string) {
    require(!decoded);
  } else if (decoded) {
    require(hailwire::proto::valid_utf8(*decoded));
    std::string quoted;
    json::append_quoted(quoted, *decoded);
    require(!json::validate(quoted) && json::unescape(quoted) == decoded);
  }
  if (auto n = json::to_uint(v, UINT64_MAX)) {
    std::string printed;
    hailwire::proto::append_decimal(printed, *n);
    require(v.text == printed);
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto refused = json::validate(text);
  require(refused.at <= text.size());

  // What ends with a bracket is walked without looking for its end: the same with a byte behind it is not.
  if (size && (text.back() == '}' || text.back() == ']')) {
    auto followed = json::validate(std::string(text) + 'x');
    require(static_cast<bool>(followed));
    require(followed.at >= size || (followed.at == refused.at && followed.what == refused.what));
    if (!refused) require(followed.at == size);
    if (followed.at >= size && refused) require(refused.at == size);
  }

  json::value v;
  hailwire::detail::vector<json::member> members;
  hailwire::detail::vector<json::value> elements;
  auto not_value = json::read_value(text, v), not_object = json::read_object(text, members),
       not_array = json::read_array(text, elements);
  require(!refused == !not_value);
  require(not_object.at <= text.size() && not_array.at <= text.size());
  if (!not_object || !not_array) require(!refused);
  if (refused) require(not_object && not_array);
  require(members.size() <= 4096 && elements.size() <= 4096);
  if (!refused) {
    require(hailwire::proto::valid_utf8(text));
    check_value(text, v);
    // Valid and of the right kind: only its duplicates or its number of members can still be refused.
    if (v.type == json::kind::object)
      require(!not_object || members.size() > 1);
    else
      require(not_object && members.empty());
    if (v.type == json::kind::array)
      require(!not_array || not_array.what == json::too_many_members);
    else
      require(not_array && elements.empty());
    std::string line(text);
    json::spaces_for_line_breaks(line);
    json::value on_line;
    require(line.find_first_of("\r\n") == line.npos && line.size() == text.size() && !json::read_value(line, on_line) &&
            on_line.type == v.type);
  }
  // What was read before an error is as sound as after none.
  for (const auto& m : members) {
    check_value(text, m.content);
    auto name = json::unescape(std::string_view(m.name.data() - 1, m.name.size() + 2));
    if (name) require(json::name_is(m, *name));
  }
  for (const auto& e : elements) check_value(text, e);

  // Any bytes may be asked for.
  json::unescape(text);
  if (hailwire::proto::valid_utf8(text)) {
    std::string quoted;
    json::append_quoted(quoted, text);
    require(json::unescape(quoted) == text);
  }
  return 0;
}
