"""Waits for something outside the run: events and signals; what cancels a run.

May touch: `bus`, `run`, `read`.
"""
