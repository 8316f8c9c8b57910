--[[ read: one command that reads one key.

Why a script: calls of scripts that only read share one command (bus/wire/batching.py), and so do plain reads by this one.

KEYS[1]  of any type  the key
args.now  now, which this script does not need
args.before  how many words of the command come before the key
then the command's words but for the key

Returns what the command answers ]]
-- flags: no-writes
-- uses: many
local words = {}
for i = args.rest, #ARGV do
  if #words == tonumber(args.before) then
    words[#words + 1] = KEYS[1]
  end
  words[#words + 1] = ARGV[i]
end
if #words == tonumber(args.before) then
  words[#words + 1] = KEYS[1]
end
return ask(words)
