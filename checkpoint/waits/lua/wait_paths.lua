--[[ wait_paths: which paths do waits by equal value look at? From one to the next, however many waits share one.

KEYS[1]  bus:events:{<event>}:waits  zset  `<path>=<value>|…`
args.now  now, which this script does not need
args.most  most paths

Returns the paths ]]
local paths, from = {}, '-'
while #paths < tonumber(args.most) do
  local first = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, 1)[1]
  if not first then
    break
  end
  local path = string.match(first, '^([^=]*)=')
  if path then
    paths[#paths + 1] = path
    from = '(' .. path .. '>' -- the letter after `=`
  else -- added by hand: no wait
    from = '(' .. first
  end
end
return paths
