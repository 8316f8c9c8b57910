-- begin: the hash of a new run that runs at once; the index `running` is the caller's to tell.
local function begin_run(key, source, event, entry, fence, worker, code, queued, at)
  redis.call('HSET', key, 'format', '2', 'status', 'running', 'source', source, 'event', event, 'turn', '1', 'entry', entry,
    'fence', fence, 'worker', worker, 'code', code, 'queued', queued, 'started', at)
end
