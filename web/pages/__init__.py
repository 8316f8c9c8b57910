"""The status page: views (plain values), templates, and the routes that render one with the other.

May touch: the engine's reads, the store.
"""
