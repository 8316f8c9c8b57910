--[[ worker_tell: a worker says that it lives, and what has changed of what people may know of it.

KEYS[1]  bus:worker:{<name>}  hash
args.now  now, ms, or empty for the server's clock
args.kept  how long it is kept after the last sign, ms
then the fields that have changed, and their values

Returns 1 when the server knew nothing of it: then all is to be told again ]]
-- flags: allow-oom
-- uses: clock many
local now = as_text(server_now(args.now))
local is_new = redis.call('HSET', KEYS[1], 'seen', now)
redis.call('HSETNX', KEYS[1], 'since', now) -- its first sign
many(ARGV, args.rest, 'HSET', KEYS[1])
redis.call('PEXPIRE', KEYS[1], args.kept)
return is_new
