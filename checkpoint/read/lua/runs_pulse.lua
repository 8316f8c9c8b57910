--[[ runs_pulse: a word that changes when runs of a function do: begin, wait, go on or end.

Why a script: it is asked once a second of each function that a page shows, and one call costs less than eight.

KEYS[1]  bus:fn:{<fn>}:  prefix  runs:<status> and queue are built from it
args.now  now, which this script does not need
then the statuses

Returns the word ]]
-- flags: no-writes
local found = { redis.call('XLEN', KEYS[1] .. 'queue') }
for i = args.rest, #ARGV do
  found[#found + 1] = redis.call('ZCARD', KEYS[1] .. 'runs:' .. ARGV[i])
end
return table.concat(found, ' ')
