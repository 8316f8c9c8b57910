-- news: the memos that were resolved from outside while their turn lived, above the `known` ones, as step id and memo. `wake`
-- is the newest one's n, `wake:<n>` the step of each.
local function news(fn, run, known, wake)
  local found = {}
  for n = known + 1, wake do
    local step = redis.call('HGET', fn .. 'run:' .. run, 'wake:' .. n)
    if step then
      found[#found + 1] = step
      found[#found + 1] = redis.call('HGET', fn .. 'steps:' .. run, step)
    end
  end
  return found
end
