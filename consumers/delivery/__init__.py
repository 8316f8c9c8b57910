"""Delivery: stream entries are read, reclaimed, started, and leave this worker by one exit.

Lower parts ring or return; they call nothing above. May touch: `bus`, `checkpoint`.
"""
