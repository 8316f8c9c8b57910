"""The history of the outbox's table."""
