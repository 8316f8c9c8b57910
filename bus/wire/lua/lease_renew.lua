--[[ lease_renew: renew a consumer's lease in this slot, so that its pending entries stay its own.

Why a script: renewing never creates. A lease that another worker has found ended is gone, and with it all entries in
hand there, or a zombie would revive itself. One that has ended and nobody has looked at goes on: what it stands for is
nobody else's. So a server that was away, or whose clock was set forth, costs no lease.

KEYS[1]  bus:events:{<event>}:workers or bus:fn:{<fn>}:workers  zset  consumer -> end of lease
args.now  now, ms, or empty for the server's clock
args.consumer  consumer
args.lease  lease, ms
args.begins  1 to begin a lease, 0 to renew it

Returns now, or 0 when the lease is lost ]]
-- flags: allow-oom
-- uses: clock
local now = server_now(args.now)
if args.begins == '0' and not redis.call('ZSCORE', KEYS[1], args.consumer) then
  return 0
end
redis.call('ZADD', KEYS[1], now + args.lease, args.consumer)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 86400000)
redis.call('PEXPIRE', KEYS[1], 86400000 + args.lease)
return now
