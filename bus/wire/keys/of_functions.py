"""Keys of one function. Their hash tag is its slug, with the partition where its runs are spread over several."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from stepstream.bus.values.ids import FIRST, SPREAD, partition_of, partitions
from stepstream.bus.wire.keys.prefixed import Key, coded, prefix

T = TypeVar("T")


def function(slug: str, where: str = FIRST) -> str:
    """Return the prefix of a function's keys in one partition: scripts take it as a key and build the others from it.

    `where` is a run, all of whose keys lie in its partition, or one of partitions(slug). What a function has but once,
    its schedules and what belongs to its limits, lies in the first.
    """
    if slug in SPREAD:
        partition = partition_of(where) or where
        if partition != FIRST and partition in partitions(slug):
            return f"{prefix()}:fn:{{{coded(slug)}#{partition}}}:"
    return f"{prefix()}:fn:{{{coded(slug)}}}:"


def by_partition(slug: str, items: Sequence[T], run_of: Callable[[T], str]) -> Sequence[tuple[str, Sequence[T]]]:
    """Return items that are about runs of a function as they lie together: a prefix of keys, and its items, for each.

    A script is called once for each; where the function is not spread that is once for all.
    """
    if slug not in SPREAD:
        return [(function(slug), items)] if items else []
    together: dict[str, list[T]] = {}
    for item in items:
        together.setdefault(function(slug, run_of(item)), []).append(item)
    return list(together.items())


def function_workers(slug: str, where: str = FIRST) -> str:
    """zset · consumer → end of its lease, server ms: the lease of what it has pending in the queue. Lease thread."""
    return f"{function(slug, where)}workers"


def queue(slug: str, where: str = FIRST) -> str:
    """stream · turns that are due now: run, turn, why. Written by timers, resolve; deleted when acknowledged."""
    return f"{function(slug, where)}queue"


def ends(slug: str, where: str = FIRST) -> str:
    """stream · ends that someone waits for (a caller, listeners), and names they leave; deleted when told."""
    return f"{function(slug, where)}ends"


def timers(slug: str, where: str = FIRST) -> str:
    """zset · `<run>:<turn>`, `buffer|<key>` or `limit|<key>` → when it is due, ms. By suspend, admit, dispatch."""
    return f"{function(slug, where)}timers"


def cron(slug: str) -> str:
    """hash · schedule → its last tick, ms, and where it stood before the clock was set. Written by tick. Permanent."""
    return f"{function(slug)}cron"


def cancels(slug: str, where: str = FIRST) -> str:
    """zset · `<event>|<path>=<value>|<run>|<deadline>`: runs an event cancels. Written by start, removed by end."""
    return f"{function(slug, where)}cancels"


def minute(slug: str, at: int, where: str = FIRST) -> str:
    """hash · runs in one Unix minute: `started:<bucket>`, `completed:<bucket>`, …, `e:<error>` → how many. 25 h.

    Bucket b: from 10^(b/3) ms on, queued until it started, or started until it ended. By who starts and ends runs.
    """
    return f"{function(slug, where)}minute:{at}"


def errors(slug: str, where: str = FIRST) -> str:
    """hash · `<error>` → what it is, JSON; `<error> count`, `… last`, `… state`, … By who ends runs. 500; 30 days."""
    return f"{function(slug, where)}errors"


def erred(slug: str, where: str = FIRST) -> str:
    """zset · error → when a run failed of it last, ms: the oldest make room for others. Kept as long as `errors`."""
    return f"{function(slug, where)}erred"


KEYS: tuple[Key, ...] = (
    (function_workers, ("F",)), (queue, ("F",)), (ends, ("F",)), (timers, ("F",)), (cron, ("F",)),
    (cancels, ("F",)), (minute, ("F", "<id>")), (errors, ("F",)), (erred, ("F",)),
)  # fmt: skip
