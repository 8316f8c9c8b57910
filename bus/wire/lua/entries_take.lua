--[[ entries_take: read again entries that are pending for me, because their first delivery never arrived.

Why a script: an entry that another worker has claimed since the caller looked must not be read.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
args.now  now, which this script does not need
args.group  group
args.consumer  my consumer
then the entry ids

Returns {entry id, fields} for each that is still mine ]]
local taken = {}
for i = args.rest, #ARGV do
  local row = redis.call('XPENDING', KEYS[1], args.group, ARGV[i], ARGV[i], 1)[1]
  if row and row[2] == args.consumer then
    local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    if entry then
      taken[#taken + 1] = { ARGV[i], entry[2] }
    else
      redis.call('XACK', KEYS[1], args.group, ARGV[i]) -- the stream has dropped it: nothing left to run
    end
  end
end
return taken
