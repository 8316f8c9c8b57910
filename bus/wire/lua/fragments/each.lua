-- each: one answer for every `width` arguments from `first` on. An item that fails (its key is of another type) answers
-- {'error', why} and does not stop the others. The function's argument must be called `a`: scripts.py makes `item.<name>`
-- of the item's fields by counting from there.
local function each(first, width, one)
  local answers = {}
  for a = first, #ARGV, width do
    local ok, answer = pcall(one, a)
    answers[#answers + 1] = ok and answer or { 'error', type(answer) == 'table' and answer.err or tostring(answer) }
  end
  return answers
end
