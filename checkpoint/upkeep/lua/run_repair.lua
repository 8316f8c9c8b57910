--[[ run_repair: give a run that nobody holds a queue entry of its turn, if it is still as it was when that was seen.

Why a script: a run that has moved on since has a holder; a second one would do no harm, but be told of as a repair.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, runs:<status> are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  run
ARGV[3]  status, as it was seen
ARGV[4]  turn, as it was seen
ARGV[5]  entry, as it was seen

Returns 1 when it was repaired ]]
-- uses: index places queue
local fn, run = KEYS[1], ARGV[2]
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'turn', 'entry', 'queued', 'holds', 'rank')
if h[1] ~= ARGV[3] or h[2] ~= ARGV[4] or (h[3] or '') ~= ARGV[5] then
  return 0
end
redis.call('ZREM', fn .. 'timers', run .. ':' .. h[2]) -- it is woken before that
redis.call('HSET', key, 'status', 'queued', 'entry', enqueue(fn, run, h[2], 'repair', h[5], h[6]))
move(fn, run, h[1], 'queued', h[4] or 0)
return 1
