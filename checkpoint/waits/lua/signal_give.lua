--[[ signal_give: a step waits for a signal no more: give its name up, if it still has it.

Why a script: another may have taken the name since.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
args.now  now, which this script does not need
args.holder  who waits no more
args.leaves  none, or what tells the step that sent a signal that it was heard: `|<run>|<mark>`
args.for_ms  for how long, ms

Returns 1 when it had the name ]]
-- flags: allow-oom
if redis.call('GET', KEYS[1]) ~= args.holder then
  return 0
end
if args.leaves then
  redis.call('SET', KEYS[1], args.leaves, 'PX', args.for_ms)
else
  redis.call('DEL', KEYS[1])
end
return 1
