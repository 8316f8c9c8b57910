--[[ run_resolve: store a value for a step that comes from outside the turn (an event, a child, a signal), and wake the run.

Why a script: memo and wake-up are one act, or a run could suspend between them and nobody would wake it.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, queue, timers, runs:<status> are built from it
args.now  now, ms, or empty for the server's clock
args.run  run
args.step  step id
args.middle  the memo's middle: `"kind":"event"`
args.result  the memo's end: `"data":…` or `"error":…`

Returns gone, there, or the status the run had: waiting, running or queued ]]
-- hash h: status turn queued holds rank *given_up
-- uses: clock status index places queue memo
local fn, run = KEYS[1], args.run
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, fields.h, 'given_up:' .. args.step)
if not h.status or ENDED[h.status] then
  return 'gone'
end
local n, now = redis.call('HLEN', fn .. 'steps:' .. run) + 1, server_now(args.now)
local open = fn .. 'open:' .. run
local memo = memo_json(n, args.middle .. ',"turn":' .. (h.turn or 0), was(open, args.step), now, now, args.result)
if redis.call('HSETNX', fn .. 'steps:' .. run, args.step, memo) == 0 then
  return 'there'
end
if not h.given_up then -- each replay must know that it was given up, for its value came after that
  redis.call('HDEL', open, args.step)
end
if h.status == 'running' then -- its turn has loaded the memos there were: it is told of this one
  redis.call('HSET', key, 'wake', n, 'wake:' .. n, args.step)
end
if #args.result > 1024 then
  redis.call('HINCRBY', key, 'size', #args.result)
end
if h.status == 'waiting' then
  redis.call('ZREM', fn .. 'timers', run .. ':' .. h.turn)
  redis.call('HSET', key, 'status', 'queued', 'entry', enqueue(fn, run, h.turn, 'resolved', h.holds, h.rank))
  move(fn, run, 'waiting', 'queued', h.queued)
end
return h.status
