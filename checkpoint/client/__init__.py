"""The Python client: runs and delayed events of an application, for its own code. Async, and for threads.

May touch: the engine's reads and actions.
"""
