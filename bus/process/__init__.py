"""The process: how many files it may open, and where a test may end it.

May touch: nothing of ours.
"""
