-- memo: a step's memo, joined from what its writer knows (checkpoint/run/memo.py: middle_of, result_of) and what only the
-- server does: its place among the run's memos, and when.
local function memo_json(n, middle, was, started, ended, result)
  return '{"n":' .. n .. ',' .. middle .. was .. ',"started":' .. started .. ',"ended":' .. ended .. ',' .. result .. '}'
end

-- What a step that waited was while it was open: since when, for what. It goes into the memo as it stands there.
local function was(open, step)
  local noted = redis.call('HGET', open, step)
  return noted and ',"was":' .. noted or ''
end
