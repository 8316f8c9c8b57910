"""Facts: what people want to know afterwards, written as it happens and kept for a while.

How many runs started and ended in each minute, and of which errors they failed. Written by the scripts that start and
end runs (fragment `facts`), never by a command of its own; read here, as plain structs.
"""
