--[[ runs_again: queue new runs for the events of old ones, which lie beside the queue.

Why a script: the events go neither to the caller nor back; and many runs cost one call.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run> and queue are built from it
args.now  now, which this script does not need
args.again  1: also those that have been run again before
args.bytes  with so many bytes of events it is enough: the others are for another call
then for each run three: run, its new run, the event of that or empty: that of the old one

Returns for each queued, gone, unreadable (it has no event that can be read), again (it has been run
again before), later, or {'error', why} ]]
-- hash h: event status reran
-- item: run new event
-- uses: each
local fn, enough, bytes = KEYS[1], tonumber(args.bytes), 0

-- Payloads are not read here: what is no object at all was written by hand; of the rest a worker finds out.
local function is_object(text)
  return string.sub(text, 1, 1) == '{' and string.sub(text, -1) == '}'
end

return each(item.first, item.width, function(a)
  if bytes >= enough then
    return 'later'
  end
  local key = fn .. 'run:' .. item.run
  local h = redis.call('HMGET', key, fields.h)
  if item.event == '' and not (h.event or h.status) then
    return 'gone'
  end
  local event = item.event ~= '' and item.event or h.event
  if not event or not is_object(event) then
    return 'unreadable'
  end
  if args.again ~= '1' and h.reran and h.reran ~= item.new then
    return 'again'
  end
  bytes = bytes + #event
  redis.call('XADD', fn .. 'queue', '*', 'run', item.new, 'turn', 1, 'why', 'rerun', 'source', 'rerun', 'event', event,
    'parent', '', 'rerun_of', item.run)
  if h.status then -- else it is in line, and nothing is stored of it yet
    redis.call('HSET', key, 'reran', item.new)
  end
  return 'queued'
end)
