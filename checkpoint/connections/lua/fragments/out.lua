-- out: a call leaves the line and its worker's hand. The prefix of its application's keys, its id, its entry in the line
-- and its connection (each as HMGET reads it: false where it has none).
local function take_out(prefix, id, entry, connection)
  if entry then
    redis.call('XDEL', prefix .. 'requests', entry)
  end
  if connection then
    redis.call('HDEL', prefix .. 'worker:' .. connection, 'call ' .. id)
  end
end
