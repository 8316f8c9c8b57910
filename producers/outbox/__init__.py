"""Outbox: events that are published if, and only if, a transaction of the application's own database is committed.

An event is a row, written in that transaction; a relay publishes committed rows and deletes them. The event's id is
the row's, so a row that is published twice, because a relay died before it deleted it, is stored once.
`sqlalchemy.py` and `django/` have one each; neither is imported unless it is used. May touch: `bus`.
"""
