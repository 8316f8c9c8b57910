"""Family: the runs that belong to a run: who called it, whom it called, what was run again, what it was made of.

What a run names by its id is read. Who names this one came later, and is looked for among ten thousand of those.
"""

from collections.abc import Callable, Sequence

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import run_id, ulid_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.runs import NO_BYTES, Look, Place, RunLine, window
from stepstream.checkpoint.read.lists.search import MOST_LOOKED_AT
from stepstream.checkpoint.read.run.steps import steps
from stepstream.checkpoint.run.record import Run, RunSummary, read

_AT_ONCE = 1_000


class Kin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that belongs to another; `status` is empty when it is not kept, or has not begun; `step`: which called."""

    id: str
    function: str
    status: str = ""
    step: str = ""


class Family(msgspec.Struct, omit_defaults=True):
    """The runs that belong to a run."""

    parent: Kin | None = None
    """The run, and its step, that called it and waits for its end."""
    children: list[Kin] = []
    """The runs that its steps called, in the order in which they did."""
    rerun_of: Kin | None = None
    """The run that it runs again."""
    reruns: list[Kin] = []
    """The runs that run it again, newest first."""
    part_of: Kin | None = None
    """The run that has its event: of a debounce, or a batch; or that kept it out, of a singleton."""
    members: list[Kin] = []
    """The runs whose events it has, newest first: those of a debounce, or of a batch."""
    failure_of: Kin | None = None
    """The failed run that it was begun for (`on_failure`)."""
    on_failure: Kin | None = None
    """The run that was begun because it has failed."""
    cut: bool = False
    """Whether there may be more reruns or members, behind those that were looked at."""


async def family(wire: Wire, run: Run, *, later: bool = True) -> Family:
    """Return the runs that belong to a run; without `later` only those that it names: no reruns, and no members."""
    found = Family()
    slug, _, rest = run.parent.partition("|")
    parent, _, step = rest.partition("|")
    calls = [one for one in await steps(wire, run.function, run.id) if one.waits_for and one.waits_for.run]
    wanted = [
        Kin(parent, slug, step=step),
        Kin(run.rerun_of, run.function),
        Kin(run.by, run.function),
        _failure_of(run),
        _on_failure(run),
        *(Kin(what.run, what.function, step=one.id) for one in calls if (what := one.waits_for) is not None),
    ]
    kin = await _read(wire, wanted)
    found.parent, found.rerun_of, found.part_of, found.failure_of, on_failure = kin[:5]
    found.on_failure = on_failure if on_failure is not None and on_failure.status else None
    found.children = [one for one in kin[5:] if one is not None]
    if not later:
        return found
    look = Look(source="rerun", since=run.queued, event_bytes=NO_BYTES, error_bytes=NO_BYTES)
    found.reruns, cut = await _named(wire, run, look, lambda one: one.rerun_of)
    if run.source in ("batch", "debounce"):
        first = ulid_ms(run.id)  # when the first of its events came
        skipped = Look(
            statuses=("skipped",), since=first, until=run.started, event_bytes=NO_BYTES, error_bytes=NO_BYTES
        )
        found.members, is_cut = await _named(wire, run, skipped, lambda one: one.by)
        cut = cut or is_cut
    found.cut = cut
    return found


def _failure_of(run: Run) -> Kin:
    if run.source != "failure" or run.event is None:
        return Kin("", "")
    try:
        failed = codec.decode_as(codec.decode_as(run.event, RawEvent).opened().data, _Failed)
    except (msgspec.MsgspecError, CannotOpen):
        return Kin("", "")
    return Kin(failed.run_id, failed.function_id)


class _Failed(msgspec.Struct):
    run_id: str
    function_id: str


def _on_failure(run: Run) -> Kin:
    slug = f"{run.function}-failure"
    return (
        Kin(run_id(slug, "failure", run.id, run.ended), slug) if run.status == "failed" and run.ended else Kin("", "")
    )


async def _read(wire: Wire, wanted: Sequence[Kin]) -> list[Kin | None]:
    """Return kin with their statuses; None for those without an id."""
    there = [one for one in wanted if one.id]
    rows = await read(wire, RunSummary, [(one.function, one.id) for one in there])
    statuses = {one.id: row.status for one, row in zip(there, rows, strict=True) if row is not None}
    return [msgspec.structs.replace(one, status=statuses.get(one.id, "")) if one.id else None for one in wanted]


async def _named(wire: Wire, run: Run, look: Look, named: Callable[[RunLine], str]) -> tuple[list[Kin], bool]:
    """Return the runs of its function that name a run, among those that are looked for; and whether some were not."""
    found: list[Kin] = []
    place: Place | None = None
    looked_at = 0
    while looked_at < MOST_LOOKED_AT:
        page = await window(wire, [run.function], look, place, _AT_ONCE, _AT_ONCE)
        looked_at += page.looked_at
        lines = [row.line for row in page.rows]
        found += [Kin(line.id, run.function, line.status) for line in lines if named(line) == run.id]
        place = page.last
        if place is None:
            return found, False
    return found, True
