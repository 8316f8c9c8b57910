--[[ run_start: entries were delivered to a worker; which of their runs may have their code run, and from where.

Why a script: the decision and the new fence must be one act, or two workers that hold entries of one run would both
run it. No user code runs before its answer. docs/state-machine.md has the table.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, ends, cancels, places:<key>, ready and others are built
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  the function's code version
ARGV[3]  how long an ended run is kept, ms
ARGV[4]  how many suspects (2 crashes or more) this worker may start now
ARGV[5]  crashes that end a run
ARGV[6]  statuses that someone hears of
ARGV[7]  how long after it was queued a run may start, ms, or 0
ARGV[8]  how long after it has started a run may take, ms, or 0
then for each entry thirteen: run, entry's turn, entry, consumer it was claimed from or empty, my consumer, fence,
event JSON or empty, source, queued ms, parent (`<slug>|<run>|<step>`) or empty, not before (ms) or 0, its words in the
index of what cancels it (a line each), the run it runs again or empty

Returns for each entry {word}, or {'go', turn, now} for a new run, or {'go', turn, now, attempt, crashes, wake, event,
memos (or how many: then they are to be loaded), open, must end by (ms, or 0)} for one that has begun before, or
{'error', why} ]]
-- uses: clock status index each cancels places finish tell begin crash
local fn, now = KEYS[1], server_now(ARGV[1])
local at = as_text(now)
local code, keep, suspects, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local start_within, finish_within = tonumber(ARGV[7]), tonumber(ARGV[8])
local new = {} -- of the index `running`, told of all new runs at once
local room = 1024 * 1024 -- for memos, in bytes: all answers go as one, and hold up what comes behind them

-- A run's memos, or how many there are. `size` counts those of results over 1 kB only.
local function memos_of(run, size)
  local steps = fn .. 'steps:' .. run
  local count = redis.call('HLEN', steps)
  local bytes = tonumber(size) + 512 * count
  if bytes > room then
    return count
  end
  room = room - bytes
  return redis.call('HGETALL', steps)
end

-- A run that did not start, or finish, in time.
local function late(a, status, queued, parent, cancels, holds, what, within)
  finish(fn, ARGV[a], 'cancelled', now, keep, 'error', '{"name":"timeout","message":"the run did not ' .. what
    .. ' within ' .. within / 1000 .. ' s"}', 'steps open', cancels, holds)
  move(fn, ARGV[a], status, 'cancelled', queued)
  tell(fn, ARGV[a], 'cancelled', parent, ARGV[6])
  return { 'cancelled' }
end

-- An event of a time to come: its run waits on a timer, in turn 2, so that its entry is stale from then on.
local function delayed(key, a)
  redis.call('HSET', key, 'format', '2', 'status', 'waiting', 'source', ARGV[a + 7], 'event', ARGV[a + 6], 'turn', '2',
    'entry', '', 'code', code, 'queued', ARGV[a + 8])
  index_cancels(fn, key, ARGV[a + 11])
  redis.call('ZADD', fn .. 'timers', ARGV[a + 10], ARGV[a] .. ':2')
  move(fn, ARGV[a], nil, 'waiting', ARGV[a + 8])
  return { 'later' }
end

local function created(key, a)
  if tonumber(ARGV[a + 10]) > now then
    return delayed(key, a)
  end
  begin_run(key, ARGV[a + 7], ARGV[a + 6], ARGV[a + 2], ARGV[a + 5], ARGV[a + 4], code, ARGV[a + 8], at)
  if ARGV[a + 9] ~= '' then
    redis.call('HSET', key, 'parent', ARGV[a + 9])
  end
  if start_within > 0 and now - ARGV[a + 8] > start_within then
    return late(a, nil, ARGV[a + 8], ARGV[a + 9], nil, nil, 'start', start_within)
  end
  if finish_within > 0 then
    redis.call('HSET', key, 'expires', now + finish_within)
  end
  index_cancels(fn, key, ARGV[a + 11])
  new[#new + 1] = ARGV[a + 8]
  new[#new + 1] = ARGV[a]
  if ARGV[a + 12] ~= '' then -- run again, perhaps from a step on: with the memos before it
    redis.call('HSET', key, 'rerun_of', ARGV[a + 12])
    return { 'go', '1', now, '0', 0, '0', ARGV[a + 6], redis.call('HLEN', fn .. 'steps:' .. ARGV[a]), {},
      finish_within > 0 and now + finish_within or 0 }
  end
  return { 'go', '1', at }
end

local function refused(run, a)
  local turn, status = tonumber(run[2]), run[1]
  local given = tonumber(ARGV[a + 1])
  if ENDED[status] then
    return 'ended'
  end
  if run[6] and run[6] ~= '' then
    finish(fn, ARGV[a], 'cancelled', now, keep, 'error', run[6], 'steps open', run[14], run[15])
    move(fn, ARGV[a], status, 'cancelled', run[7])
    tell(fn, ARGV[a], 'cancelled', run[12], ARGV[6])
    return 'cancelled'
  end
  if given < turn then
    return 'stale'
  end
  if given == turn and status ~= 'waiting' and run[3] ~= ARGV[a + 2] then
    return 'elsewhere'
  end
end

local function resumed(key, run, a)
  if run[13] and tonumber(run[13]) <= now then
    return late(a, run[1], run[7], run[12], run[14], run[15], 'finish', run[13] - (run[11] or run[7]))
  end
  if run[15] and not run[11] and run[2] == '1' and start_within > 0 and now - run[7] > start_within then
    return late(a, run[1], run[7], run[12], run[14], run[15], 'start', start_within)
  end
  -- A crash: the entry was claimed from the very worker whose fence the run carries.
  local count = charge(key, ARGV[a + 3], run[1], run[4], run[5], run[16])
  if count >= most then
    finish(fn, ARGV[a], 'failed', now, keep, 'error', '{"name":"worker_crash","message":"the worker process died ' .. count
      .. ' times in a row while it ran this"}', 'steps open', run[14], run[15])
    move(fn, ARGV[a], run[1], 'failed', run[7])
    tell(fn, ARGV[a], 'failed', run[12], ARGV[6])
    return { 'crashed' }
  end
  if count >= 2 then
    if suspects < 1 then
      return { 'suspect' }
    end
    suspects = suspects - 1
  end
  redis.call('HSET', key, 'status', 'running', 'fence', ARGV[a + 5], 'worker', ARGV[a + 4], 'entry', ARGV[a + 2],
    'started', run[11] or now)
  if not run[11] and finish_within > 0 then
    run[13] = now + finish_within
    redis.call('HSET', key, 'expires', run[13])
  end
  move(fn, ARGV[a], run[1], 'running', run[7])
  return { 'go', run[2], now, run[8] or '0', count, run[9] or '0', run[10], memos_of(ARGV[a], run[17] or 0),
    redis.call('HGETALL', fn .. 'open:' .. ARGV[a]), run[13] or 0 }
end

local answers = each(9, 13, function(a)
  local key = fn .. 'run:' .. ARGV[a]
  local run = redis.call('HMGET', key, 'status', 'turn', 'entry', 'worker', 'crashes', 'cancel', 'queued', 'attempt',
    'wake', 'event', 'started', 'parent', 'expires', 'cancels', 'holds', 'charged', 'size')
  if run[1] then
    local word = refused(run, a)
    return word and { word } or resumed(key, run, a)
  end
  return ARGV[a + 6] == '' and { 'gone' } or created(key, a)
end)
tell_ready(fn)
many(new, 1, 'ZADD', fn .. 'runs:running')
return answers
