--[[ run_copy: give a run that is to begin the memos of another that come before a step.

They have no time to live: it may be days until a worker begins that run. Its end gives them one.

KEYS[1]  bus:fn:{<fn>}:  prefix  steps:<run> are built from it
ARGV[1]  now, which this script does not need
ARGV[2]  the run to copy from
ARGV[3]  the run to copy to
ARGV[4]  the step it begins at

Returns how many were copied, or -1 when there is no such step ]]
local from, to = KEYS[1] .. 'steps:' .. ARGV[2], KEYS[1] .. 'steps:' .. ARGV[3]
local memos = redis.call('HGETALL', from)
local function place(memo)
  return tonumber(string.match(memo, '^{"n":(%d+)'))
end
local first = nil
for i = 1, #memos, 2 do
  if memos[i] == ARGV[4] then
    first = place(memos[i + 1])
  end
end
if not first then
  return -1
end
local copied = 0
for i = 1, #memos, 2 do
  if place(memos[i + 1]) < first then
    redis.call('HSETNX', to, memos[i], memos[i + 1])
    copied = copied + 1
  end
end
return copied
