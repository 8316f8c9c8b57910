"""The API of what makes runs go: limits, schedules; each route with its words in the table (web/table).

May touch: what web/api may.
"""
