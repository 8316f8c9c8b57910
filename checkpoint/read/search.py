"""Search: which runs are asked for (RunQuery), read from text by one function, and a page of those that match.

The API's parameters, the options of `bus runs` and the forms of the page are pairs of names and texts: one parser reads
them all, and says what is wrong with one.
"""

from collections.abc import Iterable, Mapping

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.values.durations import is_ago, past_moment
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.listing import STATUSES, Page, list_runs
from stepstream.checkpoint.registry import function_of, slugs

FILTERS: Mapping[str, str] = {
    "status": f"{', '.join(STATUSES)}; several with commas, or the parameter again",
    "function": "the slug of a function; several with commas, or the parameter again",
    "since": "queued then or later: Unix ms, 2026-12-01T09:00:00Z, or how long ago, as 15m or 2h",
    "until": "queued then or earlier: Unix ms, 2026-12-01T09:00:00Z, or how long ago, as 15m or 2h",
}
"""The filters there are, by the names of their parameters, and what each takes."""

_SEVERAL = frozenset({"status", "function"})


class RunQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which runs are asked for: those that match every filter that is given. Times are Unix ms, both ends included."""

    statuses: tuple[str, ...] = ()
    """One of these; empty: any."""
    functions: tuple[str, ...] = ()
    """Of one of these slugs; empty: of any function."""
    since: int | None = None
    """Queued then or later."""
    until: int | None = None
    """Queued then or earlier."""

    def pairs(self) -> list[tuple[str, str]]:
        """Return the parameters it would be read from, for a link or a command."""
        found = [("status", one) for one in self.statuses] + [("function", one) for one in self.functions]
        for name in ("since", "until"):
            value = getattr(self, name)
            found += [] if value is None else [(name, str(value))]
        return found


async def query_of(wire: Wire, pairs: Iterable[tuple[str, str]]) -> RunQuery:
    """Read a query from parameters: names and texts, a name as often as it is given; an empty text asks for nothing.

    BadRequest names the parameter, its value and what is expected; FunctionNotFound a function that there is not.
    """
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if name not in FILTERS:
            raise BadRequest(f"{name[:40]!r} is no filter of runs; there are {', '.join(FILTERS)}")
        parts = text.split(",") if name in _SEVERAL else [text]
        given.setdefault(name, []).extend(part for one in parts if (part := one.strip()))
    for name, texts in given.items():
        if len(texts) > 1 and name not in _SEVERAL:
            raise BadRequest(f"{name} is given {len(texts)} times, {texts[0][:40]!r} and {texts[1][:40]!r}; give one")
    statuses = tuple(dict.fromkeys(given.get("status", ())))
    for status in statuses:
        if status not in STATUSES:
            raise BadRequest(f"status {status[:40]!r} is none; there are {', '.join(STATUSES)}")
    functions = tuple(dict.fromkeys(given.get("function", ())))
    for slug in functions:
        await function_of(wire, slug)
    bounds = {name: texts[0] for name in ("since", "until") if (texts := given.get(name))}
    now = await patiently(wire.moment, 2.0) if any(map(is_ago, bounds.values())) else 0
    times = {name: past_moment(text, name, now) for name, text in bounds.items()}
    query = RunQuery(statuses=statuses, functions=functions, **times)
    if query.since is not None and query.until is not None and query.since > query.until:
        raise BadRequest(
            f"since {bounds['since'][:40]!r} is later than until {bounds['until'][:40]!r}: that is no time"
        )
    return query


async def search(wire: Wire, query: RunQuery, *, limit: int = 50, cursor: str | None = None) -> Page:
    """Return a page of the runs that match, newest first; BadRequest for a cursor that is none."""
    among = query.functions or await slugs(wire)
    statuses = query.statuses or STATUSES
    return await list_runs(wire, among, statuses, limit=limit, cursor=cursor, since=query.since, until=query.until)
