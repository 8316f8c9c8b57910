"""Values: what is written, compared and computed without Redis: JSON, ids, durations, addresses, expressions.

May touch: errors, and what is beside it.
"""
