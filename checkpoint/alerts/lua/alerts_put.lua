--[[ alerts_put: write what was seen in a round, if no other has begun since.

Why a script: a process that was stopped in its round and goes on writes nothing over what others have seen since.

KEYS[1]  bus:alerts  hash  by, round, free, and what is told of alerts
args.now  now, or empty for the server's clock
args.by  who has begun the round
args.round  which one
args.ms  for how long nobody else may begin one from now on, ms

Returns 1, or 0 when another round has begun ]]
-- item: field value
-- flags: allow-oom
-- uses: clock each
-- hash h: by round
local h = redis.call('HMGET', KEYS[1], fields.h)
if h.by ~= args.by or h.round ~= args.round then
  return 0
end
redis.call('HSET', KEYS[1], 'free', as_text(server_now(args.now) + args.ms))
each(args.rest, item.width, function(a)
  if item.value == '' then
    redis.call('HDEL', KEYS[1], item.field)
  else
    redis.call('HSET', KEYS[1], item.field, item.value)
  end
  return 1
end)
return 1
