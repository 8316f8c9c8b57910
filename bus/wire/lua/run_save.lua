--[[ run_save: record a step's memo once, if the caller still owns the run's turn.

Why a script: the owner check and the write must be one act, or a worker that lost its lease between them would
overwrite what its successor has done.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  run
ARGV[3]  fence
ARGV[4]  turn
ARGV[5]  step id
ARGV[6]  the memo's middle: `"kind":"run","attempts":1`
ARGV[7]  how long the body took, ms
ARGV[8]  the memo's end: `"data":…` or `"error":…`
ARGV[9]  1 when the step may be noted as open
ARGV[10]  highest n the caller knows
ARGV[11]  most steps of a run
ARGV[12]  most bytes of memos of a run

Returns {'mine', n, cancel, news}, {'there', memo}, {'full', which}, {'over'}, {'lost'} or {'absent'} ]]
-- flags: allow-oom
-- uses: clock status fence news
local fn, run = KEYS[1], ARGV[2]
local key, steps = fn .. 'run:' .. run, fn .. 'steps:' .. run
local h = redis.call('HMGET', key, 'status', 'fence', 'turn', 'size', 'wake', 'cancel', 'crashes', 'attempt')
local word = owner(h[1], h[2], h[3], ARGV[3], ARGV[4])
if word ~= 'mine' then
  return { word }
end
local n = redis.call('HLEN', steps) + 1 -- memos are never removed, so their number is the next one's place
if n > tonumber(ARGV[11]) then
  return { 'full', 'steps' }
end
-- Only what is big is counted: a thousand results under 1 kB are far from the limit, and the most common ones.
local big = #ARGV[8] > 1024 and #ARGV[8] or 0
if big > 0 and (tonumber(h[4]) or 0) + big > tonumber(ARGV[12]) then
  return { 'full', 'size' }
end
local now = server_now(ARGV[1])
local memo = '{"n":' .. n .. ',' .. ARGV[6] .. ',"started":' .. now - ARGV[7] .. ',"ended":' .. now .. ',' .. ARGV[8] .. '}'
if redis.call('HSETNX', steps, ARGV[5], memo) == 0 then
  return { 'there', redis.call('HGET', steps, ARGV[5]) }
end
if big > 0 then
  redis.call('HINCRBY', key, 'size', big)
end
if (h[7] and h[7] ~= '0') or (h[8] and h[8] ~= '0') then
  redis.call('HSET', key, 'crashes', '0', 'attempt', '0')
end
if ARGV[9] == '1' then
  redis.call('HDEL', fn .. 'open:' .. run, ARGV[5])
end
local found = {}
if h[5] and tonumber(h[5]) > tonumber(ARGV[10]) then
  found = news(fn, run, tonumber(ARGV[10]))
end
return { 'mine', n, h[6] or '', found }
