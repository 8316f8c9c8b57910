--[[ runs_tidy: forget the oldest ended runs above the count, and index members that outlived their run, limits nobody waits for.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, full, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  most runs that are kept: of completed, cancelled and skipped together, and of failed
ARGV[3]  a run is not forgotten within this long after its end, ms
ARGV[4]  most members to look at

Returns how many were forgotten ]]
-- uses: clock
local fn, now, most, look = KEYS[1], server_now(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local gone = 0

local function tidy(statuses)
  local over = -most
  for _, status in ipairs(statuses) do
    over = over + redis.call('ZCARD', fn .. 'runs:' .. status)
  end
  for _, status in ipairs(statuses) do
    local index = fn .. 'runs:' .. status
    for _, run in ipairs(redis.call('ZRANGE', index, 0, look - 1)) do
      local key = fn .. 'run:' .. run
      local ended = redis.call('HGET', key, 'ended')
      local expired = not ended and redis.call('EXISTS', key) == 0
      if expired or (over > 0 and ended and now - ended > tonumber(ARGV[3])) then
        redis.call('DEL', key, fn .. 'steps:' .. run, fn .. 'open:' .. run)
        redis.call('ZREM', index, run)
        over, gone = over - 1, gone + 1
      elseif over <= 0 then
        break -- the oldest is there, and there is room: so are the younger ones
      end
    end
  end
end

for _, hold in ipairs(redis.call('ZRANGE', fn .. 'full', 0, look - 1)) do
  if redis.call('EXISTS', fn .. 'backlog:' .. hold) == 0 then
    redis.call('ZREM', fn .. 'full', hold)
  end
end
tidy({ 'completed', 'cancelled', 'skipped' })
tidy({ 'failed' })
return gone
