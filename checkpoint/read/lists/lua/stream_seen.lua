--[[ stream_seen: what there is in a stream: how many entries, the oldest, the newest, and how many steps wait for one.

Why a script: what the server tells of a stream holds its first and its last entry whole, which may be a mebibyte each.

KEYS[1]  bus:events:{<event>}  stream  or bus:fn:{<slug>}:queue, without the others
KEYS[2]  bus:events:{<event>}:waits  zset  waits by equal value
KEYS[3]  bus:events:{<event>}:waits:if  hash  waits by expression
args.now  now, which this script does not need

Returns {entries, the ids of the oldest and of the newest or empty, waits} ]]
-- flags: no-writes
-- uses: last_entry
local waits = KEYS[2] and redis.call('ZCARD', KEYS[2]) + redis.call('HLEN', KEYS[3]) or 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  return { 0, '', '', waits }
end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { redis.call('XLEN', KEYS[1]), oldest and oldest[1] or '', last_entry(KEYS[1]), waits }
