"""Controls: what people order of functions and events, and workers follow: pauses, one run let through, limits.

What is ordered is told in `ordered.py`; each kind of order has a file that gives and takes it back, by `put.py`: as one
act, and told to all workers. May touch: `bus`, and of `checkpoint` the registry and `fields`.
"""
