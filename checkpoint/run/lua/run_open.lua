--[[ run_open: note a step that is not finished: a body that takes long, a failed attempt, a wait.

Why a script: the owner check, the moment (the server's clock) and the write are one act; a wait that is noted already
keeps its first due, so a replay never waits longer.

A step that has a memo is not open any more: what it waits for came before this note of it. But one whose task the
author's code has cancelled while the memo was on its way is given up all the same.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run>, open:<run>, attempts:<run> are built from it
args.now  now, ms, or empty for the server's clock
args.run  run
args.fence  fence
args.turn  turn
args.step  step id
args.mode  `keep` what is noted already, or `replace` it
args.due  due: `+<ms from now>`, `<ms since 1970>`, or empty
args.record  the record's end: `"kind":"sleep"`
args.since  since when the step is open: `-<ms ago>` or `<ms since 1970>`
args.has_name  1 when it waits under a name that lies in another slot: the run's end is to tell of it
args.state  `given_up`: the author's code has cancelled its task; `again`: it waits on; or empty
args.failed  the attempt that has failed (fragment `attempts`), or empty

Returns {'mine', due, now, since}, {'there', record, now}, {'over'}, {'lost'} or {'absent'} ]]
-- flags: allow-oom
-- uses: clock status fence attempts
local fn, run = KEYS[1], args.run
local word = owner_of(fn .. 'run:' .. run, args.fence, args.turn)
if word ~= 'mine' then
  return { word }
end
local now, open = server_now(args.now), fn .. 'open:' .. run
local function moment(given)
  local sign = string.byte(given)
  return (sign == 43 or sign == 45) and now + given or given -- `+` or `-`
end
local since, due, told = moment(args.since), '', ''
if args.due ~= '' then
  due = moment(args.due)
  told = ',"due":' .. due
end
note_attempt(fn, run, now, args.failed)
local record = '{"since":' .. since .. told .. ',' .. args.record .. '}'
if redis.call('HGET', fn .. 'steps:' .. run, args.step) then
  if args.state == 'given_up' then -- its code has gone on without the memo: each replay must know that
    redis.call('HSET', open, args.step, record)
    redis.call('HSET', fn .. 'run:' .. run, 'given_up:' .. args.step, '1')
  end
  return { 'mine', due, now, since } -- else nothing to write: the turn is told of its memo when it would suspend
end
if args.mode == 'replace' then
  redis.call('HSET', open, args.step, record)
elseif redis.call('HSETNX', open, args.step, record) == 0 then
  return { 'there', redis.call('HGET', open, args.step), now }
end
if args.state == 'given_up' then
  redis.call('HSET', fn .. 'run:' .. run, 'given_up:' .. args.step, '1')
elseif args.state == 'again' then
  redis.call('HDEL', fn .. 'run:' .. run, 'given_up:' .. args.step)
end
if args.has_name == '1' then
  redis.call('HSET', fn .. 'run:' .. run, 'names', '1')
end
return { 'mine', due, now, since }
