--[[ limit_renew: renew the places of a shared limit that turns of one worker hold.

A place that has lapsed, or that somebody has deleted, is put back while there is room: its turn is at work.

KEYS[1]  bus:limit:{<limit>}  zset  holder -> end of its lease, server ms
args.now  now, ms, or empty for the server's clock
args.lease  lease, ms
args.most  most holders
args.sure  until when the caller is sure of this clock, ms (fragments/lease.lua)
then the holders, each as `<slug>|<run>|<turn>`

Returns how many have their place ]]
-- flags: allow-oom
-- uses: lease
local now, kept = server_now(args.now), 0
drop_over(KEYS[1], now, tonumber(args.lease), args.sure)
for i = args.rest, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) or redis.call('ZCARD', KEYS[1]) < tonumber(args.most) then
    redis.call('ZADD', KEYS[1], now + args.lease, ARGV[i])
    kept = kept + 1
  end
end
redis.call('PEXPIRE', KEYS[1], args.lease + 7200000)
return kept
