"""Consumers: entries are read, runs started, handlers called, and what came of them is recorded.

`worker.py` is the life of a worker, `assembly.py` its parts. Rooms use those before them: delivery, turn, drivers,
limits and relay, upkeep. May touch: `bus`, `checkpoint`, `producers`.
"""
