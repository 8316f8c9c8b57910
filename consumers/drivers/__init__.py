"""Drivers: how a function's code is called. The local one calls Python in this process.

May touch: `bus`, `checkpoint`, `turn`.
"""
