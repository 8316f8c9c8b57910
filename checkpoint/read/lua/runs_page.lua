--[[ runs_page: the runs of a function after a cursor, newest first. A cursor is a moment and a run queued in that moment.

Why a script: many runs may have been queued in one millisecond. Where the place is among them is found by halving, which
a caller would have to ask one by one; and a bound that is only a moment either loses some of them or brings them all.

KEYS[1]  bus:fn:{<fn>}:  prefix  runs:<status> is built from it
args.now  now, which this script does not need
args.moment  the place's moment, ms, or +inf
args.run  its run, or empty: all of that moment come after it
args.earliest  the earliest moment, ms, or -inf
args.most  how many of each status
then the statuses

Returns for each status a flat list of runs and moments ]]
-- flags: no-writes
local fn, moment, run, earliest, most = KEYS[1], args.moment, args.run, args.earliest, tonumber(args.most)

-- Whether a stands before b as Redis orders members of one score: byte by byte, whatever the server's locale.
local function is_less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local found = {}
for i = args.rest, #ARGV do
  local key = fn .. 'runs:' .. ARGV[i]
  local first = redis.call('ZCOUNT', key, '(' .. moment, '+inf')
  local past = run == '' and first or redis.call('ZCOUNT', key, moment, '+inf')
  while first < past do
    local middle = math.floor((first + past) / 2)
    if is_less(redis.call('ZREVRANGE', key, middle, middle)[1], run) then
      past = middle
    else
      first = middle + 1
    end
  end
  local last = math.min(first + most, redis.call('ZCOUNT', key, earliest, '+inf')) - 1
  found[#found + 1] = last >= first and redis.call('ZREVRANGE', key, first, last, 'WITHSCORES') or {}
end
return found
