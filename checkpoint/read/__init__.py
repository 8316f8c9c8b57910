"""Runs as people see them: one, a page of them, their steps, how they ended. Reads only.

May touch: `bus`, `run`, the registry.
"""
