"""Delivery: stream entries are read, reclaimed, started, and leave this worker by one exit.

What an entry holds while it is in hand, a lease and shared places, is here too. Lower parts ring or return; they call
nothing above. May touch: `bus`, `checkpoint`.
"""
