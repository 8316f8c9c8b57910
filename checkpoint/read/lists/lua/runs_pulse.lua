--[[ runs_pulse: a word that changes when runs of a function do: begin, wait, go on or end; or fail of an error.

Why a script: it is asked once a second of each function that a page shows, and one call costs less than nine.

KEYS[1]  bus:fn:{<fn>}:  prefix  runs:<status>, queue and erred are built from it
args.now  now, which this script does not need
then the statuses

Returns the word: entries in the queue, runs of each status, and the error that came last, as <mark>@<ms> ]]
-- flags: no-writes
local found = { redis.call('XLEN', KEYS[1] .. 'queue') }
for i = args.rest, #ARGV do
  found[#found + 1] = redis.call('ZCARD', KEYS[1] .. 'runs:' .. ARGV[i])
end
local erred = redis.pcall('ZREVRANGE', KEYS[1] .. 'erred', 0, 0, 'WITHSCORES')
if not erred.err and erred[1] and string.match(erred[1], '^%w+$') then
  found[#found + 1] = erred[1] .. '@' .. erred[2]
end
return table.concat(found, ' ')
