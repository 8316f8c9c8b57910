--[[ event_delay: keep an event until its time; one whose time has come is published at once.

Why a script: the event, its time and its id are one act, and a repeat after a lost reply finds the id, also when the event
has been published since.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:delayed  zset  id → due
KEYS[3]  bus:events:{<event>}:delayed:<id>  hash  the entry's fields
KEYS[4]  bus:events:{<event>}:seen:<id>  string  the entry the id became, or `@<due>`
args.now  now, ms, or empty for the server's clock
args.remembered  how long the id is remembered from its time on, ms
args.member  the id as it stands in keys
args.delay  how long it is kept, ms
args.at  until when it is kept, ms; empty: `delay` counts
then the entry's fields

Returns {'stored' or 'there', entry id or `@<due>`} ]]
-- uses: clock many
local there = redis.call('GET', KEYS[4])
if there then
  return { 'there', there }
end
local now = server_now(args.now)
local due = args.at ~= '' and tonumber(args.at) or now + tonumber(args.delay)
local became
if due <= now then
  became = append(KEYS[1], args.now, ARGV, args.rest)
else
  became = '@' .. as_text(due)
  many(ARGV, args.rest, 'HSET', KEYS[3], 'due', as_text(due))
  redis.call('ZADD', KEYS[2], due, args.member)
end
redis.call('SET', KEYS[4], became, 'PX', math.max(0, due - now) + args.remembered)
return { 'stored', became }
