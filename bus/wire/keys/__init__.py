"""Every Redis key: its name, type, writer and expiry. docs/keys.md is made from the docstrings.

Names are percent-encoded, so a name can hold no `{`, `}` or `:` and never moves a key to another slot. Hash tags are
the event's name and the function's slug: a script touches one tag, so a busy bus spreads over a cluster by itself
(but run_start_eagerly, which start stands in for, and runs_page and runs_count, which only read). A function whose runs
are spread over several partitions has a tag for each (bus/values/ids.py); builders take a run, or a partition, to say
which.

Every key begins with the prefix of the installation (BUS_PREFIX, here `bus`): two that share a Redis see nothing of
each other. A process has one prefix, and scripts have none of their own: they get keys, or the beginning of keys.

They stand by what they are keys of: `keys.run(slug, run)` from wherever it is.
"""

# ruff: noqa: F403 - each of them is nothing but functions that make keys
from stepstream.bus.wire.keys import of_all, of_apps, of_events, of_functions, of_limits, of_runs
from stepstream.bus.wire.keys.of_all import *
from stepstream.bus.wire.keys.of_apps import *
from stepstream.bus.wire.keys.of_events import *
from stepstream.bus.wire.keys.of_functions import *
from stepstream.bus.wire.keys.of_limits import *
from stepstream.bus.wire.keys.of_runs import *
from stepstream.bus.wire.keys.prefixed import *

ALL = (
    *of_all.KEYS,
    *of_apps.KEYS,
    *of_events.KEYS,
    *of_functions.KEYS,
    *of_runs.KEYS,
    *of_limits.KEYS,
)
"""Each function that makes a key, with stand-ins for its arguments, in the order docs/keys.md shows them."""
