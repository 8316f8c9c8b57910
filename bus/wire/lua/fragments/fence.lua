-- fence: is the caller the living owner of this turn? `mine`, or the word it is told instead.
-- Equal fences, never newer or older: a fence is an unguessable token of one delivery (why A4).
-- A later turn is `over` even with another fence; an earlier one means the server rolled back: `lost`.
local function owner(status, fence, turn, my_fence, my_turn)
  if not status then
    return 'absent'
  end
  if ENDED[status] or tonumber(turn) > tonumber(my_turn) then
    return 'over'
  end
  if status == 'running' and fence == my_fence and turn == my_turn then
    return 'mine'
  end
  return 'lost'
end
