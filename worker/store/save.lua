#!lua
-- Saves one batch in one shard. The rules are those of worker/store/base.py; worker/store/save.py makes the arguments.
--
-- KEYS: head, watermarks, feed, item aggregates, label weights, item ids, titles, vectors, label names, then one a user.
-- ARGV: milliseconds that a user lives (0 = for ever), milliseconds that the marker of an erased user lives,
--       microseconds that the feed is kept, then the number of each of the following:
--       left (partition, offset), watermarks (partition, offset), items (hash, id, title or "", vector or ""),
--       labels (hash, text), and for each user (expected, position, state or "", changes).
--       changes: user key, four counts (uint32), entered and left (8 bytes each), popularity and labels (8 bytes, double).
-- Returns {score of this call in the feed or "", index of each refused user, ...}
--      or {"FELLBACK", partition, stored, left}.
--
-- Hashes stay strings of 8 bytes: a Lua number would lose their bits above 2^53. Offsets stay decimal strings as well.
-- Sums are kept as packed doubles: exact, and half the time of printing and reading them.

local HEAD, MARKS, FEED, AGGREGATES, LABEL_WEIGHTS, LABEL_NAMES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[9]
local BEFORE_CATALOGUE = 5 -- KEYS[6] to KEYS[8] hold an item's id, title and vector
local FIRST_USER = 10
-- Lua cannot unpack more than about 8,000 values at once; even, so that pairs stay together.
local CHUNK = 2000
local USER_KEY = 16

local call, sub, format, pack, unpack_binary = redis.call, string.sub, string.format, struct.pack, struct.unpack
local user_ttl, marker_ttl, retention = ARGV[1], ARGV[2], tonumber(ARGV[3])
local n_left, n_marks, n_items, n_labels = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 8

local function lower(a, b)
  return #a < #b or (#a == #b and a < b)
end

local function read_many(key, fields)
  if #fields <= CHUNK then
    return #fields > 0 and call('HMGET', key, unpack(fields)) or {}
  end
  local out = {}
  for from = 1, #fields, CHUNK do
    for i, value in ipairs(call('HMGET', key, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))) do
      out[from + i - 1] = value
    end
  end
  return out
end

local function write_many(command, key, values)
  for from = 1, #values, CHUNK do
    call(command, key, unpack(values, from, math.min(from + CHUNK - 1, #values)))
  end
end

local LOG2 = math.log(2)
local function log2_add(a, b)
  if a < b then a, b = b, a end
  if b == -math.huge then return a end
  return a + math.log(1 + 2 ^ (b - a)) / LOG2
end

-- 1. Chained watermarks: the only thing that refuses the whole call, before anything is written.
local partitions, offsets = {}, {}
for i = 1, n_left + n_marks do
  partitions[i], offsets[i] = ARGV[at], ARGV[at + 1]
  at = at + 2
end
local marks = read_many(MARKS, partitions)
for i = 1, n_left do
  if not marks[i] or lower(marks[i], offsets[i]) then
    return {'FELLBACK', partitions[i], marks[i] or 'nothing', offsets[i]}
  end
end
local raised = {}
for i = n_left + 1, n_left + n_marks do
  if not marks[i] or lower(marks[i], offsets[i]) then
    raised[#raised + 1] = partitions[i]
    raised[#raised + 1] = offsets[i]
  end
end

-- One score for all that this call changes, above every earlier one of the shard.
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(call('HGET', HEAD, 'last') or '0')
local score = format('%.0f', math.max(last + 1, now))
local entries, n_entries = {}, 0
local function enter(member)
  entries[n_entries + 1] = score
  entries[n_entries + 2] = member
  n_entries = n_entries + 2
end

-- 2. The catalogue: strings are written where they differ; an absent title or vector leaves what is known.
local changed_items = {}
for _ = 1, n_items do
  local item = ARGV[at]
  for field = 1, 3 do
    local key, value = KEYS[BEFORE_CATALOGUE + field], ARGV[at + field]
    if (value ~= '' or field == 1) and call('HGET', key, item) ~= value then
      call('HSET', key, item, value)
      changed_items[item] = true
    end
  end
  at = at + 4
end
for _ = 1, n_labels do
  if call('HGET', LABEL_NAMES, ARGV[at]) ~= ARGV[at + 1] then
    call('HSET', LABEL_NAMES, ARGV[at], ARGV[at + 1])
    enter('l' .. ARGV[at])
  end
  at = at + 2
end

-- 3. Users: compare and set. What accepted writes do to the aggregates is summed here and written once below.
local refused, popularity, holders, label_weights = {''}, {}, {}, {}
for i = FIRST_USER, #KEYS do
  local key, position, state = KEYS[i], ARGV[at + 1], ARGV[at + 2]
  if (call('HGET', key, 'p') or '') ~= ARGV[at] then
    refused[#refused + 1] = i - FIRST_USER
  else
    if state == '' then
      call('DEL', key)
      call('HSET', key, 'p', position)
      call('PEXPIRE', key, marker_ttl)
    else
      call('HSET', key, 'p', position, 's', state)
      if user_ttl == '0' then
        call('PERSIST', key)
      else
        call('PEXPIRE', key, user_ttl)
      end
    end
    local changes = ARGV[at + 3]
    local n_entered, n_gone, n_popularity, n_weights, from = unpack_binary('<I4I4I4I4', changes, USER_KEY + 1)
    enter('u' .. sub(changes, 1, USER_KEY))
    for j = 1, n_entered + n_gone do
      local item = sub(changes, from, from + 7)
      holders[item] = (holders[item] or 0) + (j <= n_entered and 1 or -1)
      from = from + 8
    end
    for _ = 1, n_popularity do
      local item, weight
      item, weight, from = unpack_binary('<c8d', changes, from)
      popularity[item] = log2_add(popularity[item] or -math.huge, weight)
    end
    for _ = 1, n_weights do
      local label, weight
      label, weight, from = unpack_binary('<c8d', changes, from)
      label_weights[label] = (label_weights[label] or 0) + weight
    end
  end
  at = at + 4
end

-- A watermark says that all below it is in this shard: with a user refused that is not known yet. The caller computes
-- those users again and names the same watermarks.
if #refused == 1 then
  write_many('HSET', MARKS, raised)
end

-- 4. Aggregates: item -> (log2 weight, users who have it among their recent items), label -> summed weight.
local items = {}
for item in pairs(popularity) do
  items[#items + 1] = item
end
for item in pairs(holders) do
  if not popularity[item] then items[#items + 1] = item end
end
local known = read_many(AGGREGATES, items)
local kept, gone = {}, {}
for i, item in ipairs(items) do
  local weight, users = -math.huge, 0
  if known[i] then weight, users = unpack_binary('<dd', known[i]) end
  weight = log2_add(weight, popularity[item] or -math.huge)
  users = math.max(users + (holders[item] or 0), 0)
  if users > 0 or weight > -math.huge then
    local value = pack('<dd', weight, users)
    if value ~= known[i] then
      kept[#kept + 1] = item
      kept[#kept + 1] = value
      changed_items[item] = true
    end
  elseif known[i] then
    gone[#gone + 1] = item
    changed_items[item] = true
  end
end
write_many('HSET', AGGREGATES, kept)
write_many('HDEL', AGGREGATES, gone)

local labels = {}
for label in pairs(label_weights) do
  labels[#labels + 1] = label
end
local sums, sums_before = {}, read_many(LABEL_WEIGHTS, labels)
for i, label in ipairs(labels) do
  local before = sums_before[i] and unpack_binary('<d', sums_before[i]) or 0
  sums[2 * i - 1] = label
  sums[2 * i] = pack('<d', before + label_weights[label])
end
write_many('HSET', LABEL_WEIGHTS, sums)

-- 5. The feed.
for item in pairs(changed_items) do
  enter('i' .. item)
end
if n_entries > 0 then
  write_many('ZADD', FEED, entries)
  call('HSET', HEAD, 'last', score)
  -- A reader with a cursor from before the shard began (it was emptied) has lost it.
  if last == 0 then call('HSET', HEAD, 'began', score) end
  -- More than this call added, but bounded: no call pays for an hour at once.
  local cut = math.min(call('ZCOUNT', FEED, '-inf', format('(%.0f', now - retention)), n_entries + 100)
  if cut > 0 then
    call('HSET', HEAD, 'trimmed', call('ZRANGE', FEED, cut - 1, cut - 1, 'WITHSCORES')[2])
    call('ZREMRANGEBYRANK', FEED, 0, cut - 1)
  end
  refused[1] = score
end
return refused
