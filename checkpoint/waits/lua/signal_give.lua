--[[ signal_give: a step waits for a signal no more: give its name up, if it still has it.

Why a script: another may have taken the name since.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
ARGV[1]  now, which this script does not need
ARGV[2]  who waits no more
ARGV[3]  none, or what tells the step that sent a signal that it was heard: `|<run>|<mark>`
ARGV[4]  for how long, ms

Returns 1 when it had the name ]]
-- flags: allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return 0
end
if ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
else
  redis.call('DEL', KEYS[1])
end
return 1
