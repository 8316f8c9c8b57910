--[[ events_page: the newest events of one name, and those of it that came again, before a moment: their ids only.

Why a script: an event may hold three mebibytes, and of the events of all names few are on a page.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:again  stream  events that came again: internal id, entry
args.now  now, which this script does not need
args.latest  the latest entry, or +
args.earliest  the earliest entry, or -
args.most  how many of each

Returns {entries, those that came again: id, internal id, entry of the event} ]]
-- flags: no-writes
local AT_ONCE, most = 20, tonumber(args.most)

local function newest(stream, take)
  local from, left = args.latest, most
  while left > 0 do
    local page = redis.call('XREVRANGE', stream, from, args.earliest, 'COUNT', math.min(AT_ONCE, left))
    for _, row in ipairs(page) do
      take(row[1], row[2])
      from = '(' .. row[1]
    end
    left = #page == math.min(AT_ONCE, left) and left - #page or 0
  end
end

local entries, again = {}, {}
newest(KEYS[1], function(id)
  entries[#entries + 1] = id
end)
newest(KEYS[2], function(id, row)
  local has = {}
  for i = 1, #row, 2 do
    has[row[i]] = row[i + 1]
  end
  again[#again + 1] = id
  again[#again + 1] = has.internal or ''
  again[#again + 1] = has.entry or ''
end)
return { entries, again }
