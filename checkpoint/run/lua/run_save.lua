--[[ run_save: record memos of steps, each once, if the caller still owns the run's turn.

Why a script: the owner check and the write must be one act, or a worker that lost its lease between them would
overwrite what its successor has done. Steps saved in one tick share a call: a run with ten is looked at once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  most steps of a run
ARGV[3]  most bytes of memos of a run
then for each step nine: run, fence, turn, step id, the memo's middle (`"kind":"run","attempts":1`), how long the body
took in ms, the memo's end (`"data":…` or `"error":…`), 1 when the step may be noted as open or 2 when what is noted goes
into the memo, highest n the caller knows

Returns for each step {'mine', n, cancel, news}, {'there', memo}, {'full', which}, {'over'}, {'lost'}, {'absent'}
or {'error', why} ]]
-- flags: allow-oom
-- uses: clock status fence news each was
local fn, now = KEYS[1], server_now(ARGV[1])
local runs = {}

local function looked_at(run)
  local h = runs[run]
  if not h then
    h = redis.call('HMGET', fn .. 'run:' .. run, 'status', 'fence', 'turn', 'size', 'wake', 'cancel', 'crashes', 'attempt')
    h.steps = h[1] and redis.call('HLEN', fn .. 'steps:' .. run) -- memos are never removed: their number is the last n
    runs[run] = h
  end
  return h
end

return each(4, 9, function(a)
  local run, step, result, known = ARGV[a], ARGV[a + 3], ARGV[a + 6], tonumber(ARGV[a + 8])
  local key, steps = fn .. 'run:' .. run, fn .. 'steps:' .. run
  local h = looked_at(run)
  local word = owner(h[1], h[2], h[3], ARGV[a + 1], ARGV[a + 2])
  if word ~= 'mine' then
    return { word }
  end
  local n = h.steps + 1
  if n > tonumber(ARGV[2]) then
    return { 'full', 'steps' }
  end
  -- Only what is big is counted: a thousand results under 1 kB are far from the limit, and the most common ones.
  local big = #result > 1024 and #result or 0
  if big > 0 and (tonumber(h[4]) or 0) + big > tonumber(ARGV[3]) then
    return { 'full', 'size' }
  end
  local open, opened = fn .. 'open:' .. run, ARGV[a + 7]
  local noted = opened == '2' and was(open, step) or ''
  local memo = '{"n":' .. n .. ',' .. ARGV[a + 4] .. noted .. ',"started":' .. now - ARGV[a + 5] .. ',"ended":' .. now .. ','
    .. result .. '}'
  if redis.call('HSETNX', steps, step, memo) == 0 then
    return { 'there', redis.call('HGET', steps, step) }
  end
  h.steps = n
  if big > 0 then
    h[4] = redis.call('HINCRBY', key, 'size', big)
  end
  if (h[7] and h[7] ~= '0') or (h[8] and h[8] ~= '0') then
    redis.call('HSET', key, 'crashes', '0', 'attempt', '0')
    redis.call('HDEL', key, 'charged')
    h[7], h[8] = '0', '0'
  end
  if opened ~= '0' then
    redis.call('HDEL', open, step)
  end
  local found = {}
  if h[5] and tonumber(h[5]) > known then
    found = news(fn, run, known, tonumber(h[5]))
  end
  return { 'mine', n, h[6] or '', found }
end)
