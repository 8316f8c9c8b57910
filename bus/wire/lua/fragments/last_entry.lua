-- last_entry: the id of a stream's newest entry, also of one that was deleted since; 0-0 when there was none.
local function last_entry(stream)
  local about = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      return about[i + 1]
    end
  end
  return '0-0'
end
