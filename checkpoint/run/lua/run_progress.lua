--[[ run_progress: store a run's progress.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run> is built from it
args.now  now, which this script does not need
args.run  run
args.fence  fence
args.turn  turn
args.progress  progress, JSON

Returns mine, over, lost or absent ]]
-- flags: allow-oom
-- uses: status fence
local key = KEYS[1] .. 'run:' .. args.run
local word = owner_of(key, args.fence, args.turn)
if word == 'mine' then
  redis.call('HSET', key, 'progress', args.progress)
end
return word
