-- facts: what people want to know of a function by the minute: how many of its runs have started and ended, how long that
-- took, and of which errors they failed. A script notes it while it goes through its runs, and writes it once, by tell_facts:
-- so runs of one call cost little more than one. What cannot be written (a key that is of another type by hand) stops no run.
-- All scripts that start or end runs pay for what is done here, most of them for one run. A closure, each local that closures
-- share, a table, and a number that is turned into text cost a tenth of HINCRBY or more: so there are as few as can be.
local counted -- the only field; once there are two, or it has come twice, a table: field -> how many
local failed -- if any: what is told of an error, run, …

-- `since`: when it began to take its time, if that is known. A third of a decade is a bucket: checkpoint/facts/buckets.py.
local function count_run(word, now, since)
  local field = word
  if since then
    local ms = now - since
    if ms < 3 then field = word .. ':0' elseif ms < 5 then field = word .. ':1'
    elseif ms < 10 then field = word .. ':2' elseif ms < 22 then field = word .. ':3'
    elseif ms < 47 then field = word .. ':4' elseif ms < 100 then field = word .. ':5'
    elseif ms < 216 then field = word .. ':6' elseif ms < 465 then field = word .. ':7'
    elseif ms < 1000 then field = word .. ':8' elseif ms < 2155 then field = word .. ':9'
    elseif ms < 4642 then field = word .. ':10' elseif ms < 10000 then field = word .. ':11'
    elseif ms < 21545 then field = word .. ':12' elseif ms < 46416 then field = word .. ':13'
    elseif ms < 100000 then field = word .. ':14' elseif ms < 215444 then field = word .. ':15'
    elseif ms < 464159 then field = word .. ':16' elseif ms < 1000000 then field = word .. ':17'
    elseif ms < 2154435 then field = word .. ':18' elseif ms < 4641589 then field = word .. ':19'
    elseif ms < 10000000 then field = word .. ':20' elseif ms < 21544347 then field = word .. ':21'
    elseif ms < 46415889 then field = word .. ':22' else field = word .. ':23' end
  end
  if not counted then
    counted = field
    return
  end
  if type(counted) == 'string' then
    counted = { [counted] = 1 }
  end
  counted[field] = (counted[field] or 0) + 1
end

local function tell_facts(fn, now)
  if not counted then
    return
  end
  local minute = fn .. 'minute:' .. string.format('%d', now / 60000)
  if type(counted) == 'string' then
    if redis.pcall('HINCRBY', minute, counted, '1') == 1 then -- it is new: the key may be, too
      redis.pcall('PEXPIRE', minute, 90000000) -- 25 h
    end
  else
    for field, count in pairs(counted) do
      if redis.pcall('HINCRBY', minute, field, count) == count then
        redis.pcall('PEXPIRE', minute, 90000000)
      end
    end
  end
  if failed then
-- hash known: *count *last *state
    local function tell_errors()
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
    pcall(tell_errors)
  end
end
