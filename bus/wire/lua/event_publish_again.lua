--[[ event_publish_again: store an event whose first try was not answered, unless that try was applied.

KEYS[1]  bus:events:{<event>}  stream
ARGV[1]  now, which this script does not need
ARGV[2]  look from this moment on, ms
ARGV[3]  event id
then the entry's fields

Returns {'stored' or 'there', entry id} ]]
-- uses: many
local since, left = ARGV[2], 10000
while left > 0 do
  local page = redis.call('XRANGE', KEYS[1], since, '+', 'COUNT', 50)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    for i = 1, #fields, 2 do
      if fields[i] == 'id' and fields[i + 1] == ARGV[3] then
        return { 'there', entry[1] }
      end
    end
    since = '(' .. entry[1]
  end
  if #page < 50 then
    break
  end
  left = left - 50
end
return { 'stored', append(KEYS[1], 4) }
