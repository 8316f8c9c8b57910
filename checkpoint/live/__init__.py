"""Live messages: what runs and applications publish to channels, for whoever listens at that time.

Nothing here is durable: a channel keeps its newest messages for an hour, so that a listener who was cut off can go on.
"""
