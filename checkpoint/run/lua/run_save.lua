--[[ run_save: record memos of steps, each once, if the caller still owns the run's turn.

Why a script: the owner check and the write must be one act, or a worker that lost its lease between them would
overwrite what its successor has done. Steps saved in one tick share a call: a run with ten is looked at once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run> are built from it
args.now  now, ms, or empty for the server's clock
args.most_steps  most steps of a run
args.most_bytes  most bytes of memos of a run
then for each step nine: run, fence, turn, step id, the memo's middle (`"kind":"run","attempts":1`), how long the body
took in ms, the memo's end (`"data":…` or `"error":…`), 1 when the step may be noted as open or 2 when what is noted goes
into the memo, highest n the caller knows

Returns for each step {'mine', n, cancel, news}, {'there', memo}, {'full', which}, {'over'}, {'lost'}, {'absent'}
or {'error', why} ]]
-- item: run fence turn step middle took result opened known
-- hash h: status fence turn size wake cancel crashes attempt
-- flags: allow-oom
-- uses: clock status fence news each memo
local fn, now = KEYS[1], server_now(args.now)
local runs, counts = {}, {}

local function looked_at(run)
  local h = runs[run]
  if not h then
    h = redis.call('HMGET', fn .. 'run:' .. run, fields.h)
    counts[run] = h.status and redis.call('HLEN', fn .. 'steps:' .. run) -- memos are never removed: their number is the last n
    runs[run] = h
  end
  return h
end

return each(item.first, item.width, function(a)
  local run, step, result, known = item.run, item.step, item.result, tonumber(item.known)
  local key, steps = fn .. 'run:' .. run, fn .. 'steps:' .. run
  local h = looked_at(run)
  local word = owner(h.status, h.fence, h.turn, item.fence, item.turn)
  if word ~= 'mine' then
    return { word }
  end
  local n = counts[run] + 1
  if n > tonumber(args.most_steps) then
    return { 'full', 'steps' }
  end
  -- Only what is big is counted: a thousand results under 1 kB are far from the limit, and the most common ones.
  local big = #result > 1024 and #result or 0
  if big > 0 and (tonumber(h.size) or 0) + big > tonumber(args.most_bytes) then
    return { 'full', 'size' }
  end
  local open, opened = fn .. 'open:' .. run, item.opened
  local noted = opened == '2' and was(open, step) or ''
  local memo = memo_json(n, item.middle, noted, now - item.took, now, result)
  if redis.call('HSETNX', steps, step, memo) == 0 then
    return { 'there', redis.call('HGET', steps, step) }
  end
  counts[run] = n
  if big > 0 then
    h.size = redis.call('HINCRBY', key, 'size', big)
  end
  if (h.crashes and h.crashes ~= '0') or (h.attempt and h.attempt ~= '0') then
    redis.call('HSET', key, 'crashes', '0', 'attempt', '0')
    redis.call('HDEL', key, 'charged')
    h.crashes, h.attempt = '0', '0'
  end
  if opened ~= '0' then
    redis.call('HDEL', open, step)
  end
  local found = {}
  if h.wake and tonumber(h.wake) > known then
    found = news(fn, run, known, tonumber(h.wake))
  end
  return { 'mine', n, h.cancel or '', found }
end)
