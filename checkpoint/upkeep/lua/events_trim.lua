--[[ events_trim: drop old events that every group has done with, and groups that nobody has served for long.

Why a script: trimming ignores groups, so what each still needs is looked at in the same act.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:served  zset  group -> when a worker last served it
args.now  now, ms, or empty for the server's clock
args.keep  how long events are kept, ms
args.most  most entries to drop
args.keep_group  how long a group that nobody serves is kept, ms
then the groups that the caller serves: they must be there

Returns {entries dropped, the group that holds what is old or empty, ms since it was last served, groups dropped, 1 when the
stream has gone: it was empty, and had no group}; or {-1, group, 0, groups dropped, 0}: that one is missing, nothing is dropped ]]
-- uses: clock served
local stream, now = KEYS[1], server_now(args.now)
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function before(a, b)
  local ams, aseq = parts(a)
  local bms, bseq = parts(b)
  return ams < bms or (ams == bms and aseq < bseq)
end

if redis.call('EXISTS', stream) == 0 then
  redis.call('DEL', KEYS[2])
  return { 0, '', 0, {}, 1 }
end
local rows, names, mine = {}, {}, {}
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local row = {}
  for i = 1, #group, 2 do
    row[group[i]] = group[i + 1]
  end
  names[#names + 1] = row['name']
  rows[row['name']] = row
end
for i = args.rest, #ARGV do
  mine[ARGV[i]] = true
end
local since, gone = served(KEYS[2], now, mine, names), {}
for name in pairs(since) do
  if since[name] > tonumber(args.keep_group) then
    redis.call('XGROUP', 'DESTROY', stream, name)
    redis.call('ZREM', KEYS[2], name)
    rows[name] = nil
    gone[#gone + 1] = name
  end
end
for name in pairs(mine) do
  if not rows[name] then
    return { -1, name, 0, gone, 0 }
  end
end

local floor, holder = string.format('%d-0', now - args.keep), ''
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
for name, row in pairs(rows) do
  local needs = row['last-delivered-id']
  if not last or not before(needs, last[1]) then
    needs = nil -- it has been given all there is
  end
  if row['pending'] > 0 then
    needs = redis.call('XPENDING', stream, name)[2]
  end
  if needs and before(needs, floor) then
    floor, holder = needs, name
  end
end
local dropped = redis.call('XTRIM', stream, 'MINID', '~', floor, 'LIMIT', args.most)
if not next(rows) and redis.call('XLEN', stream) > 0 and dropped == 0 then -- nobody reads it: also what `~` leaves goes
  dropped = redis.call('XTRIM', stream, 'MINID', floor)
end
if not next(rows) and redis.call('XLEN', stream) == 0 then
  redis.call('DEL', stream, KEYS[2])
  return { dropped, '', 0, gone, 1 }
end
return { dropped, holder, since[holder] or 0, gone, 0 }
