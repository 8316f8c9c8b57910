--[[ run_wait: a run that was read with its places, but not the shared one, goes back into line.

So does one that was taken over from a worker that died, and whose shared place is another's since: it is charged with
that crash here, as start would have done.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, places:<key>, backlog:<key>, ready are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  run
ARGV[3]  its entry, as the run names it
ARGV[4]  the limit it waits for
ARGV[5]  the consumer its entry was claimed from, or empty

Returns 1, or 0 when it has moved on ]]
-- uses: places index crash
local fn, run = KEYS[1], ARGV[2]
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'entry', 'holds', 'rank', 'queued', 'worker', 'crashes', 'charged')
if (h[1] ~= 'queued' and h[1] ~= 'running') or h[2] ~= ARGV[3] then
  return 0
end
charge(key, ARGV[5], h[1], h[6], h[7], h[8])
give_back(fn, run, h[3])
redis.call('HSET', key, 'passed', '1', 'status', 'queued', 'entry', stand_in_line(fn, run, ARGV[4], h[4]))
redis.call('HDEL', key, 'fence', 'worker') -- what a zombie still writes is refused
move(fn, run, h[1], 'queued', h[5])
tell_ready(fn)
return 1
