--[[ connect_tell: let the process that asked know that a call is answered.

Why a script: a stream that got an entry and not its expiry would stay for ever.

KEYS[1]  bus:connect-answers:{<process>}  stream
args.now  now, which this script does not need
args.call  the call's id
args.most  most entries that are kept
args.kept  how long they are kept after the last one, ms

Returns the entry's id ]]
-- flags: allow-oom
local entry = redis.call('XADD', KEYS[1], 'MAXLEN', '~', args.most, '*', 'call', args.call)
redis.call('PEXPIRE', KEYS[1], args.kept)
return entry
