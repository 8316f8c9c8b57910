-- facts: what people want to know of a function by the minute: how many of its runs have started and ended, how long that
-- took, and of which errors they failed. A script notes it while it goes through its runs, and writes it once, by tell_facts:
-- so runs of one call cost as much as one. What cannot be written (a key that is of another type by hand) stops no run.
local KEPT, ERRORS_KEPT, MOST_ERRORS, MOST_A_MINUTE = 90000000, 2592000000, 500, 50 -- 25 h, 30 days
local MARK = 12 -- so many letters of what is told of an error are its name, the rest describes it (checkpoint/facts/marks.py)
local A_THIRD = 3 / math.log(10)
local counted, failed = {}, {}

-- `ms`: how long it took, if it is known. A third of a decade is a bucket: checkpoint/facts/buckets.py.
local function count_run(word, ms)
  if ms then
    word = word .. ':' .. (ms < 1 and 0 or math.min(23, math.floor(math.log(ms) * A_THIRD + 1e-9)))
  end
  counted[word] = (counted[word] or 0) + 1
end

-- A run has failed of an error.
local function count_error(told, run)
  local mark = string.sub(told, 1, MARK)
  local one = failed[mark] or { count = 0 }
  one.count, one.run, one.about = one.count + 1, run, string.sub(told, MARK + 1)
  failed[mark] = one
end

local function forget_error(fn, mark)
  redis.call('ZREM', fn .. 'erred', mark)
  redis.call('HDEL', fn .. 'errors', mark, mark .. ' count', mark .. ' first', mark .. ' last', mark .. ' run', mark .. ' state',
    mark .. ' until', mark .. ' regressed')
end

-- hash known: *count *last *state
local function tell_error(fn, now, mark, one)
  local errors, erred = fn .. 'errors', fn .. 'erred'
  local known = redis.call('HMGET', errors, mark .. ' count', mark .. ' last', mark .. ' state')
  redis.call('HSET', errors, mark, one.about, mark .. ' count', (known.count or 0) + one.count, mark .. ' last', now,
    mark .. ' run', one.run)
  redis.call('ZADD', erred, now, mark)
  if known.state == 'resolved' then
    redis.call('HSET', errors, mark .. ' state', 'open', mark .. ' regressed', now)
  end
  if not known.last or now - known.last > 3600000 then
    redis.call('PEXPIRE', errors, ERRORS_KEPT)
    redis.call('PEXPIRE', erred, ERRORS_KEPT)
  end
  if not known.last then
    redis.call('HSET', errors, mark .. ' first', now)
    local more = redis.call('ZCARD', erred) - MOST_ERRORS
    for _, old in ipairs(more > 0 and redis.call('ZRANGE', erred, 0, more - 1) or {}) do
      forget_error(fn, old)
    end
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', erred, '-inf', now - ERRORS_KEPT, 'LIMIT', 0, 10)) do
      forget_error(fn, old)
    end
  end
end

-- Returns whether the field is new.
local function add(minute, field, count)
  return redis.call('HINCRBY', minute, field, count) == count
end

local function tell_minute(fn, now)
  local minute, is_new = fn .. 'minute:' .. math.floor(now / 60000), false
  for word, count in pairs(counted) do
    is_new = add(minute, word, count) or is_new
  end
  for mark, one in pairs(failed) do
    if add(minute, 'e:' .. mark, one.count) and redis.call('HINCRBY', minute, 'errors', 1) > MOST_A_MINUTE then
      redis.call('HDEL', minute, 'e:' .. mark)
      redis.call('HINCRBY', minute, 'e:other', one.count)
    end
  end
  if is_new then
    redis.call('PEXPIRE', minute, KEPT)
  end
end

local function tell_facts(fn, now)
  if next(counted) then
    pcall(tell_minute, fn, now)
    for mark, one in pairs(failed) do
      pcall(tell_error, fn, now, mark, one)
    end
  end
end
