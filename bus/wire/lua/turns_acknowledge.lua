--[[ turns_acknowledge: acknowledge entries that have one reader only and delete them, so that the stream holds
only what is due or in hand.

KEYS[1]  bus:fn:{<fn>}:queue or bus:fn:{<fn>}:ends  stream
args.now  now, which this script does not need
args.group  group
then the entry ids

Returns how many were pending ]]
-- flags: allow-oom
-- uses: many
local done = many(ARGV, args.rest, 'XACK', KEYS[1], args.group)
many(ARGV, args.rest, 'XDEL', KEYS[1])
return done
