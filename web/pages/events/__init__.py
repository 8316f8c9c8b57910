"""The pages of events: all names, one name with its newest events, one event, and sending one.

May touch: the engine's reads and actions, the store, what pages are made with.
"""
