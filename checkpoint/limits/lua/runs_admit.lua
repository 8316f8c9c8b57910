--[[ runs_admit: events of a function with limits: what becomes of each is decided and recorded, once, under its run's id.

Why a script: the verdict and its record are one act, so an event that is delivered again gets the same one, and
is counted once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, buffer:<key>, buffered, rate:<key>, single:<key>, backlog:<key> and others are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  the function's code version
ARGV[3]  how long the record of a verdict that makes no run is kept, ms
ARGV[4]  how long an ended run is kept, ms
ARGV[5]  statuses that someone hears of
ARGV[6]  rate limit: ms between two
ARGV[7]  rate limit: how many more at once
ARGV[8]  singleton: skip or cancel
ARGV[9]  debounce: ms of quiet
ARGV[10]  debounce: longest ms, or 0
ARGV[11]  batch: most events
ARGV[12]  batch: longest ms
then for each fifteen: run, event JSON, source, queued ms, parent or empty, what cancels it (lines), not before (ms) or 0,
holds (lines), rank, rate key or empty, singleton key or empty, buffer key or empty (d:… or b:…), the buffer's run, ts, the run it
runs again or empty

Returns for each {'later'}, {'merged', run}, {'skipped', why}, {'there'} or {'error', why} ]]
-- uses: clock status index each cancels places withdraw finish tell gcra buffer
local fn, now = KEYS[1], server_now(ARGV[1])
local BATCH_BYTES = 10 * 1024 * 1024
local added = {} -- run -> queued ms: of the index `queued`, told of all at once

local function recorded(a, why, by)
  local key = fn .. 'run:' .. ARGV[a]
  redis.call('HSET', key, 'format', '2', 'status', 'skipped', 'source', ARGV[a + 2], 'event', ARGV[a + 1], 'turn', '1', 'queued',
    ARGV[a + 3], 'ended', now, 'why', why, 'by', by)
  redis.call('PEXPIRE', key, ARGV[3])
  redis.call('ZADD', fn .. 'runs:skipped', ARGV[a + 3], ARGV[a])
  if ARGV[a + 4] ~= '' then
    redis.call('HSET', key, 'parent', ARGV[a + 4])
    tell(fn, ARGV[a], 'skipped', ARGV[a + 4], '')
  end
end

local function merged(a)
  local name = ARGV[a + 11]
  local buffer, member = fn .. 'buffer:' .. name, 'buffer|' .. name
  if redis.call('HSETNX', buffer, 'run', ARGV[a + 12]) == 1 then
    redis.call('HSET', fn .. 'buffered', ARGV[a + 12], name) -- by its id it is found before it has begun
  end
  redis.call('HSETNX', buffer, 'first', now)
  local b = redis.call('HMGET', buffer, 'run', 'first', 'ts', 'not_before')
  local first = at_most(b[2], now, 0)
  if string.sub(name, 1, 2) == 'b:' then
    recorded(a, 'batched', b[1])
    local n = redis.call('HINCRBY', buffer, 'n', 1)
    redis.call('HSET', buffer, 'e:' .. n, ARGV[a + 1])
    local bytes = redis.call('HINCRBY', buffer, 'bytes', #ARGV[a + 1])
    redis.call('ZADD', fn .. 'timers', 'LT', first + ARGV[12], member)
    if n >= tonumber(ARGV[11]) or bytes >= BATCH_BYTES then
      release(fn, name)
    end
    return { 'merged', b[1] }
  end
  recorded(a, 'debounced', b[1])
  if not b[3] or tonumber(ARGV[a + 13]) >= tonumber(b[3]) then -- an older event never replaces a newer one
    redis.call('HSET', buffer, 'event', ARGV[a + 1], 'ts', ARGV[a + 13], 'not_before', ARGV[a + 6])
    b[4] = ARGV[a + 6]
  end
  local due, longest = now + ARGV[9], tonumber(ARGV[10])
  if longest > 0 then
    due = math.min(due, first + longest)
  end
  due = math.max(due, tonumber(b[4] or 0)) -- the event that is held may be of a time to come
  redis.call('ZADD', fn .. 'timers', due, member)
  return { 'merged', b[1] }
end

-- The run that holds the singleton goes on; or it is cancelled, and this one takes its place.
local function kept_out(a)
  local key = fn .. 'single:' .. ARGV[a + 10]
  local other = redis.call('GET', key)
  if other and other ~= ARGV[a] then
    local run = fn .. 'run:' .. other
    local h = redis.call('HMGET', run, 'status', 'turn', 'queued', 'parent', 'cancels', 'holds', 'entry')
    if h[1] and not ENDED[h[1]] then
      if ARGV[8] == 'skip' then
        return other
      end
      local why = '{"name":"cancelled","message":"a newer run of this singleton took its place"}'
      if h[1] == 'running' then
        redis.call('HSETNX', run, 'cancel', why)
      else
        added[other] = nil
        withdraw(fn, other, h[2], h[7])
        finish(fn, other, 'cancelled', now, ARGV[4], 'error', why, 'steps open', h[5], h[6])
        move(fn, other, h[1], 'cancelled', h[3])
        tell(fn, other, 'cancelled', h[4], ARGV[5])
      end
    end
  end
  redis.call('SET', key, ARGV[a])
end

local function created(a)
  local run, key, holds = ARGV[a], fn .. 'run:' .. ARGV[a], ARGV[a + 7]
  if ARGV[a + 10] ~= '' then
    holds = (holds == '' and '' or holds .. '\n') .. ARGV[a + 10]
  end
  local status, turn, entry = 'queued', '1', ''
  if tonumber(ARGV[a + 6]) > now then
    status, turn = 'waiting', '2'
    redis.call('ZADD', fn .. 'timers', ARGV[a + 6], run .. ':2')
    redis.call('ZADD', fn .. 'runs:waiting', ARGV[a + 3], run)
  else
    entry = stand_in_line(fn, run, first_hold(holds), ARGV[a + 8])
    added[run] = ARGV[a + 3]
  end
  redis.call('HSET', key, 'format', '2', 'status', status, 'source', ARGV[a + 2], 'event', ARGV[a + 1], 'turn', turn, 'entry', entry,
    'code', ARGV[2], 'queued', ARGV[a + 3], 'holds', holds, 'rank', ARGV[a + 8])
  if ARGV[a + 4] ~= '' then
    redis.call('HSET', key, 'parent', ARGV[a + 4])
  end
  if ARGV[a + 14] ~= '' then
    redis.call('HSET', key, 'rerun_of', ARGV[a + 14])
  end
  index_cancels(fn, key, ARGV[a + 5])
  return { 'later' }
end

local answers = each(13, 15, function(a)
  if redis.call('EXISTS', fn .. 'run:' .. ARGV[a]) == 1 then
    return { 'there' }
  end
  local buffer = string.sub(ARGV[a + 11], 1, 1)
  if buffer == 'b' then
    return merged(a)
  end
  local rate = ARGV[a + 9] ~= '' and fn .. 'rate:' .. ARGV[a + 9]
  if rate and must_wait(rate, now, tonumber(ARGV[6]), tonumber(ARGV[7])) then
    recorded(a, 'rate_limit', '')
    return { 'skipped', 'rate_limit' }
  end
  local other = buffer == '' and ARGV[a + 10] ~= '' and kept_out(a)
  if other then
    recorded(a, 'singleton', other)
    return { 'skipped', 'singleton' }
  end
  if rate then
    went(rate, now, tonumber(ARGV[6]))
  end
  return buffer == 'd' and merged(a) or created(a)
end)
tell_ready(fn)
local index = {}
for run, queued in pairs(added) do
  index[#index + 1] = queued
  index[#index + 1] = run
end
many(index, 1, 'ZADD', fn .. 'runs:queued')
return answers
