--[[ event_find: the entry of the event of an id, among those of one name that were stored about the time in that id.

Why a script: what is looked through may be large, and one id of it is wanted.

KEYS[1]  bus:events:{<event>}  stream
args.now  now, which this script does not need
args.since  from when on, ms
args.till  until when, ms
args.most  how many entries are looked at
args.id  the id, or the internal id

Returns the entry, or nothing ]]
-- flags: no-writes
local AT_ONCE = 50
local from, looked = args.since, 0
while looked < tonumber(args.most) do
  local page = redis.call('XRANGE', KEYS[1], from, args.till, 'COUNT', AT_ONCE)
  for _, row in ipairs(page) do
    for i = 1, #row[2], 2 do
      if row[2][i + 1] == args.id and (row[2][i] == 'id' or row[2][i] == 'internal') then
        return row[1]
      end
    end
    from = '(' .. row[1]
  end
  looked = looked + #page
  if #page < AT_ONCE then
    return nil
  end
end
return nil
