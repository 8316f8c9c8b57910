--[[ run_park: a run waits without holding a worker.

Why a script: turn, status and timer change together, or not at all because a value has come since the caller looked.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, timers, places:<key>, ready, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  run
ARGV[3]  fence
ARGV[4]  turn
ARGV[5]  highest n the caller knows
ARGV[6]  due: `+<ms from now>` or `<ms since 1970>`
ARGV[7]  attempt of the code between steps, or empty
ARGV[8]  its error as JSON, or empty

Returns {'mine', ms until due}, {'wake', news}, {'cancel', why}, {'over'}, {'lost'} or {'absent'} ]]
-- flags: allow-oom
-- uses: clock status fence index news places
local fn, run = KEYS[1], ARGV[2]
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'fence', 'turn', 'wake', 'queued', 'cancel', 'expires', 'holds')
local word = owner(h[1], h[2], h[3], ARGV[3], ARGV[4])
if word ~= 'mine' then
  return { word }
end
if h[6] then
  return { 'cancel', h[6] }
end
local known, wake = tonumber(ARGV[5]), tonumber(h[4] or 0)
if wake > known and ARGV[7] == '' then
  return { 'wake', news(fn, run, known, wake) }
end
local now, turn = server_now(ARGV[1]), h[3] + 1
local due = string.sub(ARGV[6], 1, 1) == '+' and now + tonumber(ARGV[6]) or tonumber(ARGV[6])
if h[7] then -- a run that may not take longer is looked at again then
  due = math.min(due, tonumber(h[7]))
end
redis.call('HSET', key, 'status', 'waiting', 'turn', turn, 'entry', '')
if ARGV[7] ~= '' then
  redis.call('HSET', key, 'attempt', ARGV[7], 'error', ARGV[8])
end
redis.call('ZADD', fn .. 'timers', due, run .. ':' .. turn)
if h[8] then
  give_back(fn, run, h[8])
  tell_ready(fn)
end
move(fn, run, 'running', 'waiting', h[5])
return { 'mine', math.max(0, due - now) }
