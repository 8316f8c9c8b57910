"""What waits for something outside its run: events, signals, ends of other runs.

May touch: `bus`, `run`, `read`.
"""
