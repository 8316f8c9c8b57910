"""Consumers: entries are read, runs started, handlers called, and what came of them is recorded.

`from consumers import Worker`: `Worker(app)` runs an application's functions. `from consumers import Harness`:
`Harness(app)` tests them.
"""

from consumers.harness import Harness
from consumers.worker import Worker

__all__ = ["Harness", "Worker"]
