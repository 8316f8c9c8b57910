--[[ signal_take: a step waits for a signal: take its name, if nobody has it, the step itself, or one that is known to wait
no more.

Why a script: the caller has seen, in another slot, that a holder waits no more; only from that one is the name taken.

KEYS[1]  bus:signal:{<name>}  string  who waits, as `<slug>|<run>|<fence>|<step>`
ARGV[1]  now, which this script does not need
ARGV[2]  who waits now
ARGV[3]  until when, ms from now
ARGV[4]  the holder that waits no more, or empty

Returns empty, or who has the name ]]
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] and holder ~= ARGV[4] then
  return holder
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ''
