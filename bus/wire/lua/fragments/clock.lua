-- clock: the moment a script acts at, in ms: the server's, or the one a test gave.
-- Lua writes numbers with 14 digits, and ms have 13 until the year 2286: they may be joined and passed as they are.
local function server_now(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number is turned into text for each command it goes to, which costs as much as a small command: once is enough.
local function as_text(ms)
  return string.format('%d', ms)
end

-- A moment that this clock has noted lies at most `ahead` ms after now. One that lies later tells that the clock was set
-- back since; it counts as the latest it can be, or whoever waits for it would wait as long as the clock was set back.
local function at_most(noted, now, ahead)
  return math.min(tonumber(noted or 0), now + ahead)
end
