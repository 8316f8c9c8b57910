"""Functions and events as they are at work: what pages, the API and commands tell of each beside what is declared.

And where it can be read raw (`redis_cli`).

May touch: `bus`, the registry, what is ordered (`controls`), `facts`, `read`, `limits`.
"""
