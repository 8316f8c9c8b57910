"""The status page: views as plain values, templates, and the routes that join them.

May touch: the engine's reads, the store.
"""
