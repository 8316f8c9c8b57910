--[[ events_trim: drop old events that every group has done with.

Why a script: trimming ignores groups, so what each still needs is looked at in the same act (reliability T12).

KEYS[1]  bus:events:{<event>}  stream
ARGV[1]  now, ms, or empty for the server's clock
ARGV[2]  how long events are kept, ms
ARGV[3]  most entries to drop
then the groups that must be there

Returns {entries dropped, the group that holds what is old or empty}, or {-1, group}: that one is missing, nothing is
dropped ]]
-- uses: clock
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function before(a, b)
  local ams, aseq = parts(a)
  local bms, bseq = parts(b)
  return ams < bms or (ams == bms and aseq < bseq)
end

if redis.call('EXISTS', KEYS[1]) == 0 then
  return { 0, '' }
end
local floor = string.format('%d-0', server_now(ARGV[1]) - ARGV[2])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local there, holder = {}, ''
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local row = {}
  for i = 1, #group, 2 do
    row[group[i]] = group[i + 1]
  end
  there[row['name']] = true
  local needs = row['last-delivered-id']
  if last and not before(needs, last[1]) then
    needs = nil -- it has been given all there is
  end
  if row['pending'] > 0 then
    needs = redis.call('XPENDING', KEYS[1], row['name'])[2]
  end
  if needs and before(needs, floor) then
    floor, holder = needs, row['name']
  end
end
for i = 4, #ARGV do
  if not there[ARGV[i]] then
    return { -1, ARGV[i] }
  end
end
return { redis.call('XTRIM', KEYS[1], 'MINID', '~', floor, 'LIMIT', ARGV[3]), holder }
