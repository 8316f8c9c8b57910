--[[ waits_end: nobody waits for an event any more: the group that hands events to waits goes, or it would hold them back.

Why a script: a wait that is added in between makes the group again, or finds it (wait_add).

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:waits  zset  waits by equal value
KEYS[3]  bus:events:{<event>}:waits:if  hash  waits by expression
args.now  now, ms, or empty for the server's clock
args.group  the group: @waits
args.most  most waits to look at

Returns 1 when the group has gone, 0 when there are waits ]]
-- uses: clock
local now = server_now(args.now)
local function is_over(word)
  local deadline = string.match(word, '|(%d+)$') or string.match(word, '|(%d+)|%d+%-%d+$')
  return not deadline or tonumber(deadline) < now
end
for _, word in ipairs(redis.call('ZRANGE', KEYS[2], 0, args.most)) do
  if is_over(word) then
    redis.call('ZREM', KEYS[2], word)
  end
end
for _, word in ipairs(redis.call('HKEYS', KEYS[3])) do
  if is_over(word) then
    redis.call('HDEL', KEYS[3], word)
  end
end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return 0
end
local gone = redis.pcall('XGROUP', 'DESTROY', KEYS[1], args.group)
return type(gone) == 'table' and 0 or gone
