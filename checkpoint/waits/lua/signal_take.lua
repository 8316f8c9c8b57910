--[[ signal_take: a step waits for a signal: take its name, if nobody has it, the step itself, or one that is known to wait
no more.

Why a script: the caller has seen, in another slot, that a holder waits no more; only from that one is the name taken.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
args.now  now, which this script does not need
args.holder  who waits now
args.for_ms  until when, ms from now
args.gone  the holder that waits no more, or empty

Returns empty, or who has the name ]]
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= args.holder and holder ~= args.gone then
  return holder
end
redis.call('SET', KEYS[1], args.holder, 'PX', args.for_ms)
return ''
