--[[ entries_release: release entries, so that any worker may claim them at once.

Why a script: XCLAIM does not check the owner, and only the caller's own entries may be released. @released never has a lease.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
args.now  now, which this script does not need
args.group  group
args.consumer  my consumer
then the entry ids

Returns how many were given back ]]
-- flags: allow-oom
local given = 0
for i = args.rest, #ARGV do
  local row = redis.call('XPENDING', KEYS[1], args.group, ARGV[i], ARGV[i], 1)[1]
  if row and row[2] == args.consumer then
    given = given + #redis.call('XCLAIM', KEYS[1], args.group, '@released', 0, ARGV[i], 'JUSTID')
  end
end
return given
