"""Live: what changed, looked at once a second for all pages that are open, and told to each of them.

May touch: the engine's reads, routes, the store.
"""
