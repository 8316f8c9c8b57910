--[[ function_register: write a declaration (of a function, of a name's types), if what stands is what the caller has seen.

Why a script: a slug has one owner, and a name's types several. Whether another bus has declared something the caller
reads from what stands, and what it has read must still stand when it writes.

KEYS[1]  bus:functions, bus:types  hash  slug or event name -> declaration
args.now  now, which this script does not need
args.field  slug or event name
args.declaration  declaration; empty: the field is removed
args.seen  the declaration the caller has seen, or empty

Returns empty, or the declaration that stands ]]
local there = redis.call('HGET', KEYS[1], args.field) or ''
if there ~= args.seen and there ~= args.declaration then
  return there
end
if args.declaration == '' then
  redis.call('HDEL', KEYS[1], args.field)
else
  redis.call('HSET', KEYS[1], args.field, args.declaration)
end
return ''
