"""Alerts as a setting has them: the rules with their thresholds, and where what fires is sent.

May touch: `errors`, `values`.
"""
