"""Limits of functions: who is admitted, who waits in line, who is dispatched.

May touch: `bus`, `run`.
"""
