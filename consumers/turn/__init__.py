"""A turn: one stretch of a run between two waits. Its state, what it records, and when it suspends.

May touch: `bus`, `checkpoint`, `delivery`.
"""
