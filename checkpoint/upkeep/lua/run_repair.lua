--[[ run_repair: give a run that nobody holds a queue entry of its turn, if it is still as it was when that was seen.

Why a script: a run that has moved on since has a holder; a second one would do no harm, but be told of as a repair.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, runs:<status> are built from it
args.now  now, which this script does not need
args.run  run
args.status  status, as it was seen
args.turn  turn, as it was seen
args.entry  entry, as it was seen

Returns 1 when it was repaired ]]
-- hash h: status turn entry queued holds rank
-- uses: index places queue
local fn, run = KEYS[1], args.run
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, fields.h)
if h.status ~= args.status or h.turn ~= args.turn or (h.entry or '') ~= args.entry then
  return 0
end
redis.call('ZREM', fn .. 'timers', run .. ':' .. h.turn) -- it is woken before that
redis.call('HSET', key, 'status', 'queued', 'entry', enqueue(fn, run, h.turn, 'repair', h.holds, h.rank))
move(fn, run, h.status, 'queued', h.queued or 0)
return 1
