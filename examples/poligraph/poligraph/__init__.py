"""Jobs that keep a database of politics up to date: scripts that run for minutes, as durable functions."""
