--[[ runs_look: has anything come from outside for turns that are in hand? Asked once a second for those older than that.

KEYS[1]  bus:fn:{<fn>}:  prefix  run:<run>, steps:<run> are built from it
ARGV[1]  now, which this script does not need
then for each turn two: run, highest n the caller knows

Returns for each {cancel or empty, news} ]]
-- uses: news
local answers = {}
for a = 2, #ARGV, 2 do
  local h = redis.call('HMGET', KEYS[1] .. 'run:' .. ARGV[a], 'cancel', 'wake')
  local known = tonumber(ARGV[a + 1])
  local found = h[2] and tonumber(h[2]) > known and news(KEYS[1], ARGV[a], known) or {}
  answers[#answers + 1] = { h[1] or '', found }
end
return answers
