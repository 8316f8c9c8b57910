-- new_run: the hash of a new run. `…` are the fields in which it differs by who makes it.
local function new_run(key, source, event, turn, queued, parent, rerun_of, ...)
  redis.call('HSET', key, 'format', '3', 'source', source, 'event', event, 'turn', turn, 'queued', queued, ...)
  if parent ~= '' then
    redis.call('HSET', key, 'parent', parent)
  end
  if rerun_of ~= '' then
    redis.call('HSET', key, 'rerun_of', rerun_of)
  end
end
