"""The HTTP API: what there is (/v1), actions, health.

May touch: the engine, the door's answers, the store.
"""
