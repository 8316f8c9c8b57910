--[[ runs_page: the runs of functions after a place, newest first, with what a list shows of them. A place is a moment and a
run that was queued in it.

Why a script: many runs may have been queued in one millisecond; where the place is among them is found by halving, which a
caller would have to ask one by one. Of fifty functions with seven statuses each, the newest fifty runs are wanted, not the
newest fifty of each. And what is listed is as it was in one moment: no run is missed, or met twice, that moves on meanwhile.

KEYS[1..n]  bus:fn:{<fn>}:  prefixes of functions, all of which lie on one server  runs:<status> and run:<run> are built from it
args.now  now, which this script does not need
args.moment  the place's moment, ms, or empty: from the newest on
args.run  its run, or empty: all of that moment come after it
args.earliest  the earliest moment, ms, or empty
args.most  how many runs
args.looks  how many are looked at, of which some are gone, or are not wanted
args.bytes  how many bytes of events, errors and outputs are enough
args.worker  only runs that this worker, or consumer, has in hand; empty: any
args.code  only runs of this code version; empty: any
args.source  only runs that such a thing made; empty: any
args.key  only runs with a limit key of this value; empty: any
args.other  … or of this one
args.event  how many bytes of a run's event are wanted
args.error  how many bytes of its error
args.output  how many bytes of its output
args.lines  1: with what is small of each run, 0: it is asked for later, of few of them (runs_line)
args.brief  the name of the one field that is wanted; `-` for none; empty: all that a list shows
then the statuses

Returns {how many it looked at, the moment and the run that were looked at last, or two empty texts when no more come, the
runs: which prefix it is of, its moment, run, event, error, output, then the fields of h or nothing; in brief only the
first three and that field} ]]
-- flags: no-writes
-- uses: run_line
-- hash w: worker code source holds
local earliest = tonumber(args.earliest)
local most, looks, enough = tonumber(args.most), tonumber(args.looks), tonumber(args.bytes)

local is_asked = args.worker ~= '' or args.code ~= '' or args.source ~= '' or args.key ~= ''

-- Whether a stands before b as Redis orders members of one score: byte by byte, whatever the server's locale.
local function is_less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- How many of an index stand before the place.
local function passed(key)
  if args.moment == '' then
    return 0
  end
  local first = redis.call('ZCOUNT', key, '(' .. args.moment, '+inf')
  local past = args.run == '' and first or redis.call('ZCOUNT', key, args.moment, '+inf')
  while first < past do
    local middle = math.floor((first + past) / 2)
    if is_less(redis.call('ZREVRANGE', key, middle, middle)[1], args.run) then
      past = middle
    else
      first = middle + 1
    end
  end
  return first
end

-- One index, read from its newest on; `run`, `ms` is where it stands. Returns false behind its last.
local function advance(index)
  index.at = index.at + 2
  if index.at > #index.rows then
    if index.is_last then
      return false
    end
    index.rows = redis.call('ZREVRANGE', index.key, index.rank, index.rank + index.take - 1, 'WITHSCORES')
    index.rank, index.is_last, index.at = index.rank + index.take, #index.rows < 2 * index.take, 1
    index.take = math.min(2 * index.take, 200)
    if #index.rows == 0 then
      return false
    end
  end
  index.run, index.text = index.rows[index.at], index.rows[index.at + 1]
  index.ms = tonumber(index.text)
  return not earliest or index.ms >= earliest
end

-- A heap of the indexes: the one that has the newest run is the first.
local heap = {}

local function is_newer(a, b)
  if a.ms ~= b.ms then
    return a.ms > b.ms
  end
  return is_less(b.run, a.run)
end

local function sink(i)
  while true do
    local first, left = i, 2 * i
    if left <= #heap and is_newer(heap[left], heap[first]) then
      first = left
    end
    if left + 1 <= #heap and is_newer(heap[left + 1], heap[first]) then
      first = left + 1
    end
    if first == i then
      return
    end
    heap[i], heap[first], i = heap[first], heap[i], first
  end
end

local take = math.max(4, math.ceil(2 * most / (#KEYS * (#ARGV - args.rest + 1))))
for n, fn in ipairs(KEYS) do
  for i = args.rest, #ARGV do
    local key = fn .. 'runs:' .. ARGV[i]
    local index = { n = n, fn = fn, key = key, rank = passed(key), take = math.min(take, 200), rows = {}, at = 1 }
    if advance(index) then
      heap[#heap + 1] = index
    end
  end
end
for i = math.floor(#heap / 2), 1, -1 do
  sink(i)
end

local function is_of_worker(worker)
  return worker == args.worker or string.sub(worker, 1, #args.worker + 1) == args.worker .. '.'
end

local function has_key(holds, key)
  return string.find(holds .. '\n', ':' .. key .. '\n', 1, true)
end

-- For who wants to know which runs these are, and perhaps a field of each; some may be gone.
local function brief(index, key)
  local found = { index.n, index.text, index.run }
  if args.brief ~= '-' then
    found[4] = redis.call('HGET', key, args.brief)
  end
  return found, 0
end

-- What is wanted of a run; nothing when it is gone, or is not wanted.
local function row(index)
  local key = index.fn .. 'run:' .. index.run
  if is_asked then
    local w = redis.call('HMGET', key, fields.w)
    if (args.worker ~= '' and not is_of_worker(w.worker or '')) or (args.code ~= '' and w.code ~= args.code)
      or (args.source ~= '' and w.source ~= args.source) then
      return nil
    end
    local holds = w.holds or ''
    if args.key ~= '' and not (has_key(holds, args.key) or (args.other ~= '' and has_key(holds, args.other))) then
      return nil
    end
  end
  if args.brief ~= '' then
    return brief(index, key)
  end
  local event, failure = start_of(key, 'event', args.event), start_of(key, 'error', args.error)
  local output = start_of(key, 'output', args.output)
  local size, found = #event + #failure + #output, { index.n, index.text, index.run, event, failure, output }
  if args.lines == '1' then
    return add_line(found, key) and found, size
  end
  return (size > 0 or redis.call('EXISTS', key) == 1) and found, size
end

local found, looked, bytes, ms, run = {}, 0, 0, '', ''
while #heap > 0 and #found < most and looked < looks and bytes < enough do
  local index = heap[1]
  if index.run ~= run then -- else an index has it that it has left
    local shown, size = row(index)
    if shown then
      found[#found + 1], bytes = shown, bytes + size
    end
    looked, ms, run = looked + 1, index.text, index.run
  end
  if not advance(index) then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  sink(1)
end
if #heap == 0 then
  ms, run = '', ''
end
return { looked, ms, run, found }
