--[[ error_state: an error is resolved, muted or open again.

Why a script: one that has been forgotten meanwhile is not made anew.

KEYS[1]  bus:fn:{<fn>}:  prefix  errors is built from it
args.now  now, which this script does not need
args.mark  which error
args.state  open, resolved or muted
args.until  until when it is muted, ms; 0: for good

Returns 1, or 0 when it is not known ]]
local errors, mark = KEYS[1] .. 'errors', args.mark
if not redis.call('HGET', errors, mark) then
  return 0
end
redis.call('HSET', errors, mark .. ' state', args.state, mark .. ' until', args.until)
redis.call('HDEL', errors, mark .. ' regressed')
return 1
