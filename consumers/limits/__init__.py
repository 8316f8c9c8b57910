"""Limits at work, in one direction: event, key, admission, backlog, dispatch, start.

What is decided is in `checkpoint/limits`; here is when it is asked.
May touch: `bus`, `checkpoint`, `delivery`, and what of `relay` a new run needs.
"""
