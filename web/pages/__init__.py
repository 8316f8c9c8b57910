"""The status page: views (plain values), templates, the routes that render one with the other, the forms' routes.

May touch: the engine's reads and actions, the store.
"""
