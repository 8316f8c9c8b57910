"""Keys of a function's limits. They lie in its first partition."""

from stepstream.bus.wire.keys.of_functions import function
from stepstream.bus.wire.keys.prefixed import Key


def backlog(slug: str, limit_key: str) -> str:
    """zset · run → queued ms less priority: runs that wait for this limit. By admit and timers; dispatch removes."""
    return f"{function(slug)}backlog:{limit_key}"


def ready(slug: str) -> str:
    """zset · limit → its first run's rank: the backlogs that dispatch may try. By admit, end, suspend, dispatch."""
    return f"{function(slug)}ready"


def full(slug: str) -> str:
    """zset · limit → when its first run was refused last, ms. Written by dispatch; removed by the sweep."""
    return f"{function(slug)}full"


def places(slug: str, limit_key: str) -> str:
    """zset · run → since when it holds a place of this limit, ms. Written by dispatch; suspend and end give it back."""
    return f"{function(slug)}places:{limit_key}"


def buffer(slug: str, key: str) -> str:
    """hash · events that will be one run (debounce `d:`, batch `b:`): run, first, event or e:1 …. Until its timer."""
    return f"{function(slug)}buffer:{key}"


def buffered(slug: str) -> str:
    """hash · run → the buffer it will be made of: found by its id before it begins. Kept with the buffer."""
    return f"{function(slug)}buffered"


def rate(slug: str, key: str) -> str:
    """string · when a throttle or rate limit would be empty again, ms (GCRA). Expires then."""
    return f"{function(slug)}rate:{key}"


def single(slug: str, key: str) -> str:
    """string · the run that has the name of a singleton. Written by admit; given up in the act that ends the run."""
    return f"{function(slug)}single:{key}"


KEYS: tuple[Key, ...] = (
    (backlog, ("F", "<id>")), (ready, ("F",)), (full, ("F",)), (places, ("F", "<id>")), (buffer, ("F", "<id>")),
    (buffered, ("F",)), (rate, ("F", "<id>")), (single, ("F", "<id>")),
)  # fmt: skip
