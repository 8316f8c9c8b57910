--[[ run_end: record how a run ended, once.

Why a script: the owner check and the end are one act, so a zombie cannot end a run that its successor goes on with.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  run
ARGV[3]  fence
ARGV[4]  turn
ARGV[5]  completed, failed or cancelled
ARGV[6]  output or error
ARGV[7]  its JSON
ARGV[8]  how long the run is kept, ms

Returns mine, over, lost or absent ]]
-- flags: allow-oom
-- uses: clock status fence index finish
local fn, run = KEYS[1], ARGV[2]
local h = redis.call('HMGET', fn .. 'run:' .. run, 'status', 'fence', 'turn', 'queued', 'error')
local word = owner(h[1], h[2], h[3], ARGV[3], ARGV[4])
if word == 'mine' then
  if h[5] and ARGV[6] == 'output' then
    redis.call('HDEL', fn .. 'run:' .. run, 'error')
  end
  finish(fn, run, 'running', ARGV[5], h[4], server_now(ARGV[1]), ARGV[8], ARGV[6], ARGV[7])
end
return word
