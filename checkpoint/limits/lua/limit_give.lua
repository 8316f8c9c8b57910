--[[ limit_give: give back a run's place of a shared limit.

KEYS[1]  bus:limit:{<limit>}  zset  holder -> end of its lease, server ms
KEYS[2]  bus:limit:{<limit>}:waiting  set  who is to be told
args.now  now, which this script does not need
args.holder  the turn, as `<slug>|<run>|<turn>`

Returns the backlogs that wait, as `<slug>|<limit key>`: each is to be tried ]]
redis.call('ZREM', KEYS[1], args.holder)
local waiting = redis.call('SMEMBERS', KEYS[2])
redis.call('DEL', KEYS[2])
return waiting
