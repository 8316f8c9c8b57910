--[[ function_register: declare a function, if its declaration is still what the caller has seen.

Why a script: a slug has one owner. Whether another bus has it the caller reads from the declaration, and what it has
read must still stand when it writes.

KEYS[1]  bus:functions  hash  slug -> declaration
ARGV[1]  now, which this script does not need
ARGV[2]  slug
ARGV[3]  declaration
ARGV[4]  the declaration the caller has seen, or empty

Returns empty, or the declaration that stands ]]
local there = redis.call('HGET', KEYS[1], ARGV[2]) or ''
if there ~= ARGV[4] and there ~= ARGV[3] then
  return there
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return ''
