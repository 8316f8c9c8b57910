"""Web: the HTTP API, the status page, and `bus dev`."""
