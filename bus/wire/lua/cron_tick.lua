--[[ cron_tick: a schedule is due: queue its run, once however many workers see it.

Why a script: comparing with the last tick, adding the run and remembering the tick are one act: killed in between, a
tick would be lost or doubled.

KEYS[1]  bus:fn:{<fn>}:  prefix  cron, queue are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  the schedule
ARGV[3]  tick, ms
ARGV[4]  run, or empty: the tick is skipped
ARGV[5]  event, JSON

Returns 1 when this call has dealt with the tick, 0 when it was dealt with before ]]
local cron = KEYS[1] .. 'cron'
local last = redis.call('HGET', cron, ARGV[2])
if last and tonumber(last) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', cron, ARGV[2], ARGV[3])
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1] .. 'queue', '*', 'run', ARGV[4], 'turn', '1', 'why', 'cron', 'source', 'cron', 'event', ARGV[5],
    'parent', '')
end
return 1
