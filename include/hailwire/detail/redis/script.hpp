// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a channel lies in Redis, and the scripts that write and read it. Other programs may use both; what is said here
// stays as it is within a version of the layout (`redis_layout`).
//
// Layout. The keys of a channel share a hash tag: `hailwire:{chat}` in which `{`, `}` and `%` of the name are `%7B`,
// `%7D` and `%25`. `hailwire` is the prefix, which may be another one.
//
// `hailwire:{chat}:log`, a Stream. The message with offset 42 has the ID 42-0 and two fields: `h`, its head, and `d`,
// the bytes of its payload. A head is words with one space between: Unix milliseconds, the kind (`j` JSON, `t` text,
// `b` bytes), the sender, the type, the media type. Bytes up to the space, `%` and DEL are `%XX` in each; an empty word
// is empty, as is a media type that the kind implies. Four more words may follow: the offset that it takes back (else
// empty), and its content's name, size and type. Words behind those are passed over.
//
// `hailwire:{chat}`, a hash:
// - `h` the newest offset, `o` the oldest one, `e` the epoch, `i` the identity of the server under which it was last
//   written, `b` the payload bytes that are kept, `y` when ages are looked at next, `a` the age in milliseconds that
//   messages are kept for where it is the channel's own;
// - of each idempotency key `kNAME` = `offset expiry fingerprint`; and `qN` = NAME, the keys in the order of their
//   expiry, from `qf` up to below `qt`;
// - of a message that was taken back `xN` = the offset of the one that did it, and its head; `xn` = how many there are.
//
// `hailwire:secret`: a random text that is made where it is missing, so that a database that was emptied gives other
// epochs. In a cluster each slot has one of its own, `hailwire:secret:{N}` with the least number N that is in the slot;
// it is named behind all other ARGV, not among KEYS, so that a slot on its way has one key less to be asked for at
// once.
//
// A hash that is missing where a Stream is there (it was evicted) makes a new life of the channel: the Stream goes.
//
// Announcements are messages of Pub/Sub whose channel is the name of the hash (`hailwire:{chat}`): a line of words
// `M ORIGIN EPOCH FIRST COUNT`, then for each of the messages from FIRST on a line `SIZE SIZE`, its head and its
// payload. With COUNT 0 the messages up to FIRST are to be read from the Stream: they are large.
//
// Identity. `run_id:master_replid` of the server (INFO), as read on the connection that runs the script. Where a
// channel was last written under another one, what was acknowledged may have been lost, and the channel gets a new
// epoch; unless its slot was moved here from a master that still has what it had (a cluster: see `redis_log`).
//
// A script checks everything before its first write, and runs XADD before it moves the head: one that fails half-way
// keeps its writes, and a Stream that is ahead of its head is taken for what it is by the next append.

#include <string>
#include <string_view>

#include "hailwire/proto/ws_handshake.hpp"

namespace hailwire::detail {

inline constexpr int redis_layout = 1;

// What both scripts begin with. KEYS: the hash and the Stream of each channel, then, not in a cluster, the secret.
// ARGV: 1 identity, 2 a random text of 36 letters, 3 now in Unix milliseconds, 4 for how long a channel that nobody
// writes to is kept (milliseconds, 0: for ever).
inline constexpr std::string_view redis_prelude = R"lua(
local identity, seed, now, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local channels = math.floor(#KEYS / 2)
-- The secret of the log. That of a slot that is on its way may be at another server: then there is none for now.
local function secret()
  local key = #KEYS % 2 == 1 and KEYS[#KEYS] or ARGV[#ARGV]
  local there = redis.pcall('GET', key)
  if type(there) == 'string' then return there end
  if type(there) == 'table' and there.err then return '' end
  redis.pcall('SET', key, seed)
  return seed
end
local function id(n) return string.format('%.0f', n) end
local function offset_of(entry) return tonumber(string.match(entry[1], '^%d+')) end
local function time()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function words(e) return type(e) == 'table' and e.err or tostring(e) end

-- A channel as its hash has it; or nil and the identity under which it was written, when the caller has to find out first
-- what that means. rule: '*' it means a new epoch; '?' say so; '=ID' of ID it means nothing; '!ID' of ID a new epoch.
local function open(meta, stream, rule)
  local m = redis.call('HMGET', meta, 'h', 'e', 'i', 'o', 'b', 'y', 'qf', 'qt', 'xn', 'a')
  local c = {head = tonumber(m[1] or 0), epoch = m[2], oldest = tonumber(m[4] or 1), bytes = tonumber(m[5] or 0),
             due = tonumber(m[6] or 0), first = tonumber(m[7] or 0), next = tonumber(m[8] or 0), erased = tonumber(m[9] or 0),
             own = tonumber(m[10] or 0)}
  local function fresh() return string.sub(redis.sha1hex(seed .. meta), 1, 20) end
  if not m[1] then
    if redis.call('EXISTS', stream) == 1 then
      redis.call('DEL', stream)
      c.epoch = fresh()
      redis.call('HSET', meta, 'h', 0, 'o', 1, 'e', c.epoch, 'i', identity)
    else
      local era = ttl > 0 and math.floor(time() / ttl) or 0
      c.epoch = string.sub(redis.sha1hex(secret() .. identity .. ' ' .. era .. ' ' .. meta), 1, 20)
      c.new = true
    end
    return c
  end
  if m[3] ~= identity then
    local kind, of = string.sub(rule, 1, 1), string.sub(rule, 2)
    if kind == '?' or (kind ~= '*' and of ~= m[3]) then return nil, m[3] end
    if kind ~= '=' then c.epoch = fresh() end
    redis.call('HSET', meta, 'e', c.epoch, 'i', identity)
  end
  if c.oldest <= c.head and c.erased == 0 and redis.call('XLEN', stream) == 0 then  -- it has expired, or was evicted
    c.oldest, c.bytes = c.head + 1, 0
  end
  return c
end

-- Drops what is over the limits from the oldest end. True: the hash has to be told.
local function trim(c, meta, stream, most, bytes, age, reading)
  local before = c.oldest
  local function walk(to, goes_on)
    while c.oldest < to do
      local part = redis.call('XRANGE', stream, id(c.oldest), id(to - 1), 'COUNT', 64)
      if #part == 0 then
        c.oldest = to
        return
      end
      for _, entry in ipairs(part) do
        if not goes_on(entry) then return end
        c.bytes = math.max(0, c.bytes - #entry[2][4])
        c.oldest = offset_of(entry) + 1
      end
    end
  end
  if most > 0 and c.head - c.oldest + 1 > most + math.min(math.floor(most / 8), 64) then
    local to = c.head - most + 1
    if bytes > 0 then
      walk(to, function() return true end)
    else
      c.oldest = to
    end
  end
  if bytes > 0 and c.bytes > bytes + bytes / 8 then
    walk(c.head, function() return c.bytes > bytes end)
  end
  if age > 0 and c.oldest <= c.head and (reading or now >= c.due) then
    walk(c.head + 1, function(entry) return tonumber(string.match(entry[2][2], '^%-?%d+')) < now - age end)
    c.due = now + math.floor(age / 16)
  end
  if c.oldest == before then return false end
  if c.erased > 0 then
    for n = before, c.oldest - 1 do c.erased = c.erased - redis.call('HDEL', meta, 'x' .. id(n)) end
  end
  redis.call('XTRIM', stream, 'MINID', id(c.oldest))
  return true
end

-- Appends one entry to the Stream, not yet to the hash. An error, or nil.
local function add(c, stream, head, data)
  local r = redis.pcall('XADD', stream, id(c.head + 1), 'h', head, 'd', data)
  if type(r) == 'table' and r.err and string.find(r.err, 'equal or smaller', 1, true) then
    -- A script before this one has stored, and not come so far as to say so.
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
    c.head = last[1] and offset_of(last[1]) or tonumber(string.match(redis.call('XINFO', 'STREAM', stream)[8], '^%d+'))
    r = redis.pcall('XADD', stream, id(c.head + 1), 'h', head, 'd', data)
  end
  if type(r) == 'table' and r.err then return r.err end
  c.head = c.head + 1
  c.bytes = c.bytes + #data
end

-- Everything lives for as long as somebody writes; the hash outlives the Stream and the keys: it knows the next offset.
local function outlive(meta, stream, age)
  if ttl == 0 then return end
  local most = math.max(ttl, 10 * age)
  redis.call('PEXPIRE', meta, most)
  if age > 0 then redis.call('PEXPIRE', stream, math.min(most, age + 60000)) end
end
)lua";

// Appends. ARGV, from 5 on: who announces, the verb (`PUBLISH`, `SPUBLISH` in a cluster), for how long keys are kept
// (milliseconds), how many a channel may have, the largest payload bytes that are announced in full; then for each
// channel its rule, the limits (messages, payload bytes, age in milliseconds; 0: none), the age again if it is the
// channel's own (else 0), how many drafts; then of each draft its key, the payload's fingerprint (with a key), its
// head, its payload.
//
// Answers for each channel a list: `ok`, the epoch, then for each draft its offset, the offset with a minus where its
// key was known, 0 where the key is another payload's, or a text: why it was not stored (`keys`: too many keys). Or
// `stale` and the identity that the channel was written under; or `error` and Redis's words: nothing was stored.
inline constexpr std::string_view redis_append_body = R"lua(
local origin, publish, lifetime, most_keys, most_told = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local function append(meta, stream, rule, most, bytes, age, own, from, to)
  local c, of = open(meta, stream, rule)
  if not c then return {'stale', of} end
  local known, names, stamp, set, del = {}, {}, 0, {}, {}
  for i = from, to, 4 do
    if ARGV[i] ~= '' then names[#names + 1] = 'k' .. ARGV[i] end
  end
  if #names > 0 then
    stamp = time()
    for i, value in ipairs(redis.call('HMGET', meta, unpack(names))) do
      if value then
        local offset, till, print = string.match(value, '^(%d+) (%d+) (.*)$')
        if tonumber(till) > stamp then known[names[i]] = {tonumber(offset), print} end
      end
    end
    for _ = 1, 2 * #names + 2 do  -- keys whose time is over, the oldest first
      if c.first >= c.next then break end
      local place = 'q' .. id(c.first)
      local name = redis.call('HGET', meta, place)
      local value = name and redis.call('HGET', meta, 'k' .. name)
      if value then
        if tonumber(string.match(value, '^%d+ (%d+)')) > stamp then break end
        del[#del + 1] = 'k' .. name
      end
      del[#del + 1] = place
      c.first = c.first + 1
    end
  end
  local out, told, size, first = {'ok', c.epoch}, {}, 0, nil
  local failed
  if #del > 0 then redis.call('HDEL', meta, unpack(del)) end
  for i = from, to, 4 do
    local name, print, head, data = 'k' .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local there = ARGV[i] ~= '' and known[name]
    if failed then
      out[#out + 1] = failed
    elseif there then
      out[#out + 1] = there[2] == print and -there[1] or 0
    elseif ARGV[i] ~= '' and c.next - c.first >= most_keys then
      out[#out + 1] = 'keys'
    else
      failed = add(c, stream, head, data)
      if failed then
        out[#out + 1] = failed
      else
        size = size + #data
        first = first or c.head
        out[#out + 1] = c.head
        told[#told + 1] = #head .. ' ' .. #data .. '\n' .. head .. data
        if ARGV[i] ~= '' then
          known[name] = {c.head, print}
          set[#set + 1] = name
          set[#set + 1] = id(c.head) .. ' ' .. id(stamp + lifetime) .. ' ' .. print
          set[#set + 1] = 'q' .. id(c.next)
          set[#set + 1] = ARGV[i]
          c.next = c.next + 1
        end
      end
    end
  end
  if not first then return out end
  if own ~= c.own then
    set[#set + 1] = 'a'
    set[#set + 1] = id(own)
  end
  if c.new then
    set[#set + 1] = 'e'
    set[#set + 1] = c.epoch
    set[#set + 1] = 'i'
    set[#set + 1] = identity
  end
  redis.call('HSET', meta, 'h', id(c.head), 'o', id(c.oldest), 'b', id(c.bytes), unpack(set))
  if #names > 0 then redis.call('HSET', meta, 'qf', id(c.first), 'qt', id(c.next)) end
  if trim(c, meta, stream, most, bytes, age, false) or age > 0 then
    redis.call('HSET', meta, 'o', id(c.oldest), 'b', id(c.bytes), 'y', id(c.due), 'xn', id(c.erased))
  end
  outlive(meta, stream, age)
  if size > most_told or c.head - first + 1 ~= #told then
    redis.call(publish, meta, 'M ' .. origin .. ' ' .. c.epoch .. ' ' .. id(c.head) .. ' 0\n')
  else
    redis.call(publish, meta, 'M ' .. origin .. ' ' .. c.epoch .. ' ' .. id(first) .. ' ' .. #told .. '\n' .. table.concat(told))
  end
  return out
end

local answers, at = {}, 10
for k = 1, channels do
  local count = tonumber(ARGV[at + 5])
  local ok, r = pcall(append, KEYS[2 * k - 1], KEYS[2 * k], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
                      tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), at + 6, at + 5 + 4 * count)
  answers[k] = ok and r or {'error', words(r)}
  at = at + 6 + 4 * count
end
return answers
)lua";

// Reads. ARGV, from 5 on: for each channel its rule, its age limit (milliseconds; 0: none), how many reads; then of
// each read the offset behind which it begins (below 0: from the head on, -1 is the newest message), the most messages,
// the most payload bytes.
//
// Answers for each channel a list: `ok`, the epoch, the oldest offset, the head, then for each read a list of the
// offset, the head and the payload of each message (no payload: it was taken back). Or `stale`, or `error`, as above.
inline constexpr std::string_view redis_read_body = R"lua(
local function page(c, meta, stream, since, most, bytes)
  if since < 0 then since = c.head + since end
  local out, size, count, from = {}, 0, 0, math.max(since + 1, c.oldest)
  local function put(n, head, data)
    out[#out + 1] = n
    out[#out + 1] = head
    out[#out + 1] = data
    count = count + 1
  end
  local function fill(to)  -- places whose messages were taken back
    while from < to and count < most do
      local head = redis.call('HGET', meta, 'x' .. id(from))
      if head then put(from, (string.gsub(head, '^%d+ ', '')), false) end
      from = from + 1
    end
  end
  while count < most and from <= c.head do
    local part = redis.call('XRANGE', stream, id(from), id(c.head), 'COUNT', math.min(64, most - count))
    for _, entry in ipairs(part) do
      local n, data = offset_of(entry), entry[2][4]
      if c.erased > 0 then fill(n) end
      if count == most or (count > 0 and size + #data > bytes) then return out end
      size = size + #data
      put(n, entry[2][2], data)
      from = n + 1
    end
    if #part == 0 then
      if c.erased > 0 then fill(c.head + 1) end
      break
    end
  end
  return out
end

local function read(meta, stream, rule, age, from, to)
  local c, of = open(meta, stream, rule)
  if not c then return {'stale', of} end
  if c.own > 0 then age = c.own end
  if age > 0 and trim(c, meta, stream, 0, 0, age, true) then
    redis.call('HSET', meta, 'o', id(c.oldest), 'b', id(c.bytes), 'y', id(c.due), 'xn', id(c.erased))
  end
  local out = {'ok', c.epoch, c.oldest, c.head}
  for i = from, to, 3 do
    out[#out + 1] = page(c, meta, stream, tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  end
  return out
end

local answers, at = {}, 5
for k = 1, channels do
  local count = tonumber(ARGV[at + 2])
  local ok, r = pcall(read, KEYS[2 * k - 1], KEYS[2 * k], ARGV[at], tonumber(ARGV[at + 1]), at + 3, at + 2 + 3 * count)
  answers[k] = ok and r or {'error', words(r)}
  at = at + 3 + 3 * count
end
return answers
)lua";

/// SHA-1 in hexadecimal digits, by which EVALSHA names a script.
inline std::string redis_digest(std::string_view text) {
  std::string out;
  for (const unsigned char byte : proto::sha1(text)) {
    constexpr char digits[] = "0123456789abcdef";
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

/// A script as it is sent, and the name that Redis gives it.
struct redis_script {
  redis_script(std::string_view before, std::string_view body)
      : text(std::string(before) + std::string(body)), digest(redis_digest(text)) {}
  std::string text, digest;
};
inline const redis_script redis_append_script{redis_prelude, redis_append_body};
inline const redis_script redis_read_script{redis_prelude, redis_read_body};

}  // namespace hailwire::detail
