--[[ run_back_to_backlog: put a run that has its function's places, but not the shared one, back into the backlog.

So does one that was taken over from a worker that died, and whose shared place is another's since: it is charged with
that crash here, as start would have done.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, places:<key>, backlog:<key>, ready are built from it
args.now  now, which this script does not need
args.run  run
args.entry  its entry, as the run names it
args.limit_key  the limit it waits for
args.owner  the consumer its entry was claimed from, or empty

Returns 1, or 0 when it has moved on ]]
-- hash h: status entry holds rank queued worker crashes charged
-- uses: places index crash
local fn, run = KEYS[1], args.run
local key = fn .. 'run:' .. run
local h = redis.call('HMGET', key, fields.h)
if (h.status ~= 'queued' and h.status ~= 'running') or h.entry ~= args.entry then
  return 0
end
charge(key, args.owner, h.status, h.worker, h.crashes, h.charged)
give_back(fn, run, h.holds)
redis.call('HSET', key, 'passed', '1', 'status', 'queued', 'entry', stand_in_line(fn, run, args.limit_key, h.rank))
redis.call('HDEL', key, 'fence', 'worker') -- what a zombie still writes is refused
move(fn, run, h.status, 'queued', h.queued)
tell_ready(fn)
return 1
