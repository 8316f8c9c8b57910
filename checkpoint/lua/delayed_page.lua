--[[ delayed_page: events of a name that are to be published later, from behind one of them on.

Why a script: where it stood is found among others that are due at the same ms, also when it is gone.

KEYS[1]  bus:events:{<event>}:delayed  zset  id → due
args.now  now, which this script does not need
args.due  when the one before was due, ms
args.member  its id, as it stands in keys
args.limit  how many at most

Returns ids and when each is due, the next first ]]
-- flags: no-writes
local function is_behind(one, other)  -- byte by byte, as the server sorts: Lua's own comparison asks the locale
  for i = 1, math.min(#one, #other) do
    local here, there = string.byte(one, i), string.byte(other, i)
    if here ~= there then
      return here > there
    end
  end
  return #one > #other
end
local below = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. args.due)
local above = below + redis.call('ZCOUNT', KEYS[1], args.due, args.due)
while below < above do
  local middle = math.floor((below + above) / 2)
  if is_behind(redis.call('ZRANGE', KEYS[1], middle, middle)[1], args.member) then
    above = middle
  else
    below = middle + 1
  end
end
return redis.call('ZRANGE', KEYS[1], below, below + args.limit - 1, 'WITHSCORES')
