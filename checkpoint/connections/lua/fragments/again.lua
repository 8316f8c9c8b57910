-- again: a call that has begun nowhere waits again for a worker. The prefix of its application's keys, its id, function
-- and run, and how long it stands, ms.
local function wait_again(prefix, id, slug, run, for_ms)
  local requests, call = prefix .. 'requests', prefix .. 'call:' .. id
  local entry = redis.call('XADD', requests, '*', 'call', id, 'function', slug, 'run', run)
  redis.call('PEXPIRE', requests, 86400000)
  redis.call('HDEL', call, 'gateway', 'ends')
  redis.call('HSET', call, 'state', 'waiting', 'entry', entry)
  redis.call('PEXPIRE', call, for_ms)
end
