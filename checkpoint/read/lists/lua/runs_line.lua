--[[ runs_line: what a list shows of one run, as runs_page does. Calls for several are one command (bus/wire/batching.py).

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run> is built from it
args.now  now, which this script does not need
args.run  the run
args.event  how many bytes of its event are wanted
args.error  how many bytes of its error

Returns {event, error, then the fields of h}, or nothing when it is gone ]]
-- flags: no-writes
-- uses: run_line
local key = KEYS[1] .. 'run:' .. args.run
local found = { start_of(key, 'event', args.event), start_of(key, 'error', args.error) }
return add_line(found, key) and found or nil
