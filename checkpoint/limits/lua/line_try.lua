--[[ line_try: the first run of a line may have its place now; a worker that is idle is woken.

KEYS[1]  bus:fn:{<fn>}:  prefix  backlog:<key>, ready, queue are built from it
args.now  now, which this script does not need
args.hold  the limit

Returns 1 ]]
-- uses: places queue
ready(KEYS[1], args.hold)
tell_ready(KEYS[1])
ring(KEYS[1], 'shared')
return 1
