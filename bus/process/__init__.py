"""The process: how many files it may open, where a test may end it, and a server beside it.

May touch: errors.
"""
