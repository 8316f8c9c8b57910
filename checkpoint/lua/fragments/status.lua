-- status: which words mean that a run has ended.
local ENDED = { completed = true, failed = true, cancelled = true, skipped = true }
