"""The API of what makes runs go: functions, limits, schedules, applications, the system.

Each route has its words in the table (web/table).

May touch: what web/api may.
"""
