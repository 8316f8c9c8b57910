"""Limits of functions: which events are admitted, which runs wait in a backlog, which are dispatched.

May touch: `bus`, `run`.
"""
