--[[ run_log: add lines to a run's log; when it is full the oldest go.

No owner check: what a command of a lost turn still says belongs to the run. A run that is gone gets no key, and one that has
ended keeps its log as long as itself.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, log:<run> are built from it
args.now  now, which this script does not need
args.run  run
args.most  most lines that are kept
args.size  most bytes that are kept
args.dropped  lines that were dropped before they came here
then the lines, JSON

Returns 1, or 0 when there is no such run ]]
-- hash h: status logged log_size
-- uses: status
local key, log = KEYS[1] .. 'run:' .. args.run, KEYS[1] .. 'log:' .. args.run
local h = redis.call('HMGET', key, fields.h)
if not h.status then
  return 0
end
local kept = redis.call('LLEN', log)
local size = kept > 0 and tonumber(h.log_size or 0) or 0
local most, bytes = tonumber(args.most), tonumber(args.size)
for i = args.rest, #ARGV do
  redis.call('RPUSH', log, ARGV[i])
  size, kept = size + #ARGV[i], kept + 1
end
while kept > 1 and (kept > most or size > bytes) do
  size, kept = size - #redis.call('LPOP', log), kept - 1
end
redis.call('HSET', key, 'logged', (h.logged or 0) + args.dropped + #ARGV - args.rest + 1, 'log_size', size)
if ENDED[h.status] then
  redis.call('PEXPIRE', log, math.max(1, redis.call('PTTL', key)))
end
return 1
