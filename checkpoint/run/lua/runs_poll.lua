--[[ runs_poll: has anything come from outside for turns in hand? Asked once a second for those older than that.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run> are built from it
args.now  now, which this script does not need
then for each turn two: run, highest n the caller knows

Returns for each {cancel or empty, news} ]]
-- item: run known
-- hash h: cancel wake
-- uses: news
local answers = {}
for a = item.first, #ARGV, item.width do
  local h = redis.call('HMGET', KEYS[1] .. 'run:' .. item.run, fields.h)
  answers[#answers + 1] = { h.cancel or '', news(KEYS[1], item.run, tonumber(item.known), tonumber(h.wake or 0)) }
end
return answers
