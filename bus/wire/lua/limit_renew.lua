--[[ limit_renew: keep the places that turns of one worker hold of a limit that several functions share.

A place that has lapsed, or that somebody has deleted, is put back while there is room: its turn is at work.

KEYS[1]  bus:limit:{<limit>}  zset  holder -> end of its lease, server ms
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  lease, ms
ARGV[3]  most holders
ARGV[4]  until when the caller is sure of this clock, ms (fragments/lease.lua)
then the holders, each as `<slug>|<run>|<turn>`

Returns how many have their place ]]
-- flags: allow-oom
-- uses: lease
local now, kept = server_now(ARGV[1]), 0
drop_over(KEYS[1], now, tonumber(ARGV[2]), ARGV[4])
for i = 5, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[i])
    kept = kept + 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2] + 7200000)
return kept
