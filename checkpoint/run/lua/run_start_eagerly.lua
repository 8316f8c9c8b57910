--[[ run_start_eagerly: start the run of the event that a blocked read brings, before the worker has the reply.

Sent behind a blocked read on the same connection, so the server runs it when that read has its entry: one round trip
between an event and its function's first line, not two. It starts new runs of plain events only; all else is left to
run_start, which is asked for every entry that has no answer here. A run it makes is the one run_start would make.

Why a script: as run_start.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, runs:running and minute:<minute> are built from it
KEYS[2]  bus:events:{<event>}  stream
KEYS[3]  bus:events:{<event>}:workers  zset  consumer -> end of its lease
args.now  now, ms, or empty for the server's clock
args.slug  the function's slug, which is its group
args.consumer  my consumer
args.newest  the newest entry this reader has had, or 0-0
args.name  the event's name
args.fence  fence
args.code  the function's code version
args.mark  letters 11 to 16 of the function's run ids

Returns {entry id, run, event JSON, now}, or nothing ]]
-- uses: clock begin facts
local fn, stream, now = KEYS[1], KEYS[2], server_now(args.now)
local slug, consumer = args.slug, args.consumer
local TRACE = '^00%-' .. string.rep('[0-9a-f]', 32) .. '%-' .. string.rep('[0-9a-f]', 16) .. '%-0[01]$' -- bus/observe/traceparent.py: is_stored
local LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

local function base32(number, length)
  local letters = {}
  for place = length, 1, -1 do
    local value = number % 32
    letters[place] = string.sub(LETTERS, value + 1, value + 1)
    number = (number - value) / 32
  end
  return table.concat(letters)
end

-- bus/values/ids.py: run_id
local function run_id(cause, ms)
  local hash = redis.sha1hex(slug .. '\0event\0' .. cause)
  local tail = tonumber(string.sub(hash, 11, 13), 16)
  return base32(ms, 10) .. args.mark .. base32(tonumber(string.sub(hash, 1, 10), 16), 8)
    .. base32((tail - tail % 4) / 4, 2)
end

-- Text that stands in JSON as it is.
local function is_plain(text)
  return text and not string.find(text, '["\\%c\127-\255]')
end

-- bus/wire/streams.py: event_of. Nothing for what has another form than Publisher's, or a time to come.
local function event_json(row, ms)
  local has = {}
  for i = 1, #row, 2 do
    has[row[i]] = row[i + 1]
  end
  local ts = has.ts or string.format('%d', ms)
  if not (is_plain(has.id) and is_plain(has.name) and has.data and is_plain(has.v or ''))
    or not string.find(ts, '^[1-9]%d*$') or tonumber(ts) > ms then
    return nil
  end
  return '{"id":"' .. has.id .. '","name":"' .. has.name .. '","data":' .. has.data .. ',"ts":' .. ts
    .. (has.v and ',"v":"' .. has.v .. '"' or '')
    .. (has.trace and string.find(has.trace, TRACE) and ',"trace":"' .. has.trace .. '"' or '') .. '}'
end

-- A worker whose lease has run out was stopped meanwhile: what it begins is claimed, and counts as a crash.
if tonumber(redis.call('ZSCORE', KEYS[3], consumer) or 0) < now then
  return {}
end
local pending = redis.call('XPENDING', stream, slug, '(' .. args.newest, '+', 1, consumer)[1]
if not pending or pending[4] > 1 then -- nothing came, or an older one that was claimed is in front
  return {}
end
local id = pending[1]
local ms = tonumber(string.match(id, '^%d+'))
local row = redis.call('XRANGE', stream, id, id)[1]
local event = row and event_json(row[2], ms)
if not event then
  return {}
end
local run = run_id(args.name .. '|' .. id, ms)
local key = fn .. 'run:' .. run
if redis.call('EXISTS', key) == 1 then
  return {}
end
local at = as_text(now)
begin_run(key, 'event', event, 'event|' .. args.name .. '|' .. id, args.fence, consumer, args.code, as_text(ms), at, '', '')
redis.call('ZADD', fn .. 'runs:running', ms, run)
count_run('started', now, ms)
tell_facts(fn, now)
return { id, run, event, at }
