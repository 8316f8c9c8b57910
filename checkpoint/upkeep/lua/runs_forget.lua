--[[ runs_forget: forget the oldest ended runs above the count, and index members that outlived their run.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, log:<run>, attempts:<run>, runs:<status> are built from it
args.now  now, ms, or empty for the server's clock
args.most  most runs that are kept, of all these statuses together
args.kept  a run is not forgotten within this long after its end, ms
args.look  most members to look at
args.status  the status to look at; they are told apart so that each call is short
args.passed  its members to pass over: an earlier call has looked at them, and they stay
then the statuses that are counted together

Returns {how many were forgotten, how many stay, how many there are above the count} ]]
-- uses: clock
local fn, now, look = KEYS[1], server_now(args.now), tonumber(args.look)
local index, over = fn .. 'runs:' .. args.status, -args.most
for i = args.rest, #ARGV do
  over = over + redis.call('ZCARD', fn .. 'runs:' .. ARGV[i])
end
local gone, stay = 0, 0
-- What was queued less than that long ago cannot have ended longer ago.
for _, run in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now - args.kept, 'LIMIT', args.passed, look)) do
  local key = fn .. 'run:' .. run
  local ended = redis.call('HGET', key, 'ended')
  local expired = not ended and redis.call('EXISTS', key) == 0
  if expired or (over > 0 and ended and now - ended > tonumber(args.kept)) then
    redis.call('DEL', key, fn .. 'steps:' .. run, fn .. 'open:' .. run, fn .. 'log:' .. run,
      fn .. 'attempts:' .. run)
    redis.call('ZREM', index, run)
    over, gone = over - 1, gone + 1
  elseif over <= 0 then
    break -- the oldest is there, and there is room: so are the younger ones
  else
    stay = stay + 1
  end
end
return { gone, stay, over }
