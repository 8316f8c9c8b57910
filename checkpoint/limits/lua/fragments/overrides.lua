-- overrides: limits that people have set otherwise until a time, as the caller has heard of them: a line each,
-- `<limit key> <until ms> <number> <number>`. A key without a value (`c0`, `t`, `r`) is about every value that has no line of
-- its own. The numbers are what the rule has: of a concurrency its most runs, of a throttle or a rate limit `gap` and `more`.
local function overrides(text, now)
  local found = {}
  if text ~= '' then
    for limit_key, over, first, second in string.gmatch(text, '(%S+) (%d+) (%S+) (%S+)') do
      if now < tonumber(over) then
        found[limit_key] = { tonumber(first), tonumber(second) }
      end
    end
  end
  return found
end

local function most_of(found, limit_key, most)
  local other = found[limit_key] or found[string.sub(limit_key, 1, 2)]
  return other and other[1] or tonumber(most)
end

local function pace_of(found, limit_key, gap, more)
  local other = found[limit_key] or found[string.sub(limit_key, 1, 1)]
  if other then
    return other[1], other[2]
  end
  return gap, more
end
