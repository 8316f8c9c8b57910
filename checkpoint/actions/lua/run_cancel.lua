--[[ run_cancel: end runs that wait or are queued; ask the workers of those that run to end them.

Why a script: whether a run is in hand and what is done about it are one act, so no turn begins in between.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, timers, ends, cancels, buffered, backlog:<key> and others are built
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  how long an ended run is kept, ms
ARGV[3]  why: an error as JSON
then for each run six: run, its event as JSON when its entry stands and nobody has started it (it is written, so that it
never starts) or empty, then its source, parent (`<slug>|<run>|<step>`) or empty, when it was queued (ms), the run it runs
again or empty

Returns for each cancelled, asked, ended or gone, or {'error', why} ]]
-- flags: allow-oom
-- uses: clock status index each places withdraw finish tell queue buffer
local fn, keep, why, now = KEYS[1], ARGV[2], ARGV[3], server_now(ARGV[1])

local function unstarted(key, a)
  local run, parent, queued = ARGV[a], ARGV[a + 3], ARGV[a + 4]
  local held = redis.call('HGET', fn .. 'buffered', run)
  if held then -- what comes from now on makes another run
    empty_buffer(fn, held, run)
  end
  redis.call('HSET', key, 'format', '2', 'source', ARGV[a + 2], 'turn', '1', 'queued', queued, 'event', ARGV[a + 1])
  if parent ~= '' then
    redis.call('HSET', key, 'parent', parent)
  end
  if ARGV[a + 5] ~= '' then
    redis.call('HSET', key, 'rerun_of', ARGV[a + 5])
  end
  finish(fn, run, 'cancelled', now, keep, 'error', why, 'steps')
  move(fn, run, nil, 'cancelled', queued)
  tell(fn, run, 'cancelled', parent, 'cancelled')
  return 'cancelled'
end

local answers = each(4, 6, function(a)
  local run, key = ARGV[a], fn .. 'run:' .. ARGV[a]
  local h = redis.call('HMGET', key, 'status', 'turn', 'queued', 'parent', 'cancels', 'holds', 'entry')
  if not h[1] then
    return ARGV[a + 1] == '' and 'gone' or unstarted(key, a)
  end
  if ENDED[h[1]] then
    return 'ended'
  end
  if h[1] == 'running' then
    redis.call('HSETNX', key, 'cancel', why)
    return 'asked'
  end
  withdraw(fn, run, h[2], h[7])
  finish(fn, run, 'cancelled', now, keep, 'error', why, 'steps open', h[5], h[6])
  move(fn, run, h[1], 'cancelled', h[3])
  -- Nobody is asked here who hears of it: the courier finds out, and drops what nobody does.
  tell(fn, run, 'cancelled', h[4], 'cancelled')
  return 'cancelled'
end)
if tell_ready(fn) then -- no worker has done this, so none would look
  ring(fn, 'cancel')
end
return answers
