"""One file for each kind of step a turn can take, and the facade that a handler sees.

May touch: `bus`, `checkpoint`, `turn`.
"""
