"""Pages about what makes runs go: limits, schedules, workers; of what they fail; and the system below.

A module and a template for each, made as web/pages/page.py says.
"""
