"""Consumers: entries are read, runs started, handlers called, and what came of them is recorded."""
