-- buffer: events that will be one run: the latest of several (d:<key>, debounce) or all of them (b:<key>, batch). `release`
-- queues the run they make; its entry brings the event, a batch's all of them in `batch`, a list. `buffered` tells by the run's id.
-- hash b: run event n
local function empty_buffer(fn, name, run)
  redis.call('DEL', fn .. 'buffer:' .. name)
  redis.call('HDEL', fn .. 'buffered', run)
  redis.call('ZREM', fn .. 'timers', 'buffer|' .. name)
end

local function release(fn, name)
  local buffer = fn .. 'buffer:' .. name
  local b = redis.call('HMGET', buffer, fields.b)
  if b.run then
    if b.n then
      local all = {}
      for i = 1, tonumber(b.n) do
        all[i] = redis.call('HGET', buffer, 'e:' .. i)
      end
      redis.call('XADD', fn .. 'queue', '*', 'run', b.run, 'turn', '1', 'why', 'batch', 'source', 'batch', 'event', all[1],
        'parent', '', 'batch', '[' .. table.concat(all, ',') .. ']')
    else
      redis.call('XADD', fn .. 'queue', '*', 'run', b.run, 'turn', '1', 'why', 'debounce', 'source', 'debounce', 'event', b.event,
        'parent', '')
    end
  end
  empty_buffer(fn, name, b.run or '')
end
