"""Connect: workers of applications that open a WebSocket to this server, in place of being called over HTTP.

A worker asks for a connection (`start.py`), opens it, says which applications it has and what they can do, and is sent
their calls (`worker.py`). `gateway.py` holds the connections of this process and takes calls from Redis for them.
"""
