"""Functions behind HTTP: an application that registered itself becomes a bus, and a driver calls its URL.

May touch: `bus`, `checkpoint`, `delivery`, `turn`, `drivers`. What runs these buses is consumers/following.py.
"""
