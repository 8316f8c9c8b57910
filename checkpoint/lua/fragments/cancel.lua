-- cancel: end a run that waits or is queued; ask the worker of one that runs to end it. Returns gone, ended, asked or cancelled.
-- uses: status withdraw finish
-- hash h: +ending turn entry
local function cancel_run(fn, run, now, keep, why, subscribed)
  local key = fn .. 'run:' .. run
  local h = redis.call('HMGET', key, fields.h)
  if not h.status then
    return 'gone'
  end
  if ENDED[h.status] then
    return 'ended'
  end
  if h.status == 'running' then
    redis.call('HSETNX', key, 'cancel', why)
    return 'asked'
  end
  withdraw(fn, run, h.turn, h.entry)
  conclude(fn, run, h, 'cancelled', now, keep, why, subscribed, '')
  return 'cancelled'
end
