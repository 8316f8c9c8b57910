--[[ connect_put_back: a worker has not acknowledged a call, so it waits for another one. It has begun nowhere.

Why a script: it may acknowledge it in this moment, on another connection.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need
args.call  the call's id
args.for_ms  how long the call stands unless whoever asked looks after it, ms

Returns 1 when it waits again ]]
-- flags: allow-oom
-- hash h: state slug run
-- uses: again
local call = KEYS[1] .. 'call:' .. args.call
local h = redis.call('HMGET', call, fields.h)
if h.state ~= 'sent' then
  return 0
end
wait_again(KEYS[1], args.call, h.slug, h.run, args.for_ms)
return 1
