--[[ runs_dispatch: give the best waiting runs their places, and deliver them to the caller.

Why a script: the place, the queue entry and its delivery are one act: no crash leaves a place with a run that nobody has.
A run that is new is started in the same act.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, ready, full, backlog:<key>, places:<key>, rate:<key> are built from it
args.now  now, ms, or empty for the server's clock
args.group  group
args.consumer  my consumer
args.most  most runs
args.gap  throttle: ms between two
args.more  throttle: how many more at once
args.first  most runs that hold a place of the first concurrency, or empty: no limit
args.second  the same of the second
args.over  limits that are set otherwise until a time (fragments/overrides.lua), or empty
then a fence for each run that may be started here; none: they are only read

Returns {how many got their places, what was read: {entry id, fields} for each, ms until a throttle lets the next go or -1,
what was started: {entry id, run, fence, event, queued ms, source, turn} for each, now} ]]
-- hash h: status entry turn holds started event source queued passed rerun_of
-- uses: clock places gcra facts overrides
local fn, now, most = KEYS[1], server_now(args.now), tonumber(args.most)
local gap, more, soonest = tonumber(args.gap), tonumber(args.more), -1
local limits, over = { c0 = args.first, c1 = args.second }, overrides(args.over, now)
local at, started, index, begun = as_text(now), {}, {}, {}

-- Returns the first of a run's limit keys of which no place is to be had now.
local function refused(run, holds, before)
  for _, limit_key in ipairs(holds) do
    if string.sub(limit_key, 1, 1) == 't' then
      local each, others = pace_of(over, limit_key, gap, more)
      local wait = each > 0 and not before and must_wait(fn .. 'rate:' .. limit_key, now, each, others)
      if wait then
        redis.call('ZADD', fn .. 'timers', now + wait, 'limit|' .. limit_key)
        soonest = soonest < 0 and wait or math.min(soonest, wait)
        return limit_key
      end
    else
      local limit, places = most_of(over, limit_key, limits[string.sub(limit_key, 1, 2)]), fn .. 'places:' .. limit_key
      if limit and redis.call('ZCARD', places) >= limit and not redis.call('ZSCORE', places, run) then
        return limit_key
      end
    end
  end
end

local function take(run, holds, before)
  for _, limit_key in ipairs(holds) do
    if string.sub(limit_key, 1, 1) == 'c' then
      redis.call('ZADD', fn .. 'places:' .. limit_key, at, run)
    elseif gap > 0 and not before then
      went(fn .. 'rate:' .. limit_key, now, (pace_of(over, limit_key, gap, more)))
    end
  end
end

local function queued(run, key, h)
  local fence = ARGV[args.rest + #started]
  local id
  if fence then
    id = redis.call('XADD', fn .. 'queue', '*', 'run', run, 'turn', h.turn, 'why', 'place')
  else -- limits that are shared with others are still to be asked
    id = redis.call('XADD', fn .. 'queue', '*', 'run', run, 'turn', h.turn, 'why', 'place', 'holds', h.holds)
  end
  if fence and not h.started and not h.rerun_of then -- one that is run again may have memos: start loads them
    redis.call('HSET', key, 'entry', 'queue|' .. id, 'status', 'running', 'fence', fence, 'worker', args.consumer, 'started', at)
    started[#started + 1] = { id, run, fence, h.event, h.queued, h.source, h.turn }
    index[#index + 1] = h.queued
    index[#index + 1] = run
    begun[#begun + 1] = run
    count_run('started', now, h.turn == '1' and h.queued) -- one of a time to come has not waited since it was queued
  else
    redis.call('HSET', key, 'entry', 'queue|' .. id)
  end
end

-- Returns whether the first of a line got its place.
local function tried(limit_key)
  local line = redis.call('ZRANGE', fn .. 'backlog:' .. limit_key, 0, 1, 'WITHSCORES')
  local run = line[1]
  if not run then
    leave_line(fn, '', limit_key)
    return false
  end
  local key = fn .. 'run:' .. run
  local h = redis.call('HMGET', key, fields.h)
  if h.status ~= 'queued' or h.entry ~= 'backlog|' .. limit_key then
    leave_line(fn, run, limit_key, line[3], line[4])
    return false
  end
  local before, holds = h.started or h.passed, {}
  for one in string.gmatch(h.holds, '[^\n]+') do
    if string.byte(one) ~= 115 then -- s…: it has that name already
      holds[#holds + 1] = one
    end
  end
  local full = refused(run, holds, before)
  if full then
    if full ~= limit_key then
      leave_line(fn, run, limit_key, line[3], line[4])
      redis.call('ZADD', fn .. 'backlog:' .. full, line[2], run)
      redis.call('HSET', key, 'entry', 'backlog|' .. full)
    end
    not_ready(full) -- until a place is given back, or its time has come
    redis.call('ZADD', fn .. 'full', now, full)
    return false
  end
  take(run, holds, before)
  leave_line(fn, run, limit_key, line[3], line[4])
  queued(run, key, h)
  return true
end

local taken, looked = 0, 0
while taken < most and looked < 3 * most + 10 do
  -- One of each line in a round: that is fair, and the lines' order is that of their first.
  local limit_keys = redis.call('ZRANGE', fn .. 'ready', 0, most - taken - 1)
  if #limit_keys == 0 then
    break
  end
  for _, limit_key in ipairs(limit_keys) do
    looked = looked + 1
    taken = taken + (tried(limit_key) and 1 or 0)
  end
  tell_ready(fn)
end
tell_facts(fn, now)
many(index, 1, 'ZADD', fn .. 'runs:running')
many(begun, 1, 'ZREM', fn .. 'runs:queued')
if taken == 0 then
  return { 0, {}, soonest, {}, now }
end
-- What else is due in the queue comes along: it is older.
local read = redis.call('XREADGROUP', 'GROUP', args.group, args.consumer, 'COUNT', taken + 20, 'STREAMS', fn .. 'queue', '>')
return { taken, read and read[1][2] or {}, soonest, started, now }
