--[[ connect_hold: a worker says that it has a call in hand, for the first time or again, by whichever connection.

Why a script: whoever asked may have given it up meanwhile; and one worker has it in hand at a time.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need: leases go by the server's clock
args.call  the call's id
args.connection  the connection that says so
args.for_ms  how long the call is its own from now on, ms

Returns 1, or 0 when nobody waits for its answer any more ]]
-- flags: allow-oom
-- hash h: state connection slug run
-- uses: clock out
local call = KEYS[1] .. 'call:' .. args.call
local h = redis.call('HMGET', call, fields.h)
if h.state ~= 'sent' and h.state ~= 'begun' then
  return 0
end
if h.connection and h.connection ~= args.connection then
  take_out(KEYS[1], args.call, false, h.connection)
end
redis.call('HDEL', call, 'body')
redis.call('HSET', call, 'state', 'begun', 'connection', args.connection, 'ends',
  as_text(server_now('') + args.for_ms))
redis.call('PEXPIRE', call, args.for_ms * 3)
local worker = KEYS[1] .. 'worker:' .. args.connection
if redis.call('EXISTS', worker) == 1 then
  redis.call('HSET', worker, 'call ' .. args.call, h.slug .. ' ' .. h.run)
end
return 1
