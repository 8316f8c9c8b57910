-- withdraw: remove the holder of a run that ends without being in hand: its timer, or its place in a backlog.
local function withdraw(fn, run, turn, entry)
  redis.call('ZREM', fn .. 'timers', run .. ':' .. turn)
  local hold = entry and string.match(entry, '^backlog|(.+)$')
  if hold then
    redis.call('ZREM', fn .. 'backlog:' .. hold, run)
    local first = redis.call('ZRANGE', fn .. 'backlog:' .. hold, 0, 0, 'WITHSCORES')
    leave_line(fn, run, hold, first[1], first[2])
  end
end
