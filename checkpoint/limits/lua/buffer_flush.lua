--[[ buffer_flush: let a buffer become its run now, if it still holds what the caller has seen.

Why a script: events that come meanwhile are in it, or make another buffer; none is lost, and none comes twice.

KEYS[1]  bus:fn:{<fn>}:  prefix  queue, timers, buffered, buffer:<key> are built from it
args.now  now, which this script does not need
args.name  the buffer: d:<key> (debounce) or b:<key> (batch)
args.run  the run it will be

Returns 1, or 0 when it has become that run already, or was emptied ]]
-- uses: buffer
if redis.call('HGET', KEYS[1] .. 'buffer:' .. args.name, 'run') ~= args.run then
  return 0
end
release(KEYS[1], args.name)
return 1
