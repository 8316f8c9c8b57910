-- places: limits that runs hold or wait for. `holds` are a run's, a line each: `c0:<value>` (concurrency), `t:<value>`
-- (throttle). A run that waits is in the backlog of one of them; `ready` lists the backlogs whose first may be tried,
-- `lines` how many wait in each.
local function ready(fn, hold)
  local first = redis.call('ZRANGE', fn .. 'backlog:' .. hold, 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', fn .. 'ready', first[2], hold)
  else
    redis.call('ZREM', fn .. 'ready', hold)
  end
end

local function leave_line(fn, run, hold)
  if redis.call('ZREM', fn .. 'backlog:' .. hold, run) == 1 then
    if tonumber(redis.call('ZINCRBY', fn .. 'lines', -1, hold)) <= 0 then
      redis.call('ZREM', fn .. 'lines', hold)
    end
  end
end

-- Returns what the run's `entry` is to name.
local function stand_in_line(fn, run, hold, rank)
  if redis.call('ZADD', fn .. 'backlog:' .. hold, rank, run) == 1 then
    redis.call('ZINCRBY', fn .. 'lines', 1, hold)
  end
  return 'backlog|' .. hold
end

local function first_hold(holds)
  return string.match(holds, '[^\n]+') or '-'
end

local function give_back(fn, run, holds)
  for hold in string.gmatch(holds, '[^\n]+') do
    if string.sub(hold, 1, 1) == 'c' and redis.call('ZREM', fn .. 'places:' .. hold, run) == 1 then
      ready(fn, hold)
    end
  end
end
