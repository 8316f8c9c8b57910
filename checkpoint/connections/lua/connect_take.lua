--[[ connect_take: a gateway takes calls that its workers have room for, the oldest first.

Why a script: of several gateways one gets a call; and should it die, whoever asked finds whose it was, and until when.

KEYS[1]  bus:connect:{<app>}:  the prefix of the application's keys
args.now  now, which this script does not need: leases go by the server's clock
args.gateway  who takes
args.for_ms  how long they are its own unless a worker has them in hand by then, ms
args.most  most calls to take

Returns {call, slug, step, run, body} for each ]]
-- item: slug
-- hash h: state slug step run body
-- uses: clock
local wanted = {}
for a = item.first, #ARGV, item.width do
  wanted[item.slug] = true
end
local ends = server_now('') + args.for_ms
local requests, taken = KEYS[1] .. 'requests', {}
for _, entry in ipairs(redis.call('XRANGE', requests, '-', '+', 'COUNT', 1000)) do
  if #taken >= tonumber(args.most) then
    break
  end
  local id = entry[2][2]
  local call = KEYS[1] .. 'call:' .. id
  local h = redis.call('HMGET', call, fields.h)
  if h.state ~= 'waiting' then -- nobody waits for it any more
    redis.call('XDEL', requests, entry[1])
  elseif wanted[h.slug] then
    redis.call('XDEL', requests, entry[1])
    redis.call('HDEL', call, 'entry')
    redis.call('HSET', call, 'state', 'sent', 'gateway', args.gateway, 'ends', as_text(ends))
    redis.call('PEXPIRE', call, args.for_ms * 3)
    taken[#taken + 1] = { id, h.slug, h.step, h.run, h.body }
  end
end
return taken
