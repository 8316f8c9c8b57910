--[[ consumer_leave: a worker goes: end its lease in this slot and remove its consumer, if nothing is pending for it.

Why a script: removing a consumer drops its pending entries, so it is removed only when it has none.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
KEYS[2]  its slot's workers  zset  consumer -> end of lease
ARGV[1]  now, which this script does not need
ARGV[2]  group
ARGV[3]  consumer

Returns 1 when the consumer was removed ]]
-- flags: allow-oom
redis.call('ZREM', KEYS[2], ARGV[3])
if #redis.call('XPENDING', KEYS[1], ARGV[2], '-', '+', 1, ARGV[3]) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], ARGV[3])
return 1
