"""Limits at work, in one direction: event, key, admission, backlog, dispatch, start.

What is decided is in `checkpoint/limits`; here is when it is asked. A limit that functions share is asked for last,
when a run that has its function's places is to start (`shared_places.py`).
May touch: `bus`, `checkpoint`, `delivery`, and what of `relay` a new run needs.
"""
