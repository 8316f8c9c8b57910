--[[ signal_give: a step waits for a signal no more: give its name up, if it still has it.

Why a script: another may have taken the name since.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
ARGV[1]  now, which this script does not need
ARGV[2]  who waits no more

Returns 1 when it had the name ]]
-- flags: allow-oom
return redis.call('GET', KEYS[1]) == ARGV[2] and redis.call('DEL', KEYS[1]) or 0
