--[[ run_cancel: end runs that wait or are queued; ask the workers of those that run to end them.

Why a script: whether a run is in hand and what is done about it are one act, so no turn begins in between.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, timers, ends, cancels, buffered, backlog:<key> and others are built
args.now  now, ms, or empty for the server's clock
args.keep  how long an ended run is kept, ms
args.why  why: an error as JSON
then for each run six: run, its event as JSON when its entry stands and nobody has started it (it is written, so that it
never starts) or empty, then its source, parent (`<slug>|<run>|<step>`) or empty, when it was queued (ms), the run it runs
again or empty

Returns for each cancelled, asked, ended or gone, or {'error', why} ]]
-- item: run event source parent queued rerun_of
-- hash h: status turn queued parent cancels holds entry
-- flags: allow-oom
-- uses: clock status index each places withdraw finish tell queue buffer
local fn, keep, why, now = KEYS[1], args.keep, args.why, server_now(args.now)

local function unstarted(key, a)
  local run, parent, queued = item.run, item.parent, item.queued
  local held = redis.call('HGET', fn .. 'buffered', run)
  if held then -- what comes from now on makes another run
    empty_buffer(fn, held, run)
  end
  redis.call('HSET', key, 'format', '2', 'source', item.source, 'turn', '1', 'queued', queued, 'event', item.event)
  if parent ~= '' then
    redis.call('HSET', key, 'parent', parent)
  end
  if item.rerun_of ~= '' then
    redis.call('HSET', key, 'rerun_of', item.rerun_of)
  end
  finish(fn, run, 'cancelled', now, keep, 'error', why, 'steps')
  move(fn, run, nil, 'cancelled', queued)
  tell(fn, run, 'cancelled', parent, 'cancelled')
  return 'cancelled'
end

local answers = each(item.first, item.width, function(a)
  local run, key = item.run, fn .. 'run:' .. item.run
  local h = redis.call('HMGET', key, fields.h)
  if not h.status then
    return item.event == '' and 'gone' or unstarted(key, a)
  end
  if ENDED[h.status] then
    return 'ended'
  end
  if h.status == 'running' then
    redis.call('HSETNX', key, 'cancel', why)
    return 'asked'
  end
  withdraw(fn, run, h.turn, h.entry)
  finish(fn, run, 'cancelled', now, keep, 'error', why, 'steps open', h.cancels, h.holds)
  move(fn, run, h.status, 'cancelled', h.queued)
  -- Nobody is asked here who hears of it: the courier finds out, and drops what nobody does.
  tell(fn, run, 'cancelled', h.parent, 'cancelled')
  return 'cancelled'
end)
if tell_ready(fn) then -- no worker has done this, so none would look
  ring(fn, 'cancel')
end
return answers
