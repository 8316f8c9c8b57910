--[[ event_publish_again: store an event whose first try was not answered, unless that try was applied.

It is looked for from the end of the stream, where it is: as far back as its first try, and among the last hundred in any
case, for the clock may have been set since.

KEYS[1]  bus:events:{<event>}  stream
args.now  now, ms, where a test has set the clock, else empty
args.since  look back to this moment, ms
args.id  event id
then the entry's fields

Returns {'stored' or 'there', entry id} ]]
-- uses: many
local PAGE, LEAST, MOST = 50, 100, 10000

local function there()
  local from, looked = '+', 0
  while looked < MOST do
    local page = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      local fields = entry[2]
      for i = 1, #fields, 2 do
        if fields[i] == 'id' and fields[i + 1] == args.id then
          return entry[1]
        end
      end
      looked = looked + 1
      if looked >= LEAST and tonumber(string.match(entry[1], '^%d+')) < tonumber(args.since) then
        return nil
      end
      from = '(' .. entry[1]
    end
    if #page < PAGE then
      return nil
    end
  end
end

local entry = there()
if entry then
  return { 'there', entry }
end
return { 'stored', append(KEYS[1], args.now, ARGV, args.rest) }
