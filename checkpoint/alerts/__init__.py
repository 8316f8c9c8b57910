"""Alerts as Redis has them: what fires since when, who looks, which thresholds people have set.

May touch: `bus`, `fields`.
"""
