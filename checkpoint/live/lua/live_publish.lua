--[[ live_publish: add a message to a channel; the oldest go, and all of them when nothing has come for some time.

Why a script: a channel that got its message and not its expiry would stay for ever.

KEYS[1]  bus:live:{<channel>}  stream
args.now  now, which this script does not need
args.most  most messages that are kept
args.kept  how long they are kept after the last one, ms
args.topic  topic
args.data  data, JSON
args.run  the run that publishes, or empty
args.kind  what it is
args.stream  the stream it is a piece of, or empty

Returns the entry's id ]]
local entry = redis.call('XADD', KEYS[1], 'MAXLEN', '~', args.most, '*', 'topic', args.topic, 'data', args.data,
  'run', args.run, 'kind', args.kind, 'stream', args.stream)
redis.call('PEXPIRE', KEYS[1], args.kept)
return entry
