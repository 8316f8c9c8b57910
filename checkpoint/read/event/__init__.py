"""One event: what each function that listens made of it, and how those runs end."""
