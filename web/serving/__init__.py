"""Serving: the site in a uvicorn of its own: what it listens on, how many may be connected, when it stops.

May touch: the site as a whole, uvicorn.
"""
