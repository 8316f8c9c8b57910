--[[ run_end: record how runs ended, each once.

Why a script: the owner check and the end are one act, so a zombie cannot end a run that its successor goes on with.
Runs that end in one tick share a call: the index is told of all of them at once.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, log:<run>, ends, cancels, places:<key>, ready, runs:<status> are built from it
args.now  now, ms, or empty for the server's clock
args.keep  how long a run is kept, ms
args.subscribed  statuses that have subscribers
then for each run eight: run, fence, turn, completed or failed or cancelled, output or error, its JSON, which other
keys it may have, what is told of its error or empty (`finish`)

Returns for each run mine, over, lost or absent, or {'error', why} ]]
-- item: run fence turn status field value leaves told
-- hash h: +ending fence turn error
-- flags: allow-oom
-- uses: clock status fence each places finish tell
local fn, now = KEYS[1], as_text(server_now(args.now))
local left, ended = {}, {}

local answers = each(item.first, item.width, function(a)
  local run, status = item.run, item.status
  local h = redis.call('HMGET', fn .. 'run:' .. run, fields.h)
  local word = owner(h.status, h.fence, h.turn, item.fence, item.turn)
  if word == 'mine' then
    if h.error and item.field == 'output' then
      redis.call('HDEL', fn .. 'run:' .. run, 'error')
    end
    finish(fn, run, h, status, now, args.keep, item.field, item.value, item.leaves, item.told)
    tell(fn, run, status, h.parent, args.subscribed)
    left[#left + 1] = run
    local members = ended[status] or {}
    members[#members + 1] = h.queued
    members[#members + 1] = run
    ended[status] = members
  end
  return word
end)

tell_ready(fn)
tell_facts(fn, now)
many(left, 1, 'ZREM', fn .. 'runs:running')
for status, members in pairs(ended) do
  many(members, 1, 'ZADD', fn .. 'runs:' .. status)
end
return answers
