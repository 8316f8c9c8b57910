--[[ runs_unheld: which of these runs does nobody hold in this slot? A run that waits needs its timer, one that is queued or
running the queue entry or the line that it names.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, backlog:<key>, runs:<status> are built from it
args.now  now, which this script does not need
then the runs

Returns {run, status, turn, entry} for each that seems to have no holder, or whose holder is an event's entry: whether that
is pending only its own slot can tell ]]
-- hash h: status turn entry
local fn, unheld = KEYS[1], {}
for i = args.rest, #ARGV do
  local run = ARGV[i]
  local h = redis.call('HMGET', fn .. 'run:' .. run, fields.h)
  local status, entry = h.status, h.entry or ''
  local held = true
  if not status then -- the index outlived its run
    for _, listed in ipairs({ 'queued', 'running', 'waiting' }) do
      redis.call('ZREM', fn .. 'runs:' .. listed, run)
    end
  elseif status == 'waiting' then
    held = redis.call('ZSCORE', fn .. 'timers', run .. ':' .. h.turn)
  elseif status == 'queued' or status == 'running' then
    local id = string.match(entry, '^queue|(.+)$')
    local limit_key = string.match(entry, '^backlog|(.+)$')
    held = (id and #redis.call('XRANGE', fn .. 'queue', id, id) > 0)
      or (limit_key and redis.call('ZSCORE', fn .. 'backlog:' .. limit_key, run))
  end
  if not held then
    unheld[#unheld + 1] = { run, status, h.turn, entry }
  end
end
return unheld
