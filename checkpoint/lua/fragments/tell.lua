-- tell: an end that someone waits for goes to the stream `ends`: for the run's caller (`parent`), or for who hears of
-- ends with this status (`heard` holds their words). The courier carries it on; the entry names the caller, who is told even
-- when the run's record is gone by then.
local function tell(fn, run, status, parent, heard)
  if (parent and parent ~= '') or string.find(heard, status, 1, true) then
    redis.call('XADD', fn .. 'ends', '*', 'run', run, 'status', status, 'parent', parent or '')
  end
end
