"""Values: JSON, ids, durations, addresses and expressions; everything here works without Redis.

May touch: errors, and what is beside it.
"""
