-- facts: what people want to know of a function by the minute: how many of its runs have started and ended, how long that
-- took, and of which errors they failed. A script notes it while it goes through its runs, and writes it once, by tell_facts:
-- so runs of one call cost little more than one. What cannot be written (a key that is of another type by hand) stops no run.
-- All scripts that start or end runs pay for what is made here when they begin; so what errors need is made when there are any.
local counted, failed = {}, {} -- word -> bucket -> how many; what is told of an error, run, …
local floor, log, moment = math.floor, math.log, nil

-- `since`: when it began to take its time, if that is known. A third of a decade is a bucket: checkpoint/facts/buckets.py.
local function count_run(word, now, since)
  local buckets, bucket = counted[word], -1
  if not buckets then
    buckets = {}
    counted[word] = buckets
  end
  if since then
    moment = moment or tonumber(now) -- text is turned into a number once
    local ms = moment - since
    bucket = ms < 1 and 0 or floor(log(ms) * 1.302883445709755 + 1e-9) -- 3 / log(10)
  end
  buckets[bucket] = (buckets[bucket] or 0) + 1
end

-- hash known: *count *last *state
local function tell_errors(fn, now, minute)
  local KEPT, MOST, MOST_A_MINUTE = 2592000000, 500, 50 -- 30 days
  local MARK = 12 -- so many letters of what is told are the error's name, the rest describes it (checkpoint/facts/marks.py)
  local errors, erred, seen = fn .. 'errors', fn .. 'erred', {}

  local function forget(mark)
    redis.call('ZREM', erred, mark)
    redis.call('HDEL', errors, mark, mark .. ' count', mark .. ' first', mark .. ' last', mark .. ' run', mark .. ' state',
      mark .. ' until', mark .. ' regressed')
  end

  local function tell(mark, one)
    local known = redis.call('HMGET', errors, mark .. ' count', mark .. ' last', mark .. ' state')
    redis.call('HSET', errors, mark, one.about, mark .. ' count', (known.count or 0) + one.count, mark .. ' last', now,
      mark .. ' run', one.run)
    redis.call('ZADD', erred, now, mark)
    if known.state == 'resolved' then
      redis.call('HSET', errors, mark .. ' state', 'open', mark .. ' regressed', now)
    end
    if not known.last or now - known.last > 3600000 then
      redis.call('PEXPIRE', errors, KEPT)
      redis.call('PEXPIRE', erred, KEPT)
    end
    if not known.last then
      redis.call('HSET', errors, mark .. ' first', now)
      local more = redis.call('ZCARD', erred) - MOST
      for _, old in ipairs(more > 0 and redis.call('ZRANGE', erred, 0, more - 1) or {}) do
        forget(old)
      end
      for _, old in ipairs(redis.call('ZRANGEBYSCORE', erred, '-inf', now - KEPT, 'LIMIT', 0, 10)) do
        forget(old)
      end
    end
  end

  for i = 1, #failed, 2 do
    local mark = string.sub(failed[i], 1, MARK)
    local one = seen[mark] or { count = 0 }
    one.count, one.run, one.about = one.count + 1, failed[i + 1], string.sub(failed[i], MARK + 1)
    seen[mark] = one
  end
  for mark, one in pairs(seen) do
    if redis.call('HINCRBY', minute, 'e:' .. mark, one.count) == one.count
      and redis.call('HINCRBY', minute, 'errors', 1) > MOST_A_MINUTE then
      redis.call('HDEL', minute, 'e:' .. mark)
      redis.call('HINCRBY', minute, 'e:other', one.count)
    end
    tell(mark, one)
  end
end

local function tell_facts(fn, now)
  local minute
  for word, buckets in pairs(counted) do
    minute = minute or fn .. 'minute:' .. floor(now / 60000)
    for bucket, count in pairs(buckets) do
      local field = bucket < 0 and word or word .. ':' .. math.min(bucket, 23)
      if redis.pcall('HINCRBY', minute, field, count) == count then -- the field is new, and so the key may be
        redis.pcall('PEXPIRE', minute, 90000000) -- 25 h
      end
    end
  end
  if #failed > 0 then
    pcall(tell_errors, fn, now, minute)
  end
end
