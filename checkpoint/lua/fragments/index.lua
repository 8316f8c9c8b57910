-- index: move a run between the zsets by status; the score stays when it was queued.
local function move(fn, run, from, to, queued)
  if from and from ~= to then
    redis.call('ZREM', fn .. 'runs:' .. from, run)
  end
  redis.call('ZADD', fn .. 'runs:' .. to, queued, run)
end
