--[[ entries_claim: claim the pending entries of consumers without a lease, and released entries.

Why a script: looking at the lease, at the pending list and claiming are one act, so a second caller gets nothing
(XCLAIM alone is blind). A lease that is found to have ended is removed: its worker hears that it is lost. A consumer
left with nothing is removed, and only then, for what it has pending would go with it. How long an entry was idle is not
asked: the clock may have been set since it was delivered.

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
KEYS[2]  its slot's workers  zset  consumer -> end of lease
args.now  now, ms, or empty for the server's clock
args.group  group
args.consumer  my consumer
args.lease  lease, ms
args.most  most entries
args.sure  until when the caller is sure of this clock, ms (fragments/lease.lua)

Returns {entry id, whose it was, fields} for each ]]
-- flags: allow-oom
-- uses: lease
local stream, workers, now = KEYS[1], KEYS[2], server_now(args.now)
local group, me, lease, left = args.group, args.consumer, tonumber(args.lease), tonumber(args.most)
if not may_judge(now, args.sure) then
  return {}
end
local summary = redis.call('XPENDING', stream, group)
local taken = {}
for _, holder in ipairs(summary[4] or {}) do
  local consumer = holder[1]
  local is_released = consumer == '@released'
  if left > 0 and (is_released or (consumer ~= me and is_over(workers, consumer, now, lease))) then
    redis.call('ZREM', workers, consumer)
    local rows = redis.call('XPENDING', stream, group, '-', '+', left, consumer)
    for _, row in ipairs(rows) do
      local claimed = redis.call('XCLAIM', stream, group, me, 0, row[1])
      if claimed[1] and claimed[1][2] then
        taken[#taken + 1] = { claimed[1][1], consumer, claimed[1][2] }
        left = left - 1
      end
    end
    if not is_released and #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    end
  end
end
return taken
