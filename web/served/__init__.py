"""Served: what an application's endpoint answers the bus that calls its functions (web/endpoint.py has the routes)."""
