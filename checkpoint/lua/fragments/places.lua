-- places: limits that runs hold or wait for. `holds` are a run's, a line each: `c0:<value>` (concurrency), `t:<value>`
-- (throttle), `s:<value>` (the name of a singleton, which it has until it ends). A run that waits is in the backlog of one of them. `ready` lists the backlogs whose first may be tried,
-- `full` those whose first was refused; one too many in either costs a look. A script tells `ready` of all lines at once, at
-- its end: tell_ready, which returns whether somebody may have a place now.
-- uses: many
local exact, lower, gone = {}, {}, {}

local function stand_in_line(fn, run, hold, rank)
  redis.call('ZADD', fn .. 'backlog:' .. hold, rank, run)
  lower[#lower + 1] = rank
  lower[#lower + 1] = hold
  return 'backlog|' .. hold -- what the run's `entry` is to name
end

-- The run was the first of its line; `next` is who comes then, and its rank, if any.
local function leave_line(fn, run, hold, next, rank)
  redis.call('ZREM', fn .. 'backlog:' .. hold, run)
  if next then
    exact[#exact + 1] = rank
    exact[#exact + 1] = hold
  else
    gone[#gone + 1] = hold
  end
end

local function ready(fn, hold)
  local first = redis.call('ZRANGE', fn .. 'backlog:' .. hold, 0, 0, 'WITHSCORES')
  if first[1] then
    exact[#exact + 1] = first[2]
    exact[#exact + 1] = hold
  end
end

local function tell_ready(fn)
  local any = #exact > 0 or #lower > 0
  many(exact, 1, 'ZADD', fn .. 'ready')
  many(gone, 1, 'ZREM', fn .. 'ready')
  many(lower, 1, 'ZADD', fn .. 'ready', 'LT')
  exact, lower, gone = {}, {}, {}
  return any
end

local function first_hold(holds)
  local first = string.match(holds, '[^\n]+')
  return first and string.byte(first) ~= 115 and first or '-' -- s…
end

local function give_back(fn, run, holds)
  for hold in string.gmatch(holds, '[^\n]+') do
    if string.byte(hold) == 99 and redis.call('ZREM', fn .. 'places:' .. hold, run) == 1 then -- c…
      ready(fn, hold)
    end
  end
end
