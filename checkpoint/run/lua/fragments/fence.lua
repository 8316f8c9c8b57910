-- fence: does the caller still own this turn? Returns `mine`, or the word to answer instead.
-- Fences are compared for equality, never for order: a fence is a random token of one delivery (docs/design/delivery.md).
-- A later turn is `over` even with another fence; an earlier one means the server rolled back: `lost`.
-- hash held: status fence turn
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

-- The same for a caller that needs to know no more of the run.
local function owner_of(key, fence, turn)
  local held = redis.call('HMGET', key, fields.held)
  return owner(held.status, held.fence, held.turn, fence, turn)
end
