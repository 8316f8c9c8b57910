-- news: the memos above `known`, as step id and memo, for a turn that was resolved from outside while it lived.
local function news(fn, run, known)
  local memos = redis.call('HGETALL', fn .. 'steps:' .. run)
  local found = {}
  for i = 1, #memos, 2 do
    local n = tonumber(string.match(memos[i + 1], '^{"n":(%d+)'))
    if n > known then
      found[#found + 1] = memos[i]
      found[#found + 1] = memos[i + 1]
    end
  end
  return found
end
