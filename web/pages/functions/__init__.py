"""The pages of functions: all of them, one, and what can be done with it: pause, resume, invoke, forget.

May touch: the engine's reads and actions, the store, what pages are made with.
"""
