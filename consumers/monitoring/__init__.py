"""Monitoring: a worker as Prometheus and probes see it: what it counts, whether it is alive, whether it is ready.

`counted.py` listens to the signals, `pulse.py` sees that the loop turns, `server.py` answers from a thread, so that it
answers while the loop is blocked, and `monitoring.py` makes one of all. May touch: worker, following.
"""
