"""Web: the HTTP API and the status page."""
