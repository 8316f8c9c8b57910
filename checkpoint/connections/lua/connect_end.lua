--[[ connect_end: whoever asked takes the answer of a call, or gives the call up.

Why a script: a call that is given up must leave the line and its worker's hand with it.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need
args.call  the call's id

Returns {state, status, sdk, version, final, after, output} ]]
-- flags: allow-oom
-- hash h: state status sdk version final after output
-- hash was: entry connection
-- uses: out
local call = KEYS[1] .. 'call:' .. args.call
local answer = redis.call('HMGET', call, fields.h)
local was = redis.call('HMGET', call, fields.was)
redis.call('DEL', call)
take_out(KEYS[1], args.call, was.entry, was.connection)
return answer
