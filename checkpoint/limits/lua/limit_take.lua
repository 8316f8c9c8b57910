--[[ limit_take: take a place of a shared limit for a run.

Why a lease: the run is in another slot, so its place cannot go with it in one act; a dead worker's ends by itself.

KEYS[1]  bus:limit:{<limit>}  zset  holder -> end of its lease, server ms; the key goes with the last of them
KEYS[2]  bus:limit:{<limit>}:waiting  set  who is to be told when a place is given back
args.now  now, ms, or empty for the server's clock
args.holder  the turn, as `<slug>|<run>|<turn>`
args.lease  lease, ms
args.most  most holders
args.waits  the backlog it waits in when there is no place, as `<slug>|<limit key>`
args.sure  until when the caller is sure of this clock, ms (fragments/lease.lua)
args.limit_key  the limit, as the function counts it
args.over  limits that are set otherwise until a time (fragments/overrides.lua), or empty

Returns 1 when it has a place, else 0 ]]
-- uses: lease overrides
local now = server_now(args.now)
local most = most_of(overrides(args.over, now), args.limit_key, args.most)
drop_over(KEYS[1], now, tonumber(args.lease), args.sure)
if redis.call('ZSCORE', KEYS[1], args.holder) or redis.call('ZCARD', KEYS[1]) < most then
  redis.call('ZADD', KEYS[1], now + args.lease, args.holder)
  redis.call('PEXPIRE', KEYS[1], args.lease + 7200000) -- longer: what expires goes at once when the clock is set forth
  return 1
end
redis.call('SADD', KEYS[2], args.waits)
redis.call('PEXPIRE', KEYS[2], math.max(60000, args.lease)) -- who still waits then asks again, each second
return 0
