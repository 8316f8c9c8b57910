"""Deliveries: stream entries are read, reclaimed, started, and leave this worker by one exit.

May touch: `bus`, `checkpoint`.
"""
