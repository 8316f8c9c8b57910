--[[ run_pulse: a word that changes when anything of one run does: its status, a step, an attempt, its progress, its log.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run> and open:<run> are built from it
args.now  now, which this script does not need
args.run  the run

Returns the word ]]
-- flags: no-writes
-- hash r: status turn attempt progress logged
local r = redis.call('HMGET', KEYS[1] .. 'run:' .. args.run, fields.r)
local open = redis.call('HVALS', KEYS[1] .. 'open:' .. args.run)
return redis.sha1hex(table.concat({
  r.status or '', r.turn or '', r.attempt or '', r.progress or '', r.logged or '',
  redis.call('HLEN', KEYS[1] .. 'steps:' .. args.run), table.concat(open, '\n'),
}, '\n'))
