--[[ run_wait: a run that was read with its places, but not the shared one, goes back into line.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, places:<key>, backlog:<key>, ready are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  run
ARGV[3]  its entry, as the run names it
ARGV[4]  the limit it waits for

Returns 1, or 0 when it has moved on ]]
-- uses: places
local fn, run = KEYS[1], ARGV[2]
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, 'status', 'entry', 'holds', 'rank')
if h[1] ~= 'queued' or h[2] ~= ARGV[3] then
  return 0
end
give_back(fn, run, h[3])
redis.call('HSET', key, 'passed', '1', 'entry', stand_in_line(fn, run, ARGV[4], h[4]))
tell_ready(fn)
return 1
