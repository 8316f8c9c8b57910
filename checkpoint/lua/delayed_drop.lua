--[[ delayed_drop: take back an event before its time; its id may be sent again.

Why a script: it is published or taken back, never both.

KEYS[1]  bus:events:{<event>}:delayed  zset  id → due
KEYS[2]  bus:events:{<event>}:delayed:<id>  hash  its fields
KEYS[3]  bus:events:{<event>}:seen:<id>  string
args.now  now, which this script does not need
args.member  the id as it stands in keys

Returns 1, or 0 when there is no such event (any more) ]]
if redis.call('ZREM', KEYS[1], args.member) == 0 then
  return 0
end
redis.call('DEL', KEYS[2], KEYS[3])
return 1
