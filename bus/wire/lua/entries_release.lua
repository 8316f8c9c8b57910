--[[ entries_release: give entries back, for any worker to claim at once.

Why a script: XCLAIM has no owner check, and only the caller's own may be given away. @released never has a lease.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
ARGV[1]  now, which this script does not need
ARGV[2]  group
ARGV[3]  my consumer
then the entry ids

Returns how many were given back ]]
-- flags: allow-oom
local given = 0
for i = 4, #ARGV do
  local row = redis.call('XPENDING', KEYS[1], ARGV[2], ARGV[i], ARGV[i], 1)[1]
  if row and row[2] == ARGV[3] then
    given = given + #redis.call('XCLAIM', KEYS[1], ARGV[2], '@released', 0, ARGV[i], 'JUSTID')
  end
end
return given
