-- queue: wake an idle worker by an entry without a run, if the queue has no other entry.
local function ring(fn, why)
  if redis.call('XLEN', fn .. 'queue') == 0 then
    redis.call('XADD', fn .. 'queue', '*', 'bell', why)
  end
end

-- Let a turn be due now; returns what `entry` is set to. A run with `holds` stands in line for its places instead.
local function enqueue(fn, run, turn, why, holds, rank)
  if holds then
    local entry = stand_in_line(fn, run, first_limit_key(holds), rank)
    tell_ready(fn)
    ring(fn, why)
    return entry
  end
  return 'queue|' .. redis.call('XADD', fn .. 'queue', '*', 'run', run, 'turn', turn, 'why', why)
end
