--[[ limit_take: a run wants a place of a limit that several functions share.

Why a lease: the run is in another slot, so its place cannot go with it in one act; a dead worker's ends by itself.

KEYS[1]  bus:limit:{<limit>}  zset  holder -> end of its lease, server ms; the key goes with the last of them
KEYS[2]  bus:limit:{<limit>}:waiting  set  who is to be told when a place is given back
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  the turn, as `<slug>|<run>|<turn>`
ARGV[3]  lease, ms
ARGV[4]  most holders
ARGV[5]  the line it waits in when there is no place, as `<slug>|<hold>`
ARGV[6]  until when the caller is sure of this clock, ms (fragments/lease.lua)

Returns 1 when it has a place, else 0 ]]
-- uses: lease
local now = server_now(ARGV[1])
drop_over(KEYS[1], now, tonumber(ARGV[3]), ARGV[6])
if redis.call('ZSCORE', KEYS[1], ARGV[2]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3] + 7200000) -- longer: what expires goes at once when the clock is set forth
  return 1
end
redis.call('SADD', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[2], math.max(60000, ARGV[3])) -- who still waits then asks again, each second
return 0
