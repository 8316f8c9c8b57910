-- many: commands with any number of arguments. Lua passes 8,000 at most, some servers accept 3,999 in one command:
-- so a thousand go at a time. No script unpacks anything elsewhere (tests/test_house.py).
local AT_A_TIME = 1000

-- `…` is the command and its first arguments; what follows are those of `list` from `first` on, none: nothing is done.
-- Returns the sum of what the commands answered.
local function many(list, first, ...)
  local command, done = { ... }, 0
  local fixed = #command
  for from = first, #list, AT_A_TIME do
    local count = math.min(AT_A_TIME, #list - from + 1)
    for i = 1, count do
      command[fixed + i] = list[from + i - 1]
    end
    done = done + redis.call(unpack(command, 1, fixed + count))
  end
  return done
end

-- A command of a few words, which one who reads has put together.
local function ask(words)
  return redis.call(unpack(words))
end

-- One stream entry of `fields` from `first` on: an event has ten of them at most. Where a test has set the clock (`now`,
-- ms, not empty) it is an entry of that time, unless a later one is there.
local function append(stream, now, fields, first)
  if now ~= '' then
    local entry = redis.pcall('XADD', stream, now .. '-*', unpack(fields, first))
    if not entry.err then
      return entry
    end
  end
  return redis.call('XADD', stream, '*', unpack(fields, first))
end
