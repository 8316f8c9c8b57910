--[[ connect_look: whoever asked looks at a call that is not answered; it is kept while a worker may answer it.

Why a script: what has become of a call is decided once: it begins while this looks, or nobody has it any more.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need: leases go by the server's clock
args.call  the call's id
args.for_ms  how long a call that waits is kept from now on, ms

Returns {what it is, ms until its lease ends}: waiting, sent, begun, answered; nobody when it waits and no worker is left,
lost when the worker that had it in hand has let its lease run out, gone when it is not there ]]
-- flags: allow-oom
-- hash h: state ends slug run entry connection
-- uses: clock again out
local now = server_now('')
local call = KEYS[1] .. 'call:' .. args.call
local h = redis.call('HMGET', call, fields.h)
if not h.state then
  return { 'gone', 0 }
end
local left = math.max(0, tonumber(h.ends or 0) - now)
if h.state == 'begun' and left == 0 then
  redis.call('DEL', call)
  take_out(KEYS[1], args.call, h.entry, h.connection)
  return { 'lost', 0 }
end
if h.state == 'sent' and left == 0 then -- its gateway has died before any worker began
  wait_again(KEYS[1], args.call, h.slug, h.run, args.for_ms)
  h.state = 'waiting'
  h.entry = redis.call('HGET', call, 'entry')
end
if h.state == 'waiting' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1] .. 'workers', '-inf', as_text(now))
  if redis.call('ZCARD', KEYS[1] .. 'workers') == 0 then
    take_out(KEYS[1], args.call, h.entry, h.connection)
    redis.call('DEL', call)
    return { 'nobody', 0 }
  end
  redis.call('PEXPIRE', call, args.for_ms)
end
return { h.state, left }
