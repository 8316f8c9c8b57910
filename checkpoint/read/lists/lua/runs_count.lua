--[[ runs_count: how many runs of each status functions have.

Why a script: fifty functions with seven statuses would be 350 commands.

KEYS[1..n]  bus:fn:{<fn>}:  prefixes of functions, all of which lie on one server  runs:<status> is built from it
args.now  now, which this script does not need
args.earliest  queued then or later, ms, or empty
args.latest  queued then or earlier, ms, or empty
then the statuses

Returns for each prefix how many there are of each status ]]
-- flags: no-writes
local is_all = args.earliest == '' and args.latest == ''
local first, last = args.earliest == '' and '-inf' or args.earliest, args.latest == '' and '+inf' or args.latest
local found = {}
for n, fn in ipairs(KEYS) do
  found[n] = {}
  for i = args.rest, #ARGV do
    local key = fn .. 'runs:' .. ARGV[i]
    local count = is_all and redis.call('ZCARD', key) or redis.call('ZCOUNT', key, first, last)
    found[n][#found[n] + 1] = count
  end
end
return found
