-- withdraw: remove the holder of a run that ends without being in hand: its timer, or its place in a backlog.
local function withdraw(fn, run, turn, entry)
  redis.call('ZREM', fn .. 'timers', run .. ':' .. turn)
  local limit_key = entry and string.match(entry, '^backlog|(.+)$')
  if limit_key then
    redis.call('ZREM', fn .. 'backlog:' .. limit_key, run)
    local first = redis.call('ZRANGE', fn .. 'backlog:' .. limit_key, 0, 0, 'WITHSCORES')
    leave_line(fn, run, limit_key, first[1], first[2])
  end
end
