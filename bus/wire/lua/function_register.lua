--[[ function_register: declare a function and remember since when each of its triggers is there.

Why a script: a slug has one owner; two buses that would share runs and groups are told apart here (why A18).

KEYS[1]  bus:functions  hash  slug -> declaration
ARGV[1]  now, which this script does not need
ARGV[2]  slug
ARGV[3]  bus id
ARGV[4]  declaration, JSON that has "bus" first

Returns empty, or the bus id that owns the slug ]]
local there = redis.call('HGET', KEYS[1], ARGV[2])
local owner = there and string.match(there, '^{"bus":"([^"]*)"')
if owner and owner ~= ARGV[3] then
  return owner
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return ''
