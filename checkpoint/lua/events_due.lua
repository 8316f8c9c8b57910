--[[ events_due: publish the delayed events of one name whose time has come.

Why a script: the entry and the removal are one act, so that however many workers look, and wherever they die, each event
is published once.

KEYS[1]  bus:events:{<event>}  stream; `:seen:<id>` is built from it
KEYS[2]  bus:events:{<event>}:delayed  zset  id → due; `:<id>` is built from it
args.now  now, ms, or empty for the server's clock
args.remembered  how long their ids are remembered from now on, ms
args.most  most events to publish

Returns {how many were published, more are due: 1, when the next is due (ms) or -1, ids whose fields are gone} ]]
-- hash kept: id name data ts v trace
-- uses: clock many
local now = server_now(args.now)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, args.most)
local published, gone = 0, {}
for _, id in ipairs(due) do
  local key = KEYS[2] .. ':' .. id
  local is_hash = redis.call('TYPE', key).ok == 'hash' -- what somebody has put in its place holds up no other
  local kept = is_hash and redis.call('HMGET', key, fields.kept) or {}
  if kept.id then
    local entry = { 'id', kept.id, 'name', kept.name, 'data', kept.data }
    for name, value in pairs({ ts = kept.ts, v = kept.v, trace = kept.trace }) do
      if value then
        entry[#entry + 1] = name
        entry[#entry + 1] = value
      end
    end
    redis.call('SET', KEYS[1] .. ':seen:' .. id, append(KEYS[1], args.now, entry, 1), 'PX', args.remembered)
    redis.call('DEL', key)
    published = published + 1
  else
    gone[#gone + 1] = id
  end
end
many(due, 1, 'ZREM', KEYS[2])
local next = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or -1)
return { published, next >= 0 and next <= now and 1 or 0, next, gone }
