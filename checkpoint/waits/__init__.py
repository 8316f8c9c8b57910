"""Waits for something outside the run: events, signals, ends of other runs.

May touch: `bus`, `run`, `read`.
"""
