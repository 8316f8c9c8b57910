"""Alerts: one process of a store looks at its rules, and sends what fires and what is over, once.

May touch: `bus`, `checkpoint`, `producers`, `delivery`.
"""
