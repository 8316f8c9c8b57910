-- gcra: allow one every `gap` ms, and `more` at once after a pause. Returns nil if allowed now, else the ms until then; a key's
-- state is the time at which it would be empty again.
-- uses: clock
local function put(key, now, full)
  redis.call('SET', key, string.format('%.3f', full), 'PX', math.max(1, math.ceil(full - now)))
end

local function must_wait(key, now, gap, more)
  local noted = tonumber(redis.call('GET', key) or 0)
  local full = at_most(noted, now, gap * (more + 1))
  if full < noted then
    put(key, now, full)
  end
  local wait = full - now - gap * more
  return wait > 0.01 and math.ceil(wait) or nil
end

local function went(key, now, gap)
  put(key, now, math.max(now, tonumber(redis.call('GET', key) or 0)) + gap)
end
