--[[ timers_fire: runs whose timer is due get a queue entry; members that no run waits for any more are dropped.

Why a script: the entry, the run's status and the timer's removal are one act, so no crash loses or doubles a turn.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, buffer:<key>, backlog:<key> and others are built
args.now  now, ms, or empty for the server's clock
args.most  most members to look at

Returns {turns added, members looked at, ms until the next is due or -1, members that make no sense: they are dropped} ]]
-- hash h: status turn queued holds rank
-- uses: clock many places queue buffer
local fn, now = KEYS[1], server_now(args.now)
local timers = fn .. 'timers'
local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, args.most)
local added, bad = 0, {}
local left, index = {}, {} -- runs that wait no longer, and what the index `queued` is told of them: all at once

local function fire(member)
  local kind, name = string.match(member, '^(%l+)|(.+)$')
  if kind == 'buffer' then -- debounce or batch: its time is over
    release(fn, name)
    added = added + 1
  elseif kind == 'limit' then -- throttle: the first in line may be tried again
    ready(fn, name)
    tell_ready(fn)
    ring(fn, 'throttle')
    added = added + 1
  else
    local run, turn = string.match(member, '^(.+):(%d+)$')
    if not run then
      error('no turn')
    end
    local key = fn .. 'run:' .. run
    local h = redis.call('HMGET', key, fields.h)
    if h.status == 'waiting' and h.turn == turn then
      redis.call('HSET', key, 'status', 'queued', 'entry', enqueue(fn, run, turn, 'timer', h.holds, h.rank))
      left[#left + 1] = run
      index[#index + 1] = tonumber(h.queued) and h.queued or 0
      index[#index + 1] = run
      added = added + 1
    end
  end
end

for _, member in ipairs(due) do
  if not pcall(fire, member) then -- added by hand, or its run is no hash: it stops no other
    bad[#bad + 1] = member
  end
end
many(due, 1, 'ZREM', timers)
many(left, 1, 'ZREM', fn .. 'runs:waiting')
many(index, 1, 'ZADD', fn .. 'runs:queued')
local next = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
return { added, #due, next[2] and math.max(0, next[2] - now) or -1, bad }
