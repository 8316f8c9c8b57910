--[[ runs_look: has anything come from outside for turns that are in hand? Asked once a second for those older than that.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run> are built from it
ARGV[1]  now, which this script does not need
then for each turn two: run, highest n the caller knows

Returns for each {cancel or empty, news} ]]
-- uses: news
local answers = {}
for a = 2, #ARGV, 2 do
  local h = redis.call('HMGET', KEYS[1] .. 'run:' .. ARGV[a], 'cancel', 'wake')
  answers[#answers + 1] = { h[1] or '', news(KEYS[1], ARGV[a], tonumber(ARGV[a + 1]), tonumber(h[2] or 0)) }
end
return answers
