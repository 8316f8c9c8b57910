--[[ run_cancel: end a run that waits or is queued; ask the worker of one that runs to end it.

Why a script: whether the run is in hand and what is done about it are one act, so no turn begins in between.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, timers, ends, cancels, backlog:<key> and others are built
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  how long an ended run is kept, ms
ARGV[3]  run
ARGV[4]  why: an error as JSON
ARGV[5]  its event as JSON when its entry stands and nobody has started it: it is written, so that it never starts; or empty
ARGV[6]  its source, then
ARGV[7]  its parent (`<slug>|<run>|<step>`) or empty, then
ARGV[8]  when it was queued, ms, then
ARGV[9]  the run it runs again or empty, then

Returns cancelled, asked, ended or gone ]]
-- flags: allow-oom
-- uses: clock status index places withdraw finish tell queue
local fn, run, now = KEYS[1], ARGV[3], server_now(ARGV[1])
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'turn', 'queued', 'parent', 'cancels', 'holds', 'entry')
if not h[1] then
  if ARGV[5] == '' then
    return 'gone'
  end
  redis.call('HSET', key, 'format', '2', 'source', ARGV[6], 'turn', '1', 'queued', ARGV[8], 'event', ARGV[5])
  if ARGV[7] ~= '' then
    redis.call('HSET', key, 'parent', ARGV[7])
  end
  if ARGV[9] ~= '' then
    redis.call('HSET', key, 'rerun_of', ARGV[9])
  end
  finish(fn, run, 'cancelled', now, ARGV[2], 'error', ARGV[4], 'steps')
  move(fn, run, nil, 'cancelled', ARGV[8])
  tell(fn, run, 'cancelled', ARGV[7], 'cancelled')
  return 'cancelled'
end
if ENDED[h[1]] then
  return 'ended'
end
if h[1] == 'running' then
  redis.call('HSETNX', key, 'cancel', ARGV[4])
  return 'asked'
end
withdraw(fn, run, h[2], h[7])
finish(fn, run, 'cancelled', now, ARGV[2], 'error', ARGV[4], 'steps open', h[5], h[6])
move(fn, run, h[1], 'cancelled', h[3])
if tell_ready(fn) then -- no worker has done this, so none would look
  ring(fn, 'cancel')
end
-- Nobody is asked here who hears of it: the courier finds out, and drops what nobody does.
tell(fn, run, 'cancelled', h[4], 'cancelled')
return 'cancelled'
