"""What the SDKs of applications behind HTTP call here, and how those are asked to register.

May touch: the engine, the door's answers, the store.
"""
