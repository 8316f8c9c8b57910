"""Types of events: what workers have declared (`bus:types`), and checking by it before anything is stored.

May touch: `bus`, and what lies under it in `bus/wire`.
"""
