--[[ event_seen: what there is of the events of one name: how many, the newest, and how many waits for them.

Why a script: what the server tells of a stream holds its first and its last entry whole, which may be a mebibyte each.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:waits  zset  waits by equal value
KEYS[3]  bus:events:{<event>}:waits:if  hash  waits by expression
args.now  now, which this script does not need

Returns {entries, the id of the newest or empty, waits} ]]
-- flags: no-writes
-- uses: last_entry
local waits = redis.call('ZCARD', KEYS[2]) + redis.call('HLEN', KEYS[3])
if redis.call('EXISTS', KEYS[1]) == 0 then
  return { 0, '', waits }
end
return { redis.call('XLEN', KEYS[1]), last_entry(KEYS[1]), waits }
