--[[ wait_add: a run waits for an event of this name.

Why a script: the wait is there from the very entry on that is the last one now: what came up to it the caller looks up
itself, what comes behind it the group that hands events to waits brings. Adding again changes nothing.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:waits  zset  waits by equal value
KEYS[3]  bus:events:{<event>}:waits:if  hash  waits by expression
args.now  now, which this script does not need
args.group  the group: @waits
args.word  the wait's word
args.expression  its expression as JSON, or empty: it waits by equal value
args.most  most waits by expression

Returns {'armed', the wait as it is stored}, or {'full'} ]]
-- uses: last_entry
local word, expression = args.word, args.expression
local there
if expression == '' then
  there = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. word .. '|', '(' .. word .. '}', 'LIMIT', 0, 1)[1]
else
  there = redis.call('HGET', KEYS[3], word)
end
if there then
  return { 'armed', there }
end
if expression ~= '' and redis.call('HLEN', KEYS[3]) >= tonumber(args.most) then
  return { 'full' }
end
redis.pcall('XGROUP', 'CREATE', KEYS[1], args.group, '$', 'MKSTREAM')
local last = last_entry(KEYS[1])
local stored
if expression == '' then
  stored = word .. '|' .. last
  redis.call('ZADD', KEYS[2], 0, stored)
else
  stored = '{"if":' .. expression .. ',"behind":"' .. last .. '"}'
  redis.call('HSET', KEYS[3], word, stored)
end
return { 'armed', stored }
