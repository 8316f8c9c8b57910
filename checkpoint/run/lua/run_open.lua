--[[ run_open: note a step that is not finished: a body that takes long, a failed attempt, a wait.

Why a script: the owner check, the moment (the server's clock) and the write are one act; a wait that is noted already
keeps its first due, so a replay never waits longer.

A step that has its memo is not open any more: what waits for it has come while it was told of.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  run
ARGV[3]  fence
ARGV[4]  turn
ARGV[5]  step id
ARGV[6]  `keep` what is noted already, or `replace` it
ARGV[7]  due: `+<ms from now>`, `<ms since 1970>`, or empty
ARGV[8]  the record's end: `"kind":"sleep"`
ARGV[9]  since when the step is open: `-<ms ago>` or `<ms since 1970>`
ARGV[10]  1 when it waits under a name that lies in another slot: the run's end is to tell of it
ARGV[11]  `given_up`: the author's code has cancelled its task; `again`: it waits on; or empty

Returns {'mine', due, now, since}, {'there', record, now}, {'over'}, {'lost'} or {'absent'} ]]
-- flags: allow-oom
-- uses: clock status fence
local fn, run = KEYS[1], ARGV[2]
local h = redis.call('HMGET', fn .. 'run:' .. run, 'status', 'fence', 'turn')
local word = owner(h[1], h[2], h[3], ARGV[3], ARGV[4])
if word ~= 'mine' then
  return { word }
end
local now, open = server_now(ARGV[1]), fn .. 'open:' .. run
local function moment(given)
  local sign = string.byte(given)
  return (sign == 43 or sign == 45) and now + given or given -- `+` or `-`
end
local since, due, told = moment(ARGV[9]), '', ''
if ARGV[7] ~= '' then
  due = moment(ARGV[7])
  told = ',"due":' .. due
end
if redis.call('HGET', fn .. 'steps:' .. run, ARGV[5]) then
  return { 'mine', due, now, since } -- nothing to write; its value is handed out when the turn would park
end
local record = '{"since":' .. since .. told .. ',' .. ARGV[8] .. '}'
if ARGV[6] == 'replace' then
  redis.call('HSET', open, ARGV[5], record)
elseif redis.call('HSETNX', open, ARGV[5], record) == 0 then
  return { 'there', redis.call('HGET', open, ARGV[5]), now }
end
if ARGV[11] == 'given_up' then
  redis.call('HSET', fn .. 'run:' .. run, 'given_up:' .. ARGV[5], '1')
elseif ARGV[11] == 'again' then
  redis.call('HDEL', fn .. 'run:' .. run, 'given_up:' .. ARGV[5])
end
if ARGV[10] == '1' then
  redis.call('HSET', fn .. 'run:' .. run, 'names', '1')
end
return { 'mine', due, now, since }
