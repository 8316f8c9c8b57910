--[[ backlogs_retry: let full backlogs be tried again, should nobody have told that there is a place; forget empty ones.

KEYS[1]  bus:fn:{<fn>}:  prefix  full, ready, backlog:<key> are built from it
args.now  now, which this script does not need
args.most  most lines to look at

Returns how many are tried again ]]
-- uses: places
local fn, again = KEYS[1], 0
for _, limit_key in ipairs(redis.call('ZRANGE', fn .. 'full', 0, args.most - 1)) do
  redis.call('ZREM', fn .. 'full', limit_key)
  if redis.call('EXISTS', fn .. 'backlog:' .. limit_key) == 1 then
    ready(fn, limit_key)
    again = again + 1
  end
end
tell_ready(fn)
return again
