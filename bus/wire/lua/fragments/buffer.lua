-- buffer: events that will be one run: the latest of several (d:<key>, debounce) or all of them (b:<key>, batch). `release`
-- queues the run they make; its entry brings the event, a batch's with all others in `batch`.
local function release(fn, name)
  local buffer = fn .. 'buffer:' .. name
  local b = redis.call('HMGET', buffer, 'run', 'event', 'n')
  if b[1] then
    local event, why = b[2], 'debounce'
    if string.sub(name, 1, 2) == 'b:' then
      local all = {}
      for i = 1, tonumber(b[3]) do
        all[i] = redis.call('HGET', buffer, 'e:' .. i)
      end
      event, why = string.sub(all[1], 1, -2) .. ',"batch":[' .. table.concat(all, ',') .. ']}', 'batch'
    end
    redis.call('XADD', fn .. 'queue', '*', 'run', b[1], 'turn', '1', 'why', why, 'source', why, 'event', event, 'parent', '')
    redis.call('DEL', buffer)
  end
  redis.call('ZREM', fn .. 'timers', 'buffer|' .. name)
end
