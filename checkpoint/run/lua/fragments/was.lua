-- was: what a step that waited was while it was open, for its memo: since when, for what. It goes in as it stands there.
local function was(open, step)
  local noted = redis.call('HGET', open, step)
  return noted and ',"was":' .. noted or ''
end
