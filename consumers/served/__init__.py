"""Served: functions of a Python application that is called over HTTP, as the driver in consumers/remote calls it.

May touch: `bus`, `checkpoint`, `turn`, `drivers`, `remote` (what goes over the wire). It is no part of a worker: the
endpoint of the application (web/endpoint.py) has one Host, and each call that comes is a ServedCall.
"""
