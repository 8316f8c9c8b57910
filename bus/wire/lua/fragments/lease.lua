-- lease: leases are the members of a zset, scored by when they end. That one has ended is for a judge to say: a worker whose
-- own leases have gone on for a while, and who brings `sure`, until when its idea of this clock holds (0: it has none). When
-- the clock was set forth, all leases seem over and none is: nobody judges until every living worker has renewed.
-- uses: clock
local FAR = 6 -- workers' leases may differ so much in length

local function may_judge(now, sure)
  return now <= tonumber(sure)
end

-- Whether a lease has ended. One that lies too far ahead was given before the clock was set back: it gets one from now.
local function is_over(leases, member, now, lease)
  local ends = tonumber(redis.call('ZSCORE', leases, member) or 0)
  if ends > now + FAR * lease then
    redis.call('ZADD', leases, now + lease, member)
  end
  return ends < now
end

-- Drop the leases that have ended.
local function drop_over(leases, now, lease, sure)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, now + FAR * lease, '+inf')) do
    is_over(leases, member, now, lease)
  end
  if may_judge(now, sure) then
    redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  end
end
