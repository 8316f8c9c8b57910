--[[ run_start: decide whether the code of delivered entries' runs may be called, and from where.

Why a script: the decision and the new fence must be one act, or two workers that hold entries of one run would both
run it. No user code runs before its answer. docs/state-machine.md has the table.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, ends, cancels, places:<key>, ready and others are built
args.now  now, ms, or empty for the server's clock
args.code  the function's code version
args.keep  how long an ended run is kept, ms
args.suspects  how many suspects (2 crashes or more) this worker may start now
args.most_crashes  crashes that end a run
args.subscribed  statuses that have subscribers
args.start_within  how long after it was queued a run may start, ms, or 0
args.finish_within  how long after it has started a run may take, ms, or 0
then for each entry thirteen: run, entry's turn, entry, consumer it was claimed from or empty, my consumer, fence,
event JSON or empty, source, queued ms, parent (`<slug>|<run>|<step>`) or empty, not before (ms) or 0, its words in the
index of what cancels it (a line each), the run it runs again or empty

Returns for each entry {word}, or {'go', turn, now} for a new run, or {'go', turn, now, attempt, crashes, wake, event,
memos (or how many: then they are to be loaded), open, must end by (ms, or 0), when it began (ms, or nothing or 0: it does now)} for one that was there before, or
{'error', why} ]]
-- item: run turn entry owner consumer fence event source queued parent not_before cancels rerun_of
-- hash run: +ending turn entry worker crashes cancel attempt wake event expires charged size
-- uses: clock status index each cancels places finish begin crash
local fn, now = KEYS[1], server_now(args.now)
local at = as_text(now)
local code, keep, suspects, most = args.code, args.keep, tonumber(args.suspects), tonumber(args.most_crashes)
local start_within, finish_within = tonumber(args.start_within), tonumber(args.finish_within)
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
local function late(a, run, what, within)
  local why = string.format(texts.timed_out, what, within / 1000)
  conclude(fn, item.run, run, 'cancelled', now, keep, why, args.subscribed,
    string.format(texts.timed_out_told, what, within / 1000))
  return { 'cancelled' }
end

-- An event of a time to come: its run waits on a timer, in turn 2, so that its entry is stale from then on.
local function delayed(key, a)
  new_run(key, item.source, item.event, '2', item.queued, item.parent, item.rerun_of, 'status', 'waiting', 'entry', '',
    'code', code)
  index_cancels(fn, key, item.cancels)
  redis.call('ZADD', fn .. 'timers', item.not_before, item.run .. ':2')
  move(fn, item.run, nil, 'waiting', item.queued)
  return { 'later' }
end

local function created(key, a)
  if tonumber(item.not_before) > now then
    return delayed(key, a)
  end
  begin_run(key, item.source, item.event, item.entry, item.fence, item.consumer, code, item.queued, at,
    item.parent, item.rerun_of)
  if start_within > 0 and now - item.queued > start_within then
    local run = {}
    run.queued, run.parent = item.queued, item.parent
    return late(a, run, 'start', start_within)
  end
  if finish_within > 0 then
    redis.call('HSET', key, 'expires', now + finish_within)
  end
  count_run('started', now, item.queued)
  index_cancels(fn, key, item.cancels)
  new[#new + 1] = item.queued
  new[#new + 1] = item.run
  if item.rerun_of ~= '' then -- run again, perhaps from a step on: with the memos before it
    return { 'go', '1', now, '0', 0, '0', item.event, redis.call('HLEN', fn .. 'steps:' .. item.run), {},
      finish_within > 0 and now + finish_within or 0 }
  end
  return { 'go', '1', at }
end

local function refused(run, a)
  local turn, status = tonumber(run.turn), run.status
  local given = tonumber(item.turn)
  if ENDED[status] then
    return 'ended'
  end
  if run.cancel and run.cancel ~= '' then
    conclude(fn, item.run, run, 'cancelled', now, keep, run.cancel, args.subscribed, '')
    return 'cancelled'
  end
  if given < turn then
    return 'stale'
  end
  if given == turn and status ~= 'waiting' and run.entry ~= item.entry then
    return 'elsewhere'
  end
end

local function resumed(key, run, a)
  if run.expires and tonumber(run.expires) <= now then
    return late(a, run, 'finish', run.expires - (run.started or run.queued))
  end
  if run.holds and not run.started and run.turn == '1' and start_within > 0 and now - run.queued > start_within then
    return late(a, run, 'start', start_within)
  end
  -- A crash: the entry was claimed from the very worker whose fence the run carries.
  local count = charge(key, item.owner, run.status, run.worker, run.crashes, run.charged)
  if count >= most then
    conclude(fn, item.run, run, 'failed', now, keep, string.format(texts.worker_crash, count), args.subscribed,
      string.format(texts.worker_crash_told, count))
    return { 'crashed' }
  end
  if count >= 2 then
    if suspects < 1 then
      return { 'suspect' }
    end
    suspects = suspects - 1
  end
  redis.call('HSET', key, 'status', 'running', 'fence', item.fence, 'worker', item.consumer, 'entry', item.entry,
    'started', run.started or now)
  if not run.started then
    count_run('started', now, run.turn == '1' and run.queued) -- one of a time to come has not waited since it was queued
    if finish_within > 0 then
      run.expires = now + finish_within
      redis.call('HSET', key, 'expires', run.expires)
    end
  end
  move(fn, item.run, run.status, 'running', run.queued)
  return { 'go', run.turn, now, run.attempt or '0', count, run.wake or '0', run.event, memos_of(item.run, run.size or 0),
    redis.call('HGETALL', fn .. 'open:' .. item.run), run.expires or 0, run.started or 0 }
end

local answers = each(item.first, item.width, function(a)
  local key = fn .. 'run:' .. item.run
  local run = redis.call('HMGET', key, fields.run)
  if run.status then
    local word = refused(run, a)
    return word and { word } or resumed(key, run, a)
  end
  return item.event == '' and { 'gone' } or created(key, a)
end)
tell_ready(fn)
tell_facts(fn, now)
many(new, 1, 'ZADD', fn .. 'runs:running')
return answers
