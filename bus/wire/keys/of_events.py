"""Keys of the events of one name. Their hash tag is the name."""

from stepstream.bus.wire.keys.prefixed import Key, coded, prefix


def events(name: str) -> str:
    """stream · events of one name: id, name, data, ts, v, trace. One group for each function. Written by producers."""
    return f"{prefix()}:events:{{{coded(name)}}}"


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


KEYS: tuple[Key, ...] = (
    (events, ("E",)), (seen, ("E", "<id>")), (again, ("E",)), (delayed, ("E",)), (delayed_event, ("E", "<id>")),
    (events_workers, ("E",)), (events_served, ("E",)), (waits, ("E",)), (waits_if, ("E",)),
)  # fmt: skip
