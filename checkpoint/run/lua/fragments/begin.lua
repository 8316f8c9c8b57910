-- begin: the hash of a new run that runs at once; the index `running` is the caller's to tell.
-- uses: new_run
local function begin_run(key, source, event, entry, fence, worker, code, queued, at, parent, rerun_of)
  new_run(key, source, event, '1', queued, parent, rerun_of, 'status', 'running', 'entry', entry, 'fence', fence,
    'worker', worker, 'code', code, 'started', at)
end
