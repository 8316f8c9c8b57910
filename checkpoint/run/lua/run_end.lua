--[[ run_end: record how runs ended, each once.

Why a script: the owner check and the end are one act, so a zombie cannot end a run that its successor goes on with.
Runs that end in one tick share a call: the index is told of all of them at once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, ends, cancels, places:<key>, ready, runs:<status> are built from it
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  how long a run is kept, ms
ARGV[3]  statuses that someone hears of
then for each run seven: run, fence, turn, completed or failed or cancelled, output or error, its JSON, which other
keys it may have (`finish`)

Returns for each run mine, over, lost or absent, or {'error', why} ]]
-- flags: allow-oom
-- uses: clock status fence each places finish tell
local fn, now = KEYS[1], as_text(server_now(ARGV[1]))
local left, ended = {}, {}

local answers = each(4, 7, function(a)
  local run, status = ARGV[a], ARGV[a + 3]
  local h = redis.call('HMGET', fn .. 'run:' .. run, 'status', 'fence', 'turn', 'queued', 'error', 'parent',
    'cancels', 'holds')
  local word = owner(h[1], h[2], h[3], ARGV[a + 1], ARGV[a + 2])
  if word == 'mine' then
    if h[5] and ARGV[a + 4] == 'output' then
      redis.call('HDEL', fn .. 'run:' .. run, 'error')
    end
    finish(fn, run, status, now, ARGV[2], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], h[7], h[8])
    tell(fn, run, status, h[6], ARGV[3])
    left[#left + 1] = run
    ended[status] = ended[status] or {}
    table.insert(ended[status], h[4])
    table.insert(ended[status], run)
  end
  return word
end)

tell_ready(fn)
many(left, 1, 'ZREM', fn .. 'runs:running')
for status, members in pairs(ended) do
  many(members, 1, 'ZADD', fn .. 'runs:' .. status)
end
return answers
