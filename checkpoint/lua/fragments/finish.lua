-- finish: write a run's end: status, output or error, and when its keys expire. Whoever calls it moves the index and tells of
-- it; `conclude` does all three, and whoever calls either writes what is counted (tell_facts).
-- `ending` is what was read of the run, also with more fields behind these: `cancels` holds its words in the index of what
-- cancels it, `holds` the limits it may have a place of, a line each; `logged` is there when it has a log, `attempted`
-- when attempts have failed. `leaves` tells which keys beside the run's there may be: 'steps', 'open', both in one word, or
-- neither. `told` describes the error that it failed
-- of, for people; else it is empty.
-- What it still waited for under a name that lies in another slot goes to `ends`: the courier gives that up.
-- uses: index tell places facts
-- hash ending: status queued parent cancels holds logged started attempted
local function give_up_names(fn, run, open)
  for i = 1, #open, 2 do
    redis.call('XADD', fn .. 'ends', '*', 'run', run, 'step', open[i], 'open', open[i + 1])
  end
end

local function finish(fn, run, ending, to, now, keep, field, value, leaves, told)
  local key = fn .. 'run:' .. run
  redis.call('HSET', key, 'status', to, 'ended', now, field, value)
  redis.call('HDEL', key, 'entry', 'fence', 'worker', 'charged') -- who held it: nobody asks, and runs are kept by the million
  redis.call('PEXPIRE', key, keep)
  if leaves == 'steps' or leaves == 'steps open' then
    redis.call('PEXPIRE', fn .. 'steps:' .. run, keep)
  end
  if ending.logged then
    redis.call('PEXPIRE', fn .. 'log:' .. run, keep)
  end
  if ending.attempted then
    redis.call('PEXPIRE', fn .. 'attempts:' .. run, keep)
  end
  if leaves == 'open' or leaves == 'steps open' then
    local open = redis.call('HGETALL', fn .. 'open:' .. run)
    if #open > 0 then
      redis.call('DEL', fn .. 'open:' .. run)
      if redis.call('HGET', key, 'names') then
        give_up_names(fn, run, open)
      end
    end
  end
  if ending.cancels then
    for word in string.gmatch(ending.cancels, '[^\n]+') do
      redis.call('ZREM', fn .. 'cancels', word)
    end
  end
  if ending.holds then
    give_back(fn, run, ending.holds)
    local single = string.match('\n' .. ending.holds, '\n(s:[^\n]*)')
    if single and redis.call('GET', fn .. 'single:' .. single) == run then
      redis.call('DEL', fn .. 'single:' .. single)
    end
  end
  count_run(to, now, ending.started)
  if told ~= '' then
    failed = failed or {}
    failed[#failed + 1] = told
    failed[#failed + 1] = run
  end
end

-- End a run that is not its worker's to end.
local function conclude(fn, run, ending, to, now, keep, why, subscribed, told)
  finish(fn, run, ending, to, now, keep, 'error', why, 'steps open', told)
  move(fn, run, ending.status, to, ending.queued)
  tell(fn, run, to, ending.parent, subscribed)
end
