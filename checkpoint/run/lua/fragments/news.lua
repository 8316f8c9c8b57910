-- news: the memos that came from outside while the turn was under way, as step id and memo: those whose n is above `known`.
-- `wake` is the n of the newest, `wake:<n>` the step of each.
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
