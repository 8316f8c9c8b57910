-- queue: add a turn that is due now; what `entry` is set to names it.
local function enqueue(fn, run, turn, why)
  return 'queue|' .. redis.call('XADD', fn .. 'queue', '*', 'run', run, 'turn', turn, 'why', why)
end
