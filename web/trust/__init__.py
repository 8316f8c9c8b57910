"""Trust: who asks, and what they may do: keys, tokens and roles.

May touch: the floors below, requests; not routes and pages.
"""
