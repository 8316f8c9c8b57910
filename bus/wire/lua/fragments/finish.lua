-- finish: write a run's end: status, output or error, index, and when its three keys expire.
local function finish(fn, run, from, to, queued, now, keep, field, value)
  local key = fn .. 'run:' .. run
  redis.call('HSET', key, 'status', to, 'ended', now, 'entry', '', field, value)
  redis.call('PEXPIRE', key, keep)
  redis.call('PEXPIRE', fn .. 'steps:' .. run, keep)
  redis.call('DEL', fn .. 'open:' .. run)
  move(fn, run, from, to, queued)
end
