--[[ run_suspend: suspend a run: it waits without holding a worker.

Why a script: turn, status and timer change together, or not at all because a value has come since the caller looked.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, attempts:<run>, timers, places:<key>, ready, runs:<status> are built from it
args.now  now, ms, or empty for the server's clock
args.run  run
args.fence  fence
args.turn  turn
args.known  highest n the caller knows
args.due  due: `+<ms from now>` or `<ms since 1970>`
args.attempt  attempt of the code between steps, or empty
args.error  its error as JSON, or empty
args.failed  that attempt (fragment `attempts`), or empty

Returns {'mine', ms until due}, {'wake', news}, {'cancel', why}, {'over'}, {'lost'} or {'absent'} ]]
-- hash h: status fence turn wake queued cancel expires holds
-- flags: allow-oom
-- uses: clock status fence index news places attempts
local fn, run = KEYS[1], args.run
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, fields.h)
local word = owner(h.status, h.fence, h.turn, args.fence, args.turn)
if word ~= 'mine' then
  return { word }
end
if h.cancel then
  return { 'cancel', h.cancel }
end
local known, wake = tonumber(args.known), tonumber(h.wake or 0)
if wake > known and args.attempt == '' then
  return { 'wake', news(fn, run, known, wake) }
end
local now, turn = server_now(args.now), h.turn + 1
local due = string.sub(args.due, 1, 1) == '+' and now + tonumber(args.due) or tonumber(args.due)
if h.expires then -- a run that may not take longer is looked at again then
  due = math.min(due, tonumber(h.expires))
end
redis.call('HSET', key, 'status', 'waiting', 'turn', turn, 'entry', '')
if args.attempt ~= '' then
  redis.call('HSET', key, 'attempt', args.attempt, 'error', args.error, 'again', turn)
  note_attempt(fn, run, now, args.failed)
end
redis.call('ZADD', fn .. 'timers', due, run .. ':' .. turn)
if h.holds then
  give_back(fn, run, h.holds)
  tell_ready(fn)
end
move(fn, run, 'running', 'waiting', h.queued)
return { 'mine', math.max(0, due - now) }
