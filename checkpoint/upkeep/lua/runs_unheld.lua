--[[ runs_unheld: which of these runs does nobody hold in this slot? A run that waits needs its timer, one that is queued or
running the queue entry or the line that it names.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, queue, timers, backlog:<key>, runs:<status> are built from it
ARGV[1]  now, which this script does not need
then the runs

Returns {run, status, turn, entry} for each that seems to have no holder, or whose holder is an event's entry: whether that
is pending only its own slot can tell ]]
local fn, unheld = KEYS[1], {}
for i = 2, #ARGV do
  local run = ARGV[i]
  local h = redis.call('HMGET', fn .. 'run:' .. run, 'status', 'turn', 'entry')
  local status, entry = h[1], h[3] or ''
  local held = true
  if not status then -- the index outlived its run
    for _, listed in ipairs({ 'queued', 'running', 'waiting' }) do
      redis.call('ZREM', fn .. 'runs:' .. listed, run)
    end
  elseif status == 'waiting' then
    held = redis.call('ZSCORE', fn .. 'timers', run .. ':' .. h[2])
  elseif status == 'queued' or status == 'running' then
    local id = string.match(entry, '^queue|(.+)$')
    local hold = string.match(entry, '^backlog|(.+)$')
    held = (id and #redis.call('XRANGE', fn .. 'queue', id, id) > 0)
      or (hold and redis.call('ZSCORE', fn .. 'backlog:' .. hold, run))
  end
  if not held then
    unheld[#unheld + 1] = { run, status, h[2], entry }
  end
end
return unheld
