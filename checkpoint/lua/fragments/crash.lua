-- crash: a run is charged with the death of the worker it was claimed from. `charged` names that worker's consumers, a
-- line each: one that was only stopped takes its charge back when it goes on (runs_uncharge).
-- Returns the crashes so far.
local function charge(key, owner, status, worker, crashes, charged)
  local count = tonumber(crashes or 0)
  if owner == '' or owner ~= worker or status ~= 'running' then
    return count
  end
  redis.call('HSET', key, 'crashes', count + 1, 'worker', '', 'charged', (charged or '') .. owner .. '\n')
  return count + 1
end
