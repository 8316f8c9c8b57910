--[[ cron_tick: a schedule is due: queue its run, once however many workers see it.

Why a script: comparing with the last tick, adding the run and remembering the tick are one act: killed in between, a
tick would be lost or doubled.

KEYS[1]  bus:fn:{<fn>}:  prefix  cron, queue are built from it
args.now  now, which this script does not need
args.schedule  the schedule
args.seen  what is noted of it, as the caller has read it
args.note  what is to be noted instead: its last tick, ms, and up to which time it was due before the clock was set back, ms
args.run  run, or empty: the tick is skipped, or the schedule begins anew
args.event  event, JSON

Returns 1 when this call has dealt with the tick, 0 when another has ]]
local cron = KEYS[1] .. 'cron'
local noted = redis.call('HGET', cron, args.schedule)
if noted and noted ~= args.seen then
  return 0
end
redis.call('HSET', cron, args.schedule, args.note)
if args.run ~= '' then
  redis.call('XADD', KEYS[1] .. 'queue', '*', 'run', args.run, 'turn', '1', 'why', 'cron', 'source', 'cron', 'event', args.event,
    'parent', '')
end
return 1
