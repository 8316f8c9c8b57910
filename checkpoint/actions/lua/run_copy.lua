--[[ run_copy: copy memos of one run to a new one that has not begun; all or none.

They have no time to live: it may be days until a worker begins that run. Its end gives them one.

KEYS[1]  bus:fn:{<fn>}:  prefix  steps:<run> are built from it
args.now  now, which this script does not need
args.from  the run to copy from
args.to  the run to copy to
then the steps whose memos are copied

Returns 1, or 0 when one of them is gone ]]
local from, to, memos = KEYS[1] .. 'steps:' .. args.from, KEYS[1] .. 'steps:' .. args.to, {}
for i = args.rest, #ARGV do
  memos[i] = redis.call('HGET', from, ARGV[i])
  if not memos[i] then
    return 0
  end
end
for i = args.rest, #ARGV do
  redis.call('HSETNX', to, ARGV[i], memos[i])
end
return 1
