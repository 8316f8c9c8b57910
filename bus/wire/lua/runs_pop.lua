--[[ runs_pop: take the best of the runs that wait for a place, give them their places, and read them as one's own.

Why a script: the place, the queue entry and its delivery are one act: no crash leaves a place with a run that nobody has.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, ready, lines, backlog:<key>, places:<key>, rate:<key> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  group
ARGV[3]  my consumer
ARGV[4]  most runs
ARGV[5]  throttle: ms between two
ARGV[6]  throttle: how many more at once
ARGV[7]  most runs that hold a place of the first concurrency, or empty: no limit
ARGV[8]  the same of the second

Returns {how many got their places, what was read: {entry id, fields} for each, ms until a throttle lets the next go or -1} ]]
-- uses: clock places gcra
local fn, now, most = KEYS[1], server_now(ARGV[1]), tonumber(ARGV[4])
local gap, more, soonest = tonumber(ARGV[5]), tonumber(ARGV[6]), -1

-- Returns the first of a run's holds that is not to be had now.
local function refused(run, holds, started)
  for hold in string.gmatch(holds, '[^\n]+') do
    if string.sub(hold, 1, 1) == 't' then
      local wait = gap > 0 and not started and must_wait(fn .. 'rate:' .. hold, now, gap, more)
      if wait then
        redis.call('ZADD', fn .. 'timers', now + wait, 'limit|' .. hold)
        soonest = soonest < 0 and wait or math.min(soonest, wait)
        return hold
      end
    else
      local limit, places = tonumber(ARGV[7 + string.sub(hold, 2, 2)]), fn .. 'places:' .. hold
      if limit and redis.call('ZCARD', places) >= limit and not redis.call('ZSCORE', places, run) then
        return hold
      end
    end
  end
end

local function take(run, holds, started)
  for hold in string.gmatch(holds, '[^\n]+') do
    if string.sub(hold, 1, 1) == 'c' then
      redis.call('ZADD', fn .. 'places:' .. hold, now, run)
    elseif gap > 0 and not started then
      went(fn .. 'rate:' .. hold, now, gap)
    end
  end
end

local taken, looked = 0, 0
while taken < most and looked < 3 * most + 10 do
  looked = looked + 1
  local hold = redis.call('ZRANGE', fn .. 'ready', 0, 0)[1]
  if not hold then
    break
  end
  local first = redis.call('ZRANGE', fn .. 'backlog:' .. hold, 0, 0, 'WITHSCORES')
  local run = first[1]
  local key = run and fn .. 'run:' .. run
  local h = run and redis.call('HMGET', key, 'status', 'entry', 'turn', 'holds', 'started')
  if not run then
    redis.call('ZREM', fn .. 'ready', hold)
  elseif h[1] ~= 'queued' or h[2] ~= 'backlog|' .. hold then
    leave_line(fn, run, hold)
    ready(fn, hold)
  else
    local full = refused(run, h[4], h[5])
    if full then
      if full ~= hold then
        leave_line(fn, run, hold)
        ready(fn, hold)
        redis.call('HSET', key, 'entry', stand_in_line(fn, run, full, first[2]))
      end
      redis.call('ZREM', fn .. 'ready', full) -- until a place is given back, or its time has come
    else
      take(run, h[4], h[5])
      leave_line(fn, run, hold)
      ready(fn, hold)
      local id = redis.call('XADD', fn .. 'queue', '*', 'run', run, 'turn', h[3], 'why', 'place')
      redis.call('HSET', key, 'entry', 'queue|' .. id)
      taken = taken + 1
    end
  end
end
if taken == 0 then
  return { 0, {}, soonest }
end
-- What else is due in the queue comes along: it is older.
local read = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', taken + 20, 'STREAMS', fn .. 'queue', '>')
return { taken, read and read[1][2] or {}, soonest }
