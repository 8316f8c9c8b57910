"""Limits at work: event, key, admission, dispatch, start.

May touch: `bus`, `checkpoint`, `delivery`.
"""
