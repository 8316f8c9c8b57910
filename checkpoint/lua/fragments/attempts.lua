-- attempts: what became of attempts of a run's code that failed, for people: the newest twenty. What cannot be written stops
-- no run.
local MOST_ATTEMPTS = 20

local function add_attempt(fn, run, now, attempt)
  local key = fn .. 'attempts:' .. run
  local last = redis.call('LRANGE', key, -1, -1)[1]
  if last and string.sub(last, -#attempt) == attempt then
    return -- the repeat of a call whose answer was lost
  end
  if redis.call('RPUSH', key, '{"ended":' .. now .. ',' .. attempt) > MOST_ATTEMPTS then
    redis.call('LPOP', key)
  end
  redis.call('HSET', fn .. 'run:' .. run, 'attempted', '1') -- its end gives them a time to live
end

-- `attempt` is JSON without its beginning (checkpoint/facts/attempts.py), or empty: none has failed.
local function note_attempt(fn, run, now, attempt)
  if attempt ~= '' then
    pcall(add_attempt, fn, run, now, attempt)
  end
end
