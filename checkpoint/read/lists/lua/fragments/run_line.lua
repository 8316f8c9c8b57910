-- run_line: what a list shows of a run, as much of its event, error and output as is wanted, and what is small of it.
-- hash h: status queued started ended turn attempt crashes worker code source parent why by rerun_of holds reran
local function start_of(key, field, bytes)
  local text = bytes ~= '0' and redis.call('HGET', key, field) or ''
  return string.sub(text, 1, tonumber(bytes))
end

-- Puts what is small behind what was found of the run; false when it is gone.
local function add_line(found, key)
  local h = redis.call('HMGET', key, fields.h)
  if not (h.status or h.queued) then
    return false
  end
  for _, value in ipairs(h) do
    found[#found + 1] = value
  end
  return true
end
