--[[ run_progress: remember how far a run says it is.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run> is built from it
ARGV[1]  now, which this script does not need
ARGV[2]  run
ARGV[3]  fence
ARGV[4]  turn
ARGV[5]  progress, JSON

Returns mine, over, lost or absent ]]
-- flags: allow-oom
-- uses: status fence
local key = KEYS[1] .. 'run:' .. ARGV[2]
local h = redis.call('HMGET', key, 'status', 'fence', 'turn')
local word = owner(h[1], h[2], h[3], ARGV[3], ARGV[4])
if word == 'mine' then
  redis.call('HSET', key, 'progress', ARGV[5])
end
return word
