"""Every Redis key: its name, type, writer and expiry. docs/keys.md is made from the docstrings below.

Names are percent-encoded, so a name can hold no `{`, `}` or `:` and never moves a key to another slot. Hash tags are
the event's name and the function's slug: a script touches one tag, so a busy bus spreads over a cluster by itself
(but run_start_eagerly, which start stands in for, and runs_page and runs_count, which only read). A function whose runs
are spread over several partitions has a tag for each (bus/values/ids.py); builders take a run, or a partition, to say
which.

Every key begins with the prefix of the installation (BUS_PREFIX, here `bus`): two that share a Redis see nothing of
each other. A process has one prefix, and scripts have none of their own: they get keys, or the beginning of keys.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.ids import FIRST, SPREAD, partition_of, partitions

T = TypeVar("T")

_prefix = "bus"
_is_fixed = False


def use_prefix(prefix: str) -> None:
    """Let all keys of this process begin with a prefix; ConfigError when they begin with another already."""
    global _prefix, _is_fixed
    if _is_fixed and prefix != _prefix:
        raise ConfigError(
            f"this process uses keys that begin with {_prefix!r}, and is told to use {prefix!r}: "
            "BUS_PREFIX is one for a whole process"
        )
    _prefix, _is_fixed = prefix, True


def prefix() -> str:
    """Return what every key of this process begins with, without the colon."""
    return _prefix


def pattern() -> str:
    """Return the pattern of every key of this installation, for SCAN and ACLs."""
    return f"{_prefix}:*"


@lru_cache(maxsize=4_096)  # also of ids and names that strangers choose
def coded(name: str) -> str:
    """Return a name as it stands in keys."""
    return quote(name, safe="/")


def meta() -> str:
    """hash · `format`: the store's format. By who registers first; a worker refuses another. Permanent."""
    return f"{_prefix}:meta"


def functions() -> str:
    """hash · slug → its declaration as JSON. Written by workers; by publishers what nobody has declared. Permanent."""
    return f"{_prefix}:functions"


def triggers() -> str:
    """hash · `<slug> <event name>` → when that trigger was first registered, ms: its group starts there. Permanent."""
    return f"{_prefix}:triggers"


def types() -> str:
    """hash · event name → the JSON Schemas of its types, by hash, each with the buses that declare it and when, ms.

    `bus/function.invoked <slug>`: what a function takes that is invoked. Written by workers, again every minute; by
    publishers for a name that has none. A bus that has not said so for 7 days goes.
    """
    return f"{_prefix}:types"


def event_names() -> str:
    """zset · event name → when it was first published, ms. Written before the name's first event. Permanent."""
    return f"{_prefix}:event-names"


def apps() -> str:
    """hash · application behind HTTP → what it registered: URL, SDK, functions, error. By who serves. Permanent."""
    return f"{_prefix}:apps"


def cancellations() -> str:
    """hash · id → a bulk cancellation, JSON. By whoever asks; workers carry it on. Kept 7 days after it is done."""
    return f"{_prefix}:cancellations"


def operations() -> str:
    """hash · id → an operation: its kind, query and progress, JSON. As a cancellation; kept 7 days after its end."""
    return f"{_prefix}:operations"


def app_changes() -> str:
    """stream · the last changes of applications behind HTTP: workers block on it, to follow. By who changes one."""
    return f"{_prefix}:apps:changes"


def controls() -> str:
    """hash · `paused function <slug>`, `paused event <name>`, `limit <slug> <limit> [<key>]` → since when, by whom."""
    return f"{_prefix}:controls"


def control_changes() -> str:
    """stream · the last changes of what is ordered: workers block on it, to follow. By who pauses, resumes, …"""
    return f"{_prefix}:controls:changes"


def workers() -> str:
    """zset · worker → end of its lease, server ms. Written by the lease thread; the dead are removed after a day."""
    return f"{_prefix}:workers"


def worker(name: str) -> str:
    """hash · a worker: host, pid, version, slots, functions, since, seen, held, draining. By its leases; a day."""
    return f"{_prefix}:worker:{{{coded(name)}}}"


def events(name: str) -> str:
    """stream · events of one name: id, name, data, ts, v. One consumer group per function. Written by producers."""
    return f"{_prefix}:events:{{{coded(name)}}}"


def seen(name: str, event_id: str) -> str:
    """string · a caller's event id → the entry it became: a second publish stores nothing. Expires after 24 h."""
    return f"{events(name)}:seen:{coded(event_id)}"


def again(name: str) -> str:
    """stream · events that an SDK sent again: internal id, entry. By producers; the newest 1,000; a day."""
    return f"{events(name)}:again"


def delayed(name: str) -> str:
    """zset · id → when that event of the name is to be published, ms. Written by producers; any worker publishes."""
    return f"{events(name)}:delayed"


def delayed_event(name: str, event_id: str) -> str:
    """hash · an event that is to be published later: the fields its entry will have. Until then, or taken back."""
    return f"{delayed(name)}:{coded(event_id)}"


def delayed_names() -> str:
    """zset · event name → when its next delayed event is due, ms. By producers; the worker that finds none removes."""
    return f"{_prefix}:delayed"


def events_workers(name: str) -> str:
    """zset · consumer → end of its lease, server ms: the lease of what it has pending in this slot. Lease thread."""
    return f"{events(name)}:workers"


def events_served(name: str) -> str:
    """zset · group → when a worker last served it, ms; `@looked`: when the sweep was here. Goes with the stream."""
    return f"{events(name)}:served"


def waits(name: str) -> str:
    """zset · `<path>=<value>|<slug>|<run>|<step>|<deadline>|<entry>`: waits by equal value, for what is behind."""
    return f"{events(name)}:waits"


def waits_if(name: str) -> str:
    """hash · `<slug>|<run>|<step>|<deadline>` → its expression, and the entry it waits behind. Courier removes."""
    return f"{events(name)}:waits:if"


def waited() -> str:
    """zset · event name → the latest deadline of a wait for it, ms: which streams couriers read. Courier removes."""
    return f"{_prefix}:waits"


def signal(name: str) -> str:
    """string · a signal's name → `<slug>|<run>|<fence>|<step>`: the step that waits for it. Expires at its deadline.

    After a step's signal was heard: `|<run>|<mark>`, so that the sender's next try knows. Expires after an hour.
    """
    return f"{_prefix}:signal:{{{coded(name)}}}"


def signal_lost(name: str, waiter: str) -> str:
    """string · `1`: step `<slug>|<run>|<step>` waits on without its signal: another took it. Expires when it ends."""
    return f"{signal(name)}:lost:{coded(waiter)}"


def limit(name: str) -> str:
    """zset · `<slug>|<run>|<turn>` → end of its lease, ms: who holds a place of `<name>=<key>`. Expires with them."""
    return f"{_prefix}:limit:{{{coded(name)}}}"


def limit_waiting(name: str) -> str:
    """set · `<slug>|<limit>`: lines to be tried when a shared place is given back. Expires after a minute."""
    return f"{limit(name)}:waiting"


def live(channel: str) -> str:
    """stream · messages of a channel: topic, data, run, kind. The newest 1,000 or fewer. Expires 1 h after the last."""
    return f"{_prefix}:live:{{{coded(channel)}}}"


def connect(app: str) -> str:
    """Return the prefix of the keys of an application that is connected: scripts build the others from it."""
    return f"{_prefix}:connect:{{{coded(app)}}}:"


def connect_workers(app: str) -> str:
    """zset · connection of an application's worker that takes calls → end of its lease, server ms. By its gateway."""
    return f"{connect(app)}workers"


def connect_worker(app: str, connection: str) -> str:
    """hash · a connected worker: gateway, capacity, …; `call <id>` → what it has in hand. Expires with its lease."""
    return f"{connect(app)}worker:{connection}"


def connect_requests(app: str) -> str:
    """stream · calls that wait for a connected worker: gateways block on it, and delete. A day after the last."""
    return f"{connect(app)}requests"


def connect_call(app: str, call: str) -> str:
    """hash · a call of a connected application: state, body, who has it; then its answer. Expires soon after."""
    return f"{connect(app)}call:{call}"


def connect_answers(process: str) -> str:
    """stream · calls of one process that are answered: it blocks on this. The newest 10,000; 1 h after the last."""
    return f"{_prefix}:connect-answers:{{{coded(process)}}}"


def connect_token(connection: str) -> str:
    """string · what a worker says when it opens the connection that it was promised. Once, within a minute."""
    return f"{_prefix}:connect-token:{{{coded(connection)}}}"


def function(slug: str, where: str = FIRST) -> str:
    """Return the prefix of a function's keys in one partition: scripts take it as a key and build the others from it.

    `where` is a run, all of whose keys lie in its partition, or one of partitions(slug). What a function has but once,
    its schedules and what belongs to its limits, lies in the first.
    """
    if slug in SPREAD:
        partition = partition_of(where) or where
        if partition != FIRST and partition in partitions(slug):
            return f"{_prefix}:fn:{{{coded(slug)}#{partition}}}:"
    return f"{_prefix}:fn:{{{coded(slug)}}}:"


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


def run(slug: str, run_id: str) -> str:
    """hash · one run: status, event, turn, entry, fence, worker, output or error. Expires `keep` after its end."""
    return f"{function(slug, run_id)}run:{run_id}"


def steps(slug: str, run_id: str) -> str:
    """hash · step id → memo, written once: n, kind, attempts, started, ended, data or error. Expires with its run."""
    return f"{function(slug, run_id)}steps:{run_id}"


def open_steps(slug: str, run_id: str) -> str:
    """hash · step id → what is not finished: kind, since, due, attempt, error. Removed with the memo."""
    return f"{function(slug, run_id)}open:{run_id}"


def log(slug: str, run_id: str) -> str:
    """list · what a run has written: lines as JSON, the newest 2,000 (256 KiB). Expires with its run."""
    return f"{function(slug, run_id)}log:{run_id}"


def attempts(slug: str, run_id: str) -> str:
    """list · the last 20 attempts of a run that failed: ended, step, attempt, took, error. Expires with its run."""
    return f"{function(slug, run_id)}attempts:{run_id}"


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


def ends(slug: str, where: str = FIRST) -> str:
    """stream · ends that someone waits for (a caller, listeners), and names they leave; deleted when told."""
    return f"{function(slug, where)}ends"


def cron(slug: str) -> str:
    """hash · schedule → its last tick, ms, and where it stood before the clock was set. Written by tick. Permanent."""
    return f"{function(slug)}cron"


def cancels(slug: str, where: str = FIRST) -> str:
    """zset · `<event>|<path>=<value>|<run>|<deadline>`: runs an event cancels. Written by start, removed by end."""
    return f"{function(slug, where)}cancels"


def timers(slug: str, where: str = FIRST) -> str:
    """zset · `<run>:<turn>`, `buffer|<key>` or `limit|<key>` → when it is due, ms. By suspend, admit, dispatch."""
    return f"{function(slug, where)}timers"


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


def runs(slug: str, status: str, where: str = FIRST) -> str:
    """zset · run → queued at, ms: the index of runs by status. Members may outlive their run; readers skip them."""
    return f"{function(slug, where)}runs:{status}"


ALL: tuple[tuple[Callable[..., str], tuple[str, ...]], ...] = (
    (meta, ()), (functions, ()), (triggers, ()), (types, ()), (event_names, ()), (workers, ()), (worker, ("<id>",)),
    (apps, ()), (app_changes, ()), (cancellations, ()), (operations, ()), (controls, ()), (control_changes, ()),
    (waited, ()), (delayed_names, ()), (events, ("E",)), (seen, ("E", "<id>")), (again, ("E",)), (delayed, ("E",)),
    (delayed_event, ("E", "<id>")), (events_workers, ("E",)), (events_served, ("E",)), (waits, ("E",)),
    (waits_if, ("E",)), (signal, ("<id>",)), (signal_lost, ("<id>", "<run>")), (limit, ("<id>",)),
    (limit_waiting, ("<id>",)), (live, ("<id>",)), (connect_workers, ("<id>",)), (connect_worker, ("<id>", "<id>")),
    (connect_requests, ("<id>",)), (connect_call, ("<id>", "<id>")), (connect_answers, ("<id>",)),
    (connect_token, ("<id>",)), (queue, ("F",)), (run, ("F", "<run>")), (steps, ("F", "<run>")),
    (open_steps, ("F", "<run>")), (log, ("F", "<run>")), (attempts, ("F", "<run>")), (minute, ("F", "<id>")),
    (errors, ("F",)), (erred, ("F",)), (ends, ("F",)), (cron, ("F",)), (cancels, ("F",)), (timers, ("F",)),
    (backlog, ("F", "<id>")), (ready, ("F",)), (full, ("F",)), (places, ("F", "<id>")), (buffer, ("F", "<id>")),
    (buffered, ("F",)), (rate, ("F", "<id>")), (single, ("F", "<id>")), (runs, ("F", "<status>")),
    (function_workers, ("F",)),
)  # fmt: skip
"""Each key function with stand-ins for its arguments, in the order docs/keys.md shows them."""
