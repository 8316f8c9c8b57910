--[[ field_put: write a field of a hash (a declaration, an order, a state), if what stands is what the caller has seen.

Why a script: several may change such a field at once. Whether a change may be made, and what comes out of it, the caller
reads from what stands; what it has read must still stand when it writes.

KEYS[1]  bus:functions, bus:types, bus:apps, bus:controls, bus:operations, …  hash  name -> JSON
args.now  now, which this script does not need
args.field  the field's name
args.value  what is to stand; empty: the field is removed
args.seen  what the caller has seen, or empty

Returns nil when that stands now, or else what stands: empty where there is nothing ]]
local there = redis.call('HGET', KEYS[1], args.field) or ''
if there ~= args.seen and there ~= args.value then
  return there
end
if args.value == '' then
  redis.call('HDEL', KEYS[1], args.field)
else
  redis.call('HSET', KEYS[1], args.field, args.value)
end
return false
