"""One connection to Redis: how it is opened and kept alive, and what its error replies mean.

May touch: `values`, errors, key names. Only `bus/wire` knows redis-py.
"""
