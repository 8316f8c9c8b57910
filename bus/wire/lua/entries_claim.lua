--[[ entries_claim: take over what consumers without a lease have pending, and what was given back.

Why a script: looking at the lease, at the pending list and claiming are one act, so a second caller gets nothing
(XCLAIM alone is blind, reliability T1). A consumer left with nothing is removed, and only then (T10).

KEYS[1]  bus:events:{<event>} or bus:fn:{<fn>}:queue  stream
KEYS[2]  its slot's workers  zset  consumer -> end of lease
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  group
ARGV[3]  my consumer
ARGV[4]  least idle ms of an entry whose consumer has no lease
ARGV[5]  most entries

Returns {entry id, whose it was, fields} for each ]]
-- flags: allow-oom
-- uses: clock
local stream, workers, now = KEYS[1], KEYS[2], server_now(ARGV[1])
local group, me, left = ARGV[2], ARGV[3], tonumber(ARGV[5])
local summary = redis.call('XPENDING', stream, group)
local taken = {}
for _, holder in ipairs(summary[4] or {}) do
  local consumer, idle = holder[1], nil
  if consumer == '@released' then
    idle = 0
  elseif consumer ~= me and (tonumber(redis.call('ZSCORE', workers, consumer) or 0)) < now then
    idle = ARGV[4]
  end
  if idle and left > 0 then
    local rows = redis.call('XPENDING', stream, group, 'IDLE', idle, '-', '+', left, consumer)
    for _, row in ipairs(rows) do
      local claimed = redis.call('XCLAIM', stream, group, me, idle, row[1])
      if claimed[1] and claimed[1][2] then
        taken[#taken + 1] = { claimed[1][1], consumer, claimed[1][2] }
        left = left - 1
      end
    end
    if consumer ~= '@released' and #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    end
  end
end
return taken
