"""Stand-ins: what the examples have in place of the outside world, and of a service manager.

An application asks a model, a market or a blob store by a call that begins with `await outside("ask/opus")`. What
happens then stands in a file, which tests write, and which you may edit while an example runs.
"""

from stand_ins.supervisor import Supervised, scratch_redis
from stand_ins.trouble import CRASHED, Told, Unavailable, calls, outside, outside_sync, tell

__all__ = ["CRASHED", "Supervised", "Told", "Unavailable", "calls", "outside", "outside_sync", "scratch_redis", "tell"]
