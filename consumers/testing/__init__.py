"""Functions under test: the harness, its server, the pytest plugin.

May touch: everything of the engine.
"""
