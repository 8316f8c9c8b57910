--[[ backlog_try: let the first run of a backlog be tried again, and wake an idle worker.

KEYS[1]  bus:fn:{<fn>}:  prefix  backlog:<key>, ready, queue are built from it
args.now  now, which this script does not need
args.limit_key  the limit

Returns 1 ]]
-- uses: places queue
ready(KEYS[1], args.limit_key)
tell_ready(KEYS[1])
ring(KEYS[1], 'shared')
return 1
