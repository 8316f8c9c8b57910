--[[ consumer_leave: a worker stops: end its lease in this slot and remove its consumer, if nothing is pending for it.

Why a script: removing a consumer drops its pending entries, so it is removed only when it has none.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
KEYS[2]  its slot's workers  zset  consumer -> end of lease
args.now  now, which this script does not need
args.group  group
args.consumer  consumer

Returns 1 when the consumer was removed ]]
-- flags: allow-oom
redis.call('ZREM', KEYS[2], args.consumer)
if #redis.call('XPENDING', KEYS[1], args.group, '-', '+', 1, args.consumer) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], args.group, args.consumer)
return 1
