-- cancels: note what cancels a run: `words`, a line each.
local function index_cancels(fn, key, words)
  if words ~= '' then
    redis.call('HSET', key, 'cancels', words)
    for word in string.gmatch(words, '[^\n]+') do
      redis.call('ZADD', fn .. 'cancels', 0, word)
    end
  end
end
