--[[ connect_ask: put a call where the gateways of its application take it, if a worker of it is connected.

Why a script: nobody must wait for workers that have just left; and a call and its place in the line are one.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need: leases go by the server's clock
args.call  the call's id
args.reply  the process that asks
args.slug  the function, as the application's SDK calls it
args.step  the step, or `step`
args.run  the run
args.body  what the application is asked, JSON
args.for_ms  how long the call stands unless whoever asked looks after it, ms
args.most  most calls that wait

Returns asked, nobody (no worker takes calls), or full ]]
-- uses: clock
local now = server_now('')
local requests, call = KEYS[1] .. 'requests', KEYS[1] .. 'call:' .. args.call
redis.call('ZREMRANGEBYSCORE', KEYS[1] .. 'workers', '-inf', as_text(now))
if redis.call('EXISTS', call) == 1 then
  return 'asked'
end
if redis.call('ZCARD', KEYS[1] .. 'workers') == 0 then
  return 'nobody'
end
if redis.call('XLEN', requests) >= tonumber(args.most) then
  return 'full'
end
local entry = redis.call('XADD', requests, '*', 'call', args.call, 'function', args.slug, 'run', args.run)
redis.call('PEXPIRE', requests, 86400000)
redis.call('HSET', call, 'state', 'waiting', 'entry', entry, 'reply', args.reply, 'slug', args.slug, 'step', args.step,
  'run', args.run, 'body', args.body)
redis.call('PEXPIRE', call, args.for_ms)
return 'asked'
