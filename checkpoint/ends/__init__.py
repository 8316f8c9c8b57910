"""Ends of runs: how a run ended, as its caller and subscribers are told, and who subscribes.

May touch: `bus`, `run`.
"""
