--[[ event_publish: store an event under the caller's id, once within the window.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:seen:<id>  string  the entry the id became
args.now  now, ms, where a test has set the clock, else empty
args.remembered  how long the id is remembered, ms
args.makes_stream  1 to make the stream when there is none, 0: then nothing is stored
then the entry's fields

Returns {'stored' or 'there', entry id}, or nothing when there is no stream ]]
-- uses: many seen
local there = seen(KEYS[2], args.now, args.remembered)
if there then
  return { 'there', there }
end
if args.makes_stream == '0' and redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
local entry = append(KEYS[1], args.now, ARGV, args.rest)
redis.call('SET', KEYS[2], entry, 'PX', args.remembered)
return { 'stored', entry }
