--[[ group_make: make a consumer group that is given what comes from a moment on; one that exists is left alone.

Why a script: the group begins behind the stream's last entry, even where that is before the moment: when the clock is set
back, what comes then is named with earlier times, and would never be given to a group that begins later.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue and others  stream
args.now  now, which this script does not need
args.group  group
args.since  the moment, ms, or 0: all that is there

Returns 1 when it was made ]]
-- flags: allow-oom
-- uses: last_entry
local ms = string.format('%d', args.since - 1)
local last = redis.call('EXISTS', KEYS[1]) == 1 and last_entry(KEYS[1]) or '0-0'
local from = last
if args.since == '0' then
  from = '0'
elseif tonumber(string.match(last, '^%d+')) > tonumber(ms) then
  from = ms .. '-18446744073709551615' -- the first entry of that very ms is given, too
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], args.group, from, 'MKSTREAM')
if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then
  return made
end
return made.err and 0 or 1
