-- tell: an end that someone waits for goes to the stream `ends`: for the run's caller (`parent`), or for the
-- subscribers of ends with this status (`subscribed` holds those). The courier carries it on; the entry names the
-- caller, who is told even when the record of the run is gone by then.
local function tell(fn, run, status, parent, subscribed)
  if (parent and parent ~= '') or (subscribed ~= '' and string.find(subscribed, status, 1, true)) then
    redis.call('XADD', fn .. 'ends', '*', 'run', run, 'status', status, 'parent', parent or '')
  end
end
