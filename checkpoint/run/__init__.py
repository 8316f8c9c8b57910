"""The life of a run in Redis: begun, started, saved, suspended, resolved, ended.

Each script has one file that calls it.

May touch: `bus`.
"""
