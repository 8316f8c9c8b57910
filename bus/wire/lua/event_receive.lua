--[[ event_receive: store an event that an SDK sent under an internal id of its own making, once however often it comes.

Why a script: that the id is known, and that the event is stored, are one act; the SDK repeats what was not answered.

KEYS[1]  bus:events:{<event>}  stream
KEYS[2]  bus:events:{<event>}:seen:<id>  string  the entry the sender's id became
KEYS[3]  bus:events:{<event>}:seen:<internal>  string  the same of the internal id; the same key where the sender gave none
KEYS[4]  bus:events:{<event>}:again  stream  events that came again: internal id, entry
args.now  now, ms, where a test has set the clock, else empty
args.remembered  how long the sender's id is remembered, ms
args.found  how long the internal id is remembered, ms
args.makes_stream  1 to make the stream when there is none, 0: then nothing is stored
args.notes  1 to note that it came again, 0: it may be our own first try that is found
args.internal  the internal id
then the entry's fields

Returns {'stored' or 'there', entry id}, or nothing when there is no stream ]]
-- uses: many seen
local MOST, DAY = 1000, 86400000
local there = seen(KEYS[2], args.now, args.remembered)
if there then
  redis.call('SET', KEYS[3], there, 'PX', args.found, 'NX')
  if args.notes == '1' then
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', MOST, '*', 'internal', args.internal, 'entry', there)
    redis.call('PEXPIRE', KEYS[4], DAY)
  end
  return { 'there', there }
end
if args.makes_stream == '0' and redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
local entry = append(KEYS[1], args.now, ARGV, args.rest)
redis.call('SET', KEYS[3], entry, 'PX', args.found)
redis.call('SET', KEYS[2], entry, 'PX', args.remembered) -- last: where there is but one id, it is the same key
return { 'stored', entry }
