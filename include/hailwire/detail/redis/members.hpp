// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is kept beside the logs: scripts for taking messages back, watermarks and device tokens, and the reading of
// their answers. script.hpp has what they begin with.
//
//   hailwire:{chat}:marks    a hash: of each user a text, a line a device: the device, the epoch, what was received,
//   read, and
//                            read for others to know, and when it was seen (Unix milliseconds)
//   hailwire:{chat}:users    a sorted set of those users, all with the score 0: in the order of their names
//   hailwire:{tokens}:devices  a hash: of each user a text, a line a device: the device, the service, the token, what
//   goes
//                            with it, and when it was named
//   hailwire:{tokens}:owners   a hash: SHA-1 of `SERVICE TOKEN` → the device, a space, and the user who named it last
//
// Words are escaped as in heads, but for users, who stand as they are.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/redis/head.hpp"
#include "hailwire/detail/redis/resp.hpp"
#include "hailwire/detail/redis/script.hpp"
#include "hailwire/storage_members.hpp"

namespace hailwire::detail {

// KEYS: the hash and the Stream. ARGV, from 5 on: the rule, who announces, the verb, the limits, the age if it is the
// channel's own, the offset that is taken back, the head of the message that does it, the epoch that the offset is of.
// Answers `ok`, the epoch and its offset, with a minus where it was taken back before; or `not_found`, `stale`,
// `error`.
inline const redis_script redis_erase_script{redis_prelude, R"lua(
local meta, stream, own, offset, note = KEYS[1], KEYS[2], tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local most, bytes, age = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local c, of = open(meta, stream, ARGV[5])
if not c then return {'stale', of} end
if ARGV[14] ~= c.epoch then return {'not_found'} end
if (c.own > 0 or age > 0) and trim(c, meta, stream, 0, 0, c.own > 0 and c.own or age, true) then
  redis.call('HSET', meta, 'o', id(c.oldest), 'b', id(c.bytes), 'y', id(c.due), 'xn', id(c.erased))
end
if offset < c.oldest or offset > c.head then return {'not_found'} end
local place = 'x' .. id(offset)
local by = redis.call('HGET', meta, place)
if by then return {'ok', c.epoch, -tonumber(string.match(by, '^%d+'))} end
local entry = redis.call('XRANGE', stream, id(offset), id(offset))[1]
if not entry then return {'not_found'} end
local at, from, erases = string.match(entry[2][2], '^([^ ]*) [^ ]* ([^ ]*) [^ ]* [^ ]* ?([^ ]*)')
if erases ~= '' then return {'not_found'} end
local failed = add(c, stream, note, '')
if failed then return {'error', failed} end
redis.call('XDEL', stream, id(offset))
c.bytes = math.max(0, c.bytes - #entry[2][4])
c.erased = c.erased + 1
redis.call('HSET', meta, 'h', id(c.head), 'b', id(c.bytes), place, id(c.head) .. ' ' .. at .. ' j ' .. from .. '  ',
           'xn', id(c.erased), 'a', id(own))
trim(c, meta, stream, most, bytes, age, false)
redis.call('HSET', meta, 'o', id(c.oldest), 'b', id(c.bytes), 'y', id(c.due), 'xn', id(c.erased))
outlive(meta, stream, age)
redis.call(ARGV[7], meta, 'M ' .. ARGV[6] .. ' ' .. c.epoch .. ' ' .. id(c.head) .. ' 1\n' .. #note .. ' 0\n' .. note)
return {'ok', c.epoch, c.head}
)lua"};

// KEYS: the hash, the Stream, the marks, their users. ARGV, from 5 on: the rule, the user, the device, the epoch,
// received, read, public, now, the most devices of a user, for how long an unseen one keeps its place. Answers `ok` and
// the highest levels of the user's devices before and after; or `not_found`, `bad_request`, `conflict`, `stale`.
inline const redis_script redis_mark_script{redis_prelude, R"lua(
local user, device, epoch, now_seen = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[12])
local by = {tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])}
local c, of = open(KEYS[1], KEYS[2], ARGV[5])
if not c then return {'stale', of} end
if epoch ~= c.epoch then return {'not_found'} end
if by[1] > c.head then return {'bad_request'} end
local all, own, oldest, top = {}, nil, nil, {0, 0, 0}
for d, e, a, b, p, seen in string.gmatch(redis.call('HGET', KEYS[3], user) or '', '([^ \n]*) ([^ ]*) (%d+) (%d+) (%d+) (%-?%d+)') do
  local one = {device = d, epoch = e, tonumber(a), tonumber(b), tonumber(p), seen = tonumber(seen)}
  all[#all + 1] = one
  if d == device then own = one end
  if not oldest or one.seen < all[oldest].seen then oldest = #all end
  if e == epoch then
    for i = 1, 3 do top[i] = math.max(top[i], one[i]) end
  end
end
if not own then
  if #all >= tonumber(ARGV[13]) then
    if now_seen - all[oldest].seen <= tonumber(ARGV[14]) then return {'conflict'} end
    table.remove(all, oldest)
  end
  own = {device = device, epoch = epoch, 0, 0, 0, seen = 0}
  all[#all + 1] = own
end
if own.epoch ~= epoch then
  own.epoch, own[1], own[2], own[3], own.seen = epoch, 0, 0, 0, 0
end
own.seen = math.max(own.seen, now_seen)
local answer = {'ok', top[1], top[2], top[3]}
for i = 1, 3 do
  own[i] = math.max(own[i], by[i])
  answer[4 + i] = math.max(top[i], own[i])
end
local lines = {}
for i, one in ipairs(all) do
  lines[i] = one.device .. ' ' .. one.epoch .. ' ' .. id(one[1]) .. ' ' .. id(one[2]) .. ' ' .. id(one[3]) .. ' ' .. id(one.seen)
end
redis.call('HSET', KEYS[3], user, table.concat(lines, '\n'))
redis.call('ZADD', KEYS[4], 0, user)
if ttl > 0 then
  redis.call('PEXPIRE', KEYS[3], 2 * ttl)
  redis.call('PEXPIRE', KEYS[4], 2 * ttl)
end
return answer
)lua"};

// KEYS: the marks, their users. ARGV, from 6 on: the user (none: everybody), the user behind whom it begins, how many
// users. Answers `ok`, 1 if there are more, then each user and the text.
inline const redis_script redis_marks_script{"", R"lua(
local out, names = {'ok', 0}, {ARGV[6]}
if ARGV[6] == '' then
  local most = tonumber(ARGV[8])
  names = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[7] == '' and '-' or '(' .. ARGV[7], '+', 'LIMIT', 0, most + 1)
  if #names > most then
    names[#names] = nil
    out[2] = 1
  end
end
for _, user in ipairs(names) do
  local text = redis.call('HGET', KEYS[1], user)
  if text then
    out[#out + 1] = user
    out[#out + 1] = text
  end
end
return out
)lua"};

inline constexpr std::string_view redis_tokens_prelude = R"lua(
local function load(user)
  local all = {}
  for d, s, t, x, at in string.gmatch(redis.call('HGET', KEYS[1], user) or '', '([^ \n]+) ([^ ]*) ([^ ]*) ([^ ]*) (%-?%d+)') do
    all[#all + 1] = {device = d, service = s, token = t, extra = x, at = tonumber(at)}
  end
  return all
end
local function save(user, all)
  local lines = {}
  for i, one in ipairs(all) do
    lines[i] = one.device .. ' ' .. one.service .. ' ' .. one.token .. ' ' .. one.extra .. ' ' .. string.format('%.0f', one.at)
  end
  if #lines == 0 then
    redis.call('HDEL', KEYS[1], user)
  else
    redis.call('HSET', KEYS[1], user, table.concat(lines, '\n'))
  end
end
local function digest(one) return redis.sha1hex(one.service .. ' ' .. one.token) end
local function find(all, device)
  for i, one in ipairs(all) do
    if one.device == device then return i end
  end
end
)lua";

// KEYS: devices and owners. ARGV, from 6 on: user, device, service, token, what goes with it, now, the most devices,
// for how long an unseen one keeps its place.
inline const redis_script redis_keep_token_script{redis_tokens_prelude, R"lua(
local user = ARGV[6]
local named = {device = ARGV[7], service = ARGV[8], token = ARGV[9], extra = ARGV[10], at = tonumber(ARGV[11])}
local all, mine = load(user), ARGV[7] .. ' ' .. user
local own = find(all, named.device)
if own then
  redis.call('HDEL', KEYS[2], digest(all[own]))
elseif #all >= tonumber(ARGV[12]) then
  local oldest = 1
  for i, one in ipairs(all) do
    if one.at < all[oldest].at then oldest = i end
  end
  if named.at - all[oldest].at <= tonumber(ARGV[13]) then return {'conflict'} end
  redis.call('HDEL', KEYS[2], digest(all[oldest]))
  table.remove(all, oldest)
end
local before = redis.call('HGET', KEYS[2], digest(named))
if before and before ~= mine then
  local device, other = string.match(before, '^([^ ]+) (.*)$')
  local theirs = other == user and all or load(other)
  local at = find(theirs, device)
  if at then table.remove(theirs, at) end
  if other ~= user then save(other, theirs) end
end
own = find(all, named.device)
all[own or #all + 1] = named
save(user, all)
redis.call('HSET', KEYS[2], digest(named), mine)
return {'ok'}
)lua"};

// ARGV, from 6 on: user.
inline const redis_script redis_tokens_script{"", R"lua(
return {'ok', redis.call('HGET', KEYS[1], ARGV[6]) or ''}
)lua"};

// ARGV, from 6 on: user, device, token (none: whichever it is).
inline const redis_script redis_forget_token_script{redis_tokens_prelude, R"lua(
local all = load(ARGV[6])
local own = find(all, ARGV[7])
if own and (ARGV[8] == '' or all[own].token == ARGV[8]) then
  redis.call('HDEL', KEYS[2], digest(all[own]))
  table.remove(all, own)
  save(ARGV[6], all)
end
return {'ok'}
)lua"};

/// What a script says in place of `ok`.
inline std::error_code redis_refusal(redis_reply r) {
  const auto word = r[0].text();
  for (errc e : {errc::not_found, errc::bad_request, errc::conflict})
    if (word == code_name(e)) return e;
  return errc::internal;
}

/// The lines of a text.
template <class F>
void each_redis_line(std::string_view text, F f) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    f(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// Reads the answer to a question for watermarks.
inline watermarks_result read_redis_marks(redis_reply r) {
  if (r[0].text() != "ok") return redis_refusal(r);
  watermarks_result out;
  out.more = r[1].integer() != 0;
  for (std::size_t i = 2; i + 1 < r.size(); i += 2) {
    const auto first = static_cast<std::ptrdiff_t>(out.marks.size());
    each_redis_line(r[i + 1].text(), [&](std::string_view line) {
      redis_words words(line);
      watermark m;
      m.user = r[i].text();
      if (!words.text(m.device)) return;
      m.epoch = words.next();
      if (words.number(m.levels.received) && words.number(m.levels.read) && words.number(m.levels.public_read) &&
          words.number(m.at))
        out.marks.push_back(std::move(m));
    });
    std::sort(out.marks.begin() + first, out.marks.end(),
              [](const watermark& a, const watermark& b) { return a.device < b.device; });
  }
  return out;
}

/// Reads a user's tokens.
inline tokens_result read_redis_tokens(std::string_view user, redis_reply r) {
  if (r[0].text() != "ok") return redis_refusal(r);
  tokens_result out;
  each_redis_line(r[1].text(), [&](std::string_view line) {
    redis_words words(line);
    device_token t;
    t.user = user;
    if (words.text(t.device) && words.text(t.service) && words.text(t.token) && words.text(t.extra) &&
        words.number(t.at))
      out.tokens.push_back(std::move(t));
  });
  std::sort(out.tokens.begin(), out.tokens.end(),
            [](const device_token& a, const device_token& b) { return a.device < b.device; });
  return out;
}

}  // namespace hailwire::detail
