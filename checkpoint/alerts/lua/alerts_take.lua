--[[ alerts_take: begin a round of looking whether there are alerts, if nobody else looks.

Why a script: one process looks at a time, whichever dies. Who has begun a round may write until another one is begun.

KEYS[1]  bus:alerts  hash  by, round, free (when another may begin, ms), and what is told of alerts
args.now  now, or empty for the server's clock
args.by  who asks
args.ms  for how long nobody else may begin one, ms

Returns {the round, 1}, or {the round of another, 0} ]]
-- flags: allow-oom
-- uses: clock
-- hash h: by round free
local h = redis.call('HMGET', KEYS[1], fields.h)
local now, round = server_now(args.now), tonumber(h.round or 0) or 0
local free = tonumber(h.free or 0) or 0
-- One that lies further ahead tells that the clock was set back since, or that it was written by hand.
if h.by and h.by ~= args.by and free > now and free <= now + 10 * args.ms then
  return { round, 0 }
end
redis.call('HSET', KEYS[1], 'by', args.by, 'round', as_text(round + 1), 'free', as_text(now + args.ms))
return { round + 1, 1 }
