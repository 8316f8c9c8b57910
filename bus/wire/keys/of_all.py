"""Keys of which an installation has one, or one for each worker, signal, shared limit or channel."""

from stepstream.bus.wire.keys.prefixed import Key, coded, prefix


def meta() -> str:
    """hash · `format`: the store's format. By who registers first; a worker refuses another. Permanent."""
    return f"{prefix()}:meta"


def functions() -> str:
    """hash · slug → its declaration as JSON. Written by workers; by publishers what nobody has declared. Permanent."""
    return f"{prefix()}:functions"


def triggers() -> str:
    """hash · `<slug> <event name>` → when that trigger was first registered, ms: its group starts there. Permanent."""
    return f"{prefix()}:triggers"


def types() -> str:
    """hash · event name → the JSON Schemas of its types, by hash, each with the buses that declare it and when, ms.

    `bus/function.invoked <slug>`: what a function takes that is invoked. Written by workers, again every minute; by
    publishers for a name that has none. A bus that has not said so for 7 days goes.
    """
    return f"{prefix()}:types"


def event_names() -> str:
    """zset · event name → when it was first published, ms. Written before the name's first event. Permanent."""
    return f"{prefix()}:event-names"


def waited() -> str:
    """zset · event name → the latest deadline of a wait for it, ms: which streams couriers read. Courier removes."""
    return f"{prefix()}:waits"


def delayed_names() -> str:
    """zset · event name → when its next delayed event is due, ms. By producers; the worker that finds none removes."""
    return f"{prefix()}:delayed"


def workers() -> str:
    """zset · worker → end of its lease, server ms. Written by the lease thread; the dead are removed after a day."""
    return f"{prefix()}:workers"


def worker(name: str) -> str:
    """hash · a worker: host, pid, version, slots, functions, seen, held, draining, drain (by whom). By leases; 24 h."""
    return f"{prefix()}:worker:{{{coded(name)}}}"


def cancellations() -> str:
    """hash · id → a bulk cancellation, JSON. By whoever asks; workers carry it on. Kept 7 days after it is done."""
    return f"{prefix()}:cancellations"


def operations() -> str:
    """hash · id → an operation: its kind, query and progress, JSON. As a cancellation; kept 7 days after its end."""
    return f"{prefix()}:operations"


def controls() -> str:
    """hash · `paused function <slug>`, `paused event <name>`, `limit <slug> <limit> [<key>]` → since when, by whom."""
    return f"{prefix()}:controls"


def control_changes() -> str:
    """stream · the last changes of what is ordered: workers block on it, to follow. By who pauses, resumes, …"""
    return f"{prefix()}:controls:changes"


def audit() -> str:
    """stream · who has done what, to what, by what, from where, and what came of it. By sites and commands; 10,000."""
    return f"{prefix()}:audit"


def alerts() -> str:
    """hash · `set <rule>` → its threshold, `alert <rule> <function>` → since when, JSON; who looks (`by`, `round`).

    By the process that looks whether there are alerts, and by who sets a threshold: that may be done by hand, too.
    """
    return f"{prefix()}:alerts"


def users() -> str:
    """hash · name → who may log in: role, hash of the password, since when, JSON. By `bus users`."""
    return f"{prefix()}:users"


def login(of: str) -> str:
    """string · how many log-ins failed, of a name and an address, or of one of both. Expires 15 min after the first."""
    return f"{prefix()}:login:{{{coded(of)}}}"


def signal(name: str) -> str:
    """string · a signal's name → `<slug>|<run>|<fence>|<step>`: the step that waits for it. Expires at its deadline.

    After a step's signal was heard: `|<run>|<mark>`, so that the sender's next try knows. Expires after an hour.
    """
    return f"{prefix()}:signal:{{{coded(name)}}}"


def signal_lost(name: str, waiter: str) -> str:
    """string · `1`: step `<slug>|<run>|<step>` waits on without its signal: another took it. Expires when it ends."""
    return f"{signal(name)}:lost:{coded(waiter)}"


def limit(name: str) -> str:
    """zset · `<slug>|<run>|<turn>` → end of its lease, ms: who holds a place of `<name>=<key>`. Expires with them."""
    return f"{prefix()}:limit:{{{coded(name)}}}"


def limit_waiting(name: str) -> str:
    """set · `<slug>|<limit>`: lines to be tried when a shared place is given back. Expires after a minute."""
    return f"{limit(name)}:waiting"


def live(channel: str) -> str:
    """stream · messages of a channel: topic, data, run, kind. The newest 1,000 or fewer. Expires 1 h after the last."""
    return f"{prefix()}:live:{{{coded(channel)}}}"


KEYS: tuple[Key, ...] = (
    (meta, ()), (functions, ()), (triggers, ()), (types, ()), (event_names, ()), (waited, ()), (delayed_names, ()),
    (workers, ()), (worker, ("<id>",)), (cancellations, ()), (operations, ()), (controls, ()),
    (control_changes, ()), (audit, ()), (alerts, ()), (users, ()), (login, ("<id>",)),
    (signal, ("<id>",)), (signal_lost, ("<id>", "<run>")), (limit, ("<id>",)),
    (limit_waiting, ("<id>",)), (live, ("<id>",)),
)  # fmt: skip
