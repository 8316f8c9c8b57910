"""The life of a run in Redis: begun, started, saved, suspended, resolved, ended. One file for each script.

May touch: `bus`.
"""
