--[[ turns_acknowledge: acknowledge entries that have one reader only and delete them, so that the stream holds
only what is due or in hand.

KEYS[1]  bus:fn:{<fn>}:queue or bus:fn:{<fn>}:ends  stream
ARGV[1]  now, which this script does not need
ARGV[2]  group
then the entry ids

Returns how many were pending ]]
-- flags: allow-oom
local done = 0
for from = 3, #ARGV, 1000 do
  local last = math.min(#ARGV, from + 999)
  done = done + redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, from, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, from, last))
end
return done
