"""Upkeep: the chores of every worker beside running functions: timers, schedules, discovery, repair, retention.

A chore does one round and says when the next is due; `chores.py` repeats them all. May touch: `bus`, `checkpoint`,
`producers`, `delivery`.
"""
