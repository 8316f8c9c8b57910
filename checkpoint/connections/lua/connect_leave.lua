--[[ connect_leave: a connection is closed: its worker takes no more calls by it. What it has in hand keeps its lease, for
the worker may go on by another one.

Why a script: what is told of a worker goes with it.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need
args.connection  its connection

Returns 1 ]]
-- flags: allow-oom
redis.call('ZREM', KEYS[1] .. 'workers', args.connection)
redis.call('DEL', KEYS[1] .. 'worker:' .. args.connection)
return 1
