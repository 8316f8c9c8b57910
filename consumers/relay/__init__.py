"""The relay: what crosses from one slot to another: ends, events that are waited for, events that cancel.

May touch: `bus`, `checkpoint`, `delivery`.
"""
