-- places: limits that runs hold or wait for. `holds` are a run's limit keys, a line each: `c0:<value>` (concurrency),
-- `t:<value>` (throttle), `s:<value>` (the name of a singleton, which it has until it ends). A run that waits is in the
-- backlog of one of them. `ready` lists the backlogs whose first run may be tried, `full` those whose first was refused; one
-- too many in either costs a look. What a script finds out is collected and written to `ready` at its end: by tell_ready,
-- which returns whether somebody may have a place now.
-- uses: many
local exact, lower, gone = {}, {}, {}

local function stand_in_line(fn, run, limit_key, rank)
  redis.call('ZADD', fn .. 'backlog:' .. limit_key, rank, run)
  lower[#lower + 1] = rank
  lower[#lower + 1] = limit_key
  return 'backlog|' .. limit_key -- what the run's `entry` is to name
end

-- There is nothing to try in a backlog: nobody waits, or the first was refused.
local function not_ready(limit_key)
  gone[#gone + 1] = limit_key
end

-- The run was the first of its line; `next` is who comes then, and its rank, if any.
local function leave_line(fn, run, limit_key, next, rank)
  redis.call('ZREM', fn .. 'backlog:' .. limit_key, run)
  if next then
    exact[#exact + 1] = rank
    exact[#exact + 1] = limit_key
  else
    not_ready(limit_key)
  end
end

local function ready(fn, limit_key)
  local first = redis.call('ZRANGE', fn .. 'backlog:' .. limit_key, 0, 0, 'WITHSCORES')
  if first[1] then
    exact[#exact + 1] = first[2]
    exact[#exact + 1] = limit_key
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

local function first_limit_key(holds)
  local first = string.match(holds, '[^\n]+')
  return first and string.byte(first) ~= 115 and first or '-' -- s…
end

local function give_back(fn, run, holds)
  for limit_key in string.gmatch(holds, '[^\n]+') do
    if string.byte(limit_key) == 99 and redis.call('ZREM', fn .. 'places:' .. limit_key, run) == 1 then -- c…
      ready(fn, limit_key)
    end
  end
end
