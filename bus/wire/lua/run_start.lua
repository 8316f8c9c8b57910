--[[ run_start: entries were delivered to a worker; which of their runs may have their code run, and from where.

Why a script: the decision and the new fence must be one act, or two workers that hold entries of one run would both
run it. No user code runs before its answer. docs/state-machine.md has the table.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  the function's code version
ARGV[3]  how long an ended run is kept, ms
ARGV[4]  how many suspects (2 crashes or more) this worker may start now
ARGV[5]  crashes that end a run
then for each entry nine: run, entry's turn, entry, consumer it was claimed from or empty, my consumer, fence,
event JSON or empty, source, queued ms

Returns for each entry {word}, or {'go', turn, now} for a new run, or {'go', turn, now, attempt, crashes, wake, event,
memos, open} for one that has begun before ]]
-- uses: clock status index finish
local fn, now = KEYS[1], server_now(ARGV[1])
local code, keep, suspects, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function created(key, a)
  redis.call('HSET', key, 'format', '1', 'status', 'running', 'source', ARGV[a + 7], 'event', ARGV[a + 6], 'turn', '1',
    'entry', ARGV[a + 2], 'fence', ARGV[a + 5], 'worker', ARGV[a + 4], 'code', code, 'queued', ARGV[a + 8],
    'started', now)
  move(fn, ARGV[a], nil, 'running', ARGV[a + 8])
  return { 'go', '1', now }
end

local function refused(run, a)
  local turn, status = tonumber(run[2]), run[1]
  local given = tonumber(ARGV[a + 1])
  if ENDED[status] then
    return 'ended'
  end
  if run[6] and run[6] ~= '' then
    finish(fn, ARGV[a], status, 'cancelled', run[7], now, keep, 'error', run[6])
    return 'cancelled'
  end
  if given < turn then
    return 'stale'
  end
  if given == turn and status ~= 'waiting' and run[3] ~= ARGV[a + 2] then
    return 'elsewhere'
  end
end

-- A crash: the entry was claimed from the very worker whose fence the run carries.
local function crashes(key, run, a)
  local count = tonumber(run[5] or 0)
  if ARGV[a + 3] ~= '' and ARGV[a + 3] == run[4] and run[1] == 'running' then
    count = redis.call('HINCRBY', key, 'crashes', 1)
    redis.call('HSET', key, 'worker', '')
  end
  return count
end

local answers = {}
for a = 6, #ARGV, 9 do
  local key = fn .. 'run:' .. ARGV[a]
  local run = redis.call('HMGET', key, 'status', 'turn', 'entry', 'worker', 'crashes', 'cancel', 'queued', 'attempt',
    'wake', 'event', 'started')
  local word, answer = nil, nil
  if not run[1] then
    if ARGV[a + 6] == '' then
      word = 'gone'
    else
      answer = created(key, a)
    end
  else
    word = refused(run, a)
  end
  if run[1] and not word then
    local count = crashes(key, run, a)
    if count >= most then
      finish(fn, ARGV[a], run[1], 'failed', run[7], now, keep, 'error',
        '{"name":"worker_crash","message":"the worker process died ' .. count .. ' times in a row while it ran this"}')
      word = 'crashed'
    elseif count >= 2 and suspects < 1 then
      word = 'suspect'
    else
      if count >= 2 then
        suspects = suspects - 1
      end
      redis.call('HSET', key, 'status', 'running', 'fence', ARGV[a + 5], 'worker', ARGV[a + 4], 'entry', ARGV[a + 2],
        'started', run[11] or now)
      move(fn, ARGV[a], run[1], 'running', run[7])
      answer = { 'go', run[2], now, run[8] or '0', count, run[9] or '0', run[10],
        redis.call('HGETALL', fn .. 'steps:' .. ARGV[a]), redis.call('HGETALL', fn .. 'open:' .. ARGV[a]) }
    end
  end
  answers[#answers + 1] = answer or { word }
end
return answers
