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
-- hash made: +ending
-- flags: allow-oom
-- uses: clock status index each places new_run cancel queue buffer
local fn, keep, why, now = KEYS[1], args.keep, args.why, server_now(args.now)
local TOLD = 'cancelled' -- the courier finds out who is to be told, and drops what nobody is

local function unstarted(a)
  local run, parent, queued = item.run, item.parent, item.queued
  local held = redis.call('HGET', fn .. 'buffered', run)
  if held then -- what comes from now on makes another run
    empty_buffer(fn, held, run)
  end
  new_run(fn .. 'run:' .. run, item.source, item.event, '1', queued, parent, item.rerun_of)
  local made = {}
  made.queued, made.parent = queued, parent
  conclude(fn, run, made, 'cancelled', now, keep, why, TOLD, '')
  return 'cancelled'
end

local answers = each(item.first, item.width, function(a)
  local word = cancel_run(fn, item.run, now, keep, why, TOLD)
  return word == 'gone' and item.event ~= '' and unstarted(a) or word
end)
tell_facts(fn, now)
if tell_ready(fn) then -- no worker has done this, so none would look
  ring(fn, 'cancel')
end
return answers
