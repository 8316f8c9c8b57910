"""The process: what it may open, and where a test may end it.

May touch: nothing of ours.
"""
