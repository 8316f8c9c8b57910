--[[ runs_uncharge: a worker was taken for dead and is not: its runs are not charged with a crash, or no longer.

Why a script: whether the charge was made, will be, or was wiped by a new memo is looked at and changed in one act.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run> is built from it
args.now  now, which this script does not need
args.consumer  the consumer whose lease had ended
then the runs it had in hand

Returns how many charges were taken back ]]
-- hash h: status worker crashes charged
local fn, back = KEYS[1], 0
for i = args.rest, #ARGV do
  local key = fn .. 'run:' .. ARGV[i]
  local h = redis.call('HMGET', key, fields.h)
  if h.status == 'running' and h.worker == args.consumer then -- whoever claims it finds nobody to blame
    redis.call('HSET', key, 'worker', '')
  elseif h.charged then
    local others, found = {}, false
    for consumer in string.gmatch(h.charged, '[^\n]+') do
      if consumer == args.consumer and not found then
        found = true
      else
        others[#others + 1] = consumer .. '\n'
      end
    end
    if found then
      redis.call('HSET', key, 'charged', table.concat(others), 'crashes', math.max(0, tonumber(h.crashes or 0) - 1))
      back = back + 1
    end
  end
end
return back
