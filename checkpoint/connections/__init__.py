"""Connections: workers of applications that hold a WebSocket, and the calls that reach them by way of Redis.

Who drives a run (`bus worker --remote`) asks; whoever holds the WebSocket (a gateway: `bus serve`, `bus dev`) takes
what its workers have room for. Each has a lease, so that a call whose gateway or worker dies is noticed, and tried
elsewhere.
"""
