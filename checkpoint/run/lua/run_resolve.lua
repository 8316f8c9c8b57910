--[[ run_resolve: a value for a step comes from outside the turn: an event, a child, a signal.

Why a script: memo and wake-up are one act, or a run could suspend between them and nobody would wake it.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, queue, timers, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  run
ARGV[3]  step id
ARGV[4]  the memo's middle: `"kind":"event"`
ARGV[5]  the memo's end: `"data":…` or `"error":…`

Returns gone, there, or the status the run had: waiting, running or queued ]]
-- uses: clock status index places queue was
local fn, run = KEYS[1], ARGV[2]
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'turn', 'queued', 'holds', 'rank', 'given_up:' .. ARGV[3])
if not h[1] or ENDED[h[1]] then
  return 'gone'
end
local n, now = redis.call('HLEN', fn .. 'steps:' .. run) + 1, server_now(ARGV[1])
local open = fn .. 'open:' .. run
local memo = '{"n":' .. n .. ',' .. ARGV[4] .. was(open, ARGV[3]) .. ',"started":' .. now .. ',"ended":' .. now .. ',' .. ARGV[5] .. '}'
if redis.call('HSETNX', fn .. 'steps:' .. run, ARGV[3], memo) == 0 then
  return 'there'
end
if not h[6] then -- that it was given up is to be known in each replay: its value comes late
  redis.call('HDEL', open, ARGV[3])
end
if h[1] == 'running' then -- its turn has loaded the memos there were: it is told of this one
  redis.call('HSET', key, 'wake', n, 'wake:' .. n, ARGV[3])
end
if #ARGV[5] > 1024 then
  redis.call('HINCRBY', key, 'size', #ARGV[5])
end
if h[1] == 'waiting' then
  redis.call('ZREM', fn .. 'timers', run .. ':' .. h[2])
  redis.call('HSET', key, 'status', 'queued', 'entry', enqueue(fn, run, h[2], 'resolved', h[4], h[5]))
  move(fn, run, 'waiting', 'queued', h[3])
end
return h[1]
