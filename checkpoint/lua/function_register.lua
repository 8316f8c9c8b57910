--[[ function_register: declare a function, if its declaration is still what the caller has seen.

Why a script: a slug has one owner. Whether another bus has it the caller reads from the declaration, and what it has
read must still stand when it writes.

KEYS[1]  bus:functions  hash  slug -> declaration
args.now  now, which this script does not need
args.slug  slug
args.declaration  declaration
args.seen  the declaration the caller has seen, or empty

Returns empty, or the declaration that stands ]]
local there = redis.call('HGET', KEYS[1], args.slug) or ''
if there ~= args.seen and there ~= args.declaration then
  return there
end
redis.call('HSET', KEYS[1], args.slug, args.declaration)
return ''
