-- seen: what an event's id became, while it is remembered.

-- Returns the entry that the id of `key` became less than `remembered` ms ago, or nothing. `now` is ms where a test has
-- set the clock, else empty: keys expire by the server's own clock.
local function seen(key, now, remembered)
  local entry = redis.call('GET', key)
  if entry and now ~= '' and now - string.match(entry, '%d+') >= tonumber(remembered) then
    return nil
  end
  return entry
end
