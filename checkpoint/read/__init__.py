"""What there is, as people see it: lists, one run, what became of one event. Reads only.

May touch: `bus`, `checkpoint/run`, `checkpoint/facts`, the registry, what is paused.
"""
