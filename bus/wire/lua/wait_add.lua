--[[ wait_add: a run waits for an event of this name.

Why a script: the group that hands events to waits is made, and its position read, in the act that adds the wait: what
came before the position the caller looks up itself, what comes after finds the wait. Adding again changes nothing.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:waits  zset  waits by equal value
KEYS[3]  bus:events:{<event>}:waits:if  hash  waits by expression
ARGV[1]  now, which this script does not need
ARGV[2]  the group: @waits
ARGV[3]  the wait's word
ARGV[4]  its expression as JSON, or empty: it waits by equal value
ARGV[5]  most waits by expression

Returns {'armed', the group's position}, or {'full'} ]]
if ARGV[4] == '' then
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
elseif redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[3], ARGV[3]) == 0 then
  return { 'full' }
else
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
end
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[2], '$', 'MKSTREAM')
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local row = {}
  for i = 1, #group, 2 do
    row[group[i]] = group[i + 1]
  end
  if row['name'] == ARGV[2] then
    return { 'armed', row['last-delivered-id'] }
  end
end
return { 'armed', '0-0' }
