--[[ event_publish: store an event under the caller's id, once within the window.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:seen:<id>  string  the entry the id became
ARGV[1]  now, which this script does not need
ARGV[2]  how long the id is remembered, ms
then the entry's fields

Returns {'stored' or 'there', entry id} ]]
-- uses: many
local there = redis.call('GET', KEYS[2])
if there then
  return { 'there', there }
end
local entry = append(KEYS[1], 3)
redis.call('SET', KEYS[2], entry, 'PX', ARGV[2])
return { 'stored', entry }
