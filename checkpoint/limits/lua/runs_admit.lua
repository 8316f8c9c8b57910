--[[ runs_admit: decide what becomes of events of a function with limits, and record it once, under each run's id.

Why a script: the verdict and its record are one act, so an event that is delivered again gets the same one, and
is counted once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, buffer:<key>, buffered, rate:<key>, single:<key>, backlog:<key> and others are built from it
args.now  now, ms, or empty for the server's clock
args.code  the function's code version
args.verdict_keep  how long the record of a verdict that makes no run is kept, ms
args.keep  how long an ended run is kept, ms
args.subscribed  statuses that have subscribers
args.rate_gap  rate limit: ms between two
args.rate_more  rate limit: how many more at once
args.singleton  singleton: skip or cancel
args.debounce_ms  debounce: ms of quiet
args.debounce_longest  debounce: longest ms, or 0
args.batch_most  batch: most events
args.batch_ms  batch: longest ms
args.over  limits that are set otherwise until a time (fragments/overrides.lua), or empty
then for each fifteen: run, event JSON, source, queued ms, parent or empty, what cancels it (lines), not before (ms) or 0,
holds (lines), rank, rate key or empty, singleton key or empty, buffer key or empty (d:… or b:…), the buffer's run, ts, the run it
runs again or empty

Returns for each {'later'}, {'merged', run}, {'skipped', why}, {'there'} or {'error', why} ]]
-- item: run event source queued parent cancels not_before holds rank rate single buffer buffer_run ts rerun_of
-- hash b: run first ts not_before
-- uses: clock status index each cancels places new_run cancel gcra buffer overrides
local fn, now = KEYS[1], server_now(args.now)
local BATCH_BYTES = 10 * 1024 * 1024
local over = overrides(args.over, now)
local added = {} -- run -> queued ms: of the index `queued`, told of all at once

local function recorded(a, why, by)
  local key = fn .. 'run:' .. item.run
  new_run(key, item.source, item.event, '1', item.queued, item.parent, '', 'status', 'skipped', 'ended', now, 'why', why,
    'by', by)
  redis.call('PEXPIRE', key, args.verdict_keep)
  redis.call('ZADD', fn .. 'runs:skipped', item.queued, item.run)
  count_run((why == 'batched' or why == 'debounced') and 'merged' or 'skipped', now)
  if item.parent ~= '' then
    tell(fn, item.run, 'skipped', item.parent, '')
  end
end

local function merged(a)
  local name = item.buffer
  local buffer, member = fn .. 'buffer:' .. name, 'buffer|' .. name
  if redis.call('HSETNX', buffer, 'run', item.buffer_run) == 1 then
    redis.call('HSET', fn .. 'buffered', item.buffer_run, name) -- by its id it is found before it has begun
  end
  redis.call('HSETNX', buffer, 'first', now)
  local b = redis.call('HMGET', buffer, fields.b)
  local first = at_most(b.first, now, 0)
  if string.sub(name, 1, 2) == 'b:' then
    recorded(a, 'batched', b.run)
    local n = redis.call('HINCRBY', buffer, 'n', 1)
    redis.call('HSET', buffer, 'e:' .. n, item.event)
    local bytes = redis.call('HINCRBY', buffer, 'bytes', #item.event)
    redis.call('ZADD', fn .. 'timers', 'LT', first + args.batch_ms, member)
    if n >= tonumber(args.batch_most) or bytes >= BATCH_BYTES then
      release(fn, name)
    end
    return { 'merged', b.run }
  end
  recorded(a, 'debounced', b.run)
  if not b.ts or tonumber(item.ts) >= tonumber(b.ts) then -- an older event never replaces a newer one
    redis.call('HSET', buffer, 'event', item.event, 'ts', item.ts, 'not_before', item.not_before)
    b.not_before = item.not_before
  end
  local due, longest = now + args.debounce_ms, tonumber(args.debounce_longest)
  if longest > 0 then
    due = math.min(due, first + longest)
  end
  due = math.max(due, tonumber(b.not_before or 0)) -- the event that is held may be of a time to come
  redis.call('ZADD', fn .. 'timers', due, member)
  return { 'merged', b.run }
end

-- The run that holds the singleton goes on; or it is cancelled, and this one takes its place.
local function kept_out(a)
  local key = fn .. 'single:' .. item.single
  local other = redis.call('GET', key)
  if other and other ~= item.run then
    if args.singleton == 'skip' then
      local status = redis.call('HGET', fn .. 'run:' .. other, 'status')
      if status and not ENDED[status] then
        return other
      end
    elseif cancel_run(fn, other, now, args.keep, texts.replaced, args.subscribed) == 'cancelled' then
      added[other] = nil
    end
  end
  redis.call('SET', key, item.run)
end

local function created(a)
  local run, key, holds = item.run, fn .. 'run:' .. item.run, item.holds
  if item.single ~= '' then
    holds = (holds == '' and '' or holds .. '\n') .. item.single
  end
  local status, turn, entry = 'queued', '1', ''
  if tonumber(item.not_before) > now then
    status, turn = 'waiting', '2'
    redis.call('ZADD', fn .. 'timers', item.not_before, run .. ':2')
    redis.call('ZADD', fn .. 'runs:waiting', item.queued, run)
  else
    entry = stand_in_line(fn, run, first_limit_key(holds), item.rank)
    added[run] = item.queued
  end
  new_run(key, item.source, item.event, turn, item.queued, item.parent, item.rerun_of, 'status', status, 'entry', entry,
    'code', args.code, 'holds', holds, 'rank', item.rank)
  index_cancels(fn, key, item.cancels)
  return { 'later' }
end

local answers = each(item.first, item.width, function(a)
  if redis.call('EXISTS', fn .. 'run:' .. item.run) == 1 then
    return { 'there' }
  end
  local buffer = string.sub(item.buffer, 1, 1)
  if buffer == 'b' then
    return merged(a)
  end
  local rate = item.rate ~= '' and fn .. 'rate:' .. item.rate
  local gap, more = pace_of(over, item.rate, tonumber(args.rate_gap), tonumber(args.rate_more))
  if rate and must_wait(rate, now, gap, more) then
    recorded(a, 'rate_limit', '')
    return { 'skipped', 'rate_limit' }
  end
  local other = buffer == '' and item.single ~= '' and kept_out(a)
  if other then
    recorded(a, 'singleton', other)
    return { 'skipped', 'singleton' }
  end
  if rate then
    went(rate, now, gap)
  end
  return buffer == 'd' and merged(a) or created(a)
end)
tell_ready(fn)
tell_facts(fn, now)
local index = {}
for run, queued in pairs(added) do
  index[#index + 1] = queued
  index[#index + 1] = run
end
many(index, 1, 'ZADD', fn .. 'runs:queued')
return answers
