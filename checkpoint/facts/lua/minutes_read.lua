--[[ minutes_read: what is counted of a function in a span of minutes.

KEYS[1]  bus:fn:{<fn>}:  prefix  minute:<minute> are built from it
args.now  now, ms, or empty for the server's clock
args.first  the first Unix minute
args.last  the last one

Returns {the minute it is now, {minute, its fields} for each of which anything is known} ]]
-- flags: no-writes
-- uses: clock
local found = {}
for minute = tonumber(args.first), tonumber(args.last) do
  local counted = redis.pcall('HGETALL', KEYS[1] .. 'minute:' .. minute)
  if not counted.err and #counted > 0 then
    found[#found + 1] = { minute, counted }
  end
end
return { math.floor(server_now(args.now) / 60000), found }
