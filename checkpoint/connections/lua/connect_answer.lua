--[[ connect_answer: a worker has answered a call, by whichever connection, or afterwards over HTTP.

Why a script: whoever asked may have given it up; and what is answered leaves its worker's hand.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need
args.call  the call's id
args.for_ms  how long the answer is kept for whoever asked, ms
args.status  its status, as one of HTTP
args.sdk  the SDK
args.version  the version of the protocol, or empty
args.final  true when trying again cannot mend it, or empty
args.after  when to try again, or empty
args.output  what it says

Returns the process that asked, or empty when nobody waits for it any more ]]
-- flags: allow-oom
-- hash h: state reply connection entry
-- uses: out
local call = KEYS[1] .. 'call:' .. args.call
local h = redis.call('HMGET', call, fields.h)
if not h.state then
  return ''
end
take_out(KEYS[1], args.call, h.entry, h.connection)
redis.call('HDEL', call, 'body', 'entry', 'ends')
redis.call('HSET', call, 'state', 'answered', 'status', args.status, 'sdk', args.sdk, 'version', args.version,
  'final', args.final, 'after', args.after, 'output', args.output)
redis.call('PEXPIRE', call, args.for_ms)
return h.reply
