"""Trust: the keys that are shared with applications behind HTTP, and where those may be called.

May touch: values.
"""
