--[[ signal_take: a step waits for a signal: take its name, if nobody has it, the step itself, or one that is known to wait
no more.

Why a script: the caller has seen, in another slot, that a holder waits no more, or may lose the name; only from that one it is taken.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
KEYS[2]  bus:signal:{<name>}:lost:<waiter>  string  there when the holder that loses the name waits on without it
args.now  now, which this script does not need
args.holder  who waits now
args.for_ms  until when, ms from now
args.gone  the holder that loses the name, or empty

Returns empty, or who has the name ]]
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= args.holder and holder ~= args.gone then
  return holder
end
if KEYS[2] and holder == args.gone then
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 then
    redis.call('SET', KEYS[2], '1', 'PX', left)
  end
end
redis.call('SET', KEYS[1], args.holder, 'PX', args.for_ms)
return ''
