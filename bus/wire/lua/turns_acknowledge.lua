--[[ turns_acknowledge: acknowledge entries that have one reader only and delete them, so that the stream holds
only what is due or in hand.

KEYS[1]  bus:fn:{<fn>}:queue or bus:fn:{<fn>}:ends  stream
ARGV[1]  now, which this script does not need
ARGV[2]  group
then the entry ids

Returns how many were pending ]]
-- flags: allow-oom
-- uses: many
local done = many(ARGV, 3, 'XACK', KEYS[1], ARGV[2])
many(ARGV, 3, 'XDEL', KEYS[1])
return done
