-- memo: a step's memo, joined from what its writer knows (checkpoint/run/memo.py: middle_of, result_of) and what only the
-- server does: its place among the run's memos, and when.
local function memo_json(n, middle, was, started, ended, result)
  return '{"n":' .. n .. ',' .. middle .. was .. ',"started":' .. started .. ',"ended":' .. ended .. ',' .. result .. '}'
end

-- What was noted of a step while it was open, since when and for what it waited; it goes into the memo as it stands.
local function was(open, step)
  local noted = redis.call('HGET', open, step)
  return noted and ',"was":' .. noted or ''
end
