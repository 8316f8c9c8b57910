"""Actions on runs and functions from outside: invoke, cancel, rerun, forget.

May touch: `bus`, and every other room of the checkpoint.
"""
