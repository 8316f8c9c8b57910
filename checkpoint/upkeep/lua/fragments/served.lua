-- served: when each of `all` was last looked after by a worker: a zset, name -> ms. `mine` (a set) are looked after now.
-- `@looked` is when anybody looked. What passed while nobody did, for more than a day, counts against no one: no worker was
-- there at all. Returns ms since then, by name.
local UNSEEN = 86400000

local function served(key, now, mine, all)
  local gap = now - (redis.call('ZSCORE', key, '@looked') or now)
  local last, since = {}, {}
  for _, name in ipairs(all) do
    local at = tonumber(redis.call('ZSCORE', key, name) or now)
    if gap > UNSEEN then
      at = at + gap
    end
    last[name] = mine[name] and now or math.min(at, now)
    since[name] = now - last[name]
  end
  redis.call('DEL', key)
  redis.call('ZADD', key, now, '@looked')
  for name, at in pairs(last) do
    redis.call('ZADD', key, at, name)
  end
  return since
end
