--[[ cron_tick: a schedule is due: queue its run, once however many workers see it.

Why a script: comparing with the last tick, adding the run and remembering the tick are one act: killed in between, a
tick would be lost or doubled.

KEYS[1]  bus:fn:{<fn>}:  prefix  cron, queue are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  the schedule
ARGV[3]  what is noted of it, as the caller has read it
ARGV[4]  what is to be noted instead: its last tick, ms, and up to which time it was due before the clock was set back, ms
ARGV[5]  run, or empty: the tick is skipped, or the schedule begins anew
ARGV[6]  event, JSON

Returns 1 when this call has dealt with the tick, 0 when another has ]]
local cron = KEYS[1] .. 'cron'
local noted = redis.call('HGET', cron, ARGV[2])
if noted and noted ~= ARGV[3] then
  return 0
end
redis.call('HSET', cron, ARGV[2], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[1] .. 'queue', '*', 'run', ARGV[5], 'turn', '1', 'why', 'cron', 'source', 'cron', 'event', ARGV[6],
    'parent', '')
end
return 1
