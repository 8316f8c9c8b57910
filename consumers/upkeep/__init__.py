"""Upkeep: what every worker does beside running functions: timers, schedules, discovery, repair, retention.

May touch: `bus`, `checkpoint`, `producers`.
"""
