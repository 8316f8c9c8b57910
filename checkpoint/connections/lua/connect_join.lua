--[[ connect_join: a worker of an application is connected, or still is: its lease begins anew.

Why a script: what is told of a worker expires with its lease.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need: leases go by the server's clock
args.connection  its connection
args.for_ms  its lease, ms
args.gateway  who holds the connection
args.instance  what the worker calls itself
args.sdk  its SDK
args.version  what the application says its version is, or empty
args.capacity  most calls that it has in hand at a time
args.since  when it connected, Unix ms
args.takes  1, or 0 when it takes no more calls

Returns 1 ]]
-- flags: allow-oom
-- uses: clock
local worker = KEYS[1] .. 'worker:' .. args.connection
redis.call('HSET', worker, 'gateway', args.gateway, 'instance', args.instance, 'sdk', args.sdk, 'version', args.version,
  'capacity', args.capacity, 'since', args.since, 'takes', args.takes)
redis.call('PEXPIRE', worker, args.for_ms)
if args.takes == '1' then
  redis.call('ZADD', KEYS[1] .. 'workers', as_text(server_now('') + args.for_ms), args.connection)
  redis.call('PEXPIRE', KEYS[1] .. 'workers', args.for_ms)
else
  redis.call('ZREM', KEYS[1] .. 'workers', args.connection)
end
return 1
