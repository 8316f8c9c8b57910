"""The relay: what crosses from one slot to another: ends of runs, events that are waited for, events that cancel.

Its entries are acknowledged when every target has answered. May touch: `bus`, `checkpoint`, `delivery`.
"""
