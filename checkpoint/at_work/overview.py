"""Overview: what is wrong, how each function does, of what runs failed in the last hour."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from stepstream.bus.wire.doctor import evicts
from stepstream.bus.wire.leases import consumer_worker
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.functions import HOUR, FunctionFacts, function_facts
from stepstream.checkpoint.at_work.trouble import Dead, Killer, Trouble, given_up, troubles
from stepstream.checkpoint.controls.ordered import Override, Pause
from stepstream.checkpoint.facts.buckets import percentile, summed
from stepstream.checkpoint.facts.errors import ErrorGroup, State, errors_among
from stepstream.checkpoint.facts.minutes import MINUTE_MS, Minute, marks_in
from stepstream.checkpoint.facts.workers import WorkerView, workers_told
from stepstream.checkpoint.run.record import ENDED, Record, read

_MOST_DEAD = 20
"""Of how many dead workers it is looked up what is still in their hand."""


class MinuteTold(msgspec.Struct, frozen=True):
    """A minute of a function, which began `at` (Unix ms): how many runs started in it, and how many ended how."""

    at: int
    started: int
    completed: int
    failed: int
    cancelled: int


class HourTold(msgspec.Struct, frozen=True):
    """The last hour of a function: how many runs started, ended how, and how long they took (p50 and p95, ms)."""

    started: int
    completed: int
    failed: int
    cancelled: int
    took_p50: float | None
    took_p95: float | None
    minutes: list[MinuteTold]
    """Those in which anything happened, oldest first."""


class AtWork(msgspec.Struct, frozen=True):
    """A function at work. `oldest` is since when its oldest queued run is, Unix ms, `oldest_run` which one that is."""

    function: str
    runs: dict[str, int]
    """How many there are of each status."""
    unread: int
    """How many events wait for it to begin a run: at least so many, unless `exact`."""
    exact: bool
    oldest: int | None
    oldest_run: str
    workers: int
    codes: dict[str, int]
    """The versions of its code that are alive, and how many workers have each."""
    paused: Pause | None
    overrides: tuple[Override, ...]
    """Its limits that people have set to another number, those that it shares too."""
    hour: HourTold


class Failures(msgspec.Struct, frozen=True):
    """An error of the last hour, of all functions that have it: how often it came in that hour, when first and last."""

    fingerprint: str
    name: str
    frame: str
    message: str
    count: int
    functions: tuple[str, ...]
    first: int
    last: int
    run: str
    state: State


class Overview(msgspec.Struct, frozen=True):
    """What is wrong (the worst first), of what runs failed in the last hour, the functions; as of `at`, Unix ms."""

    at: int
    trouble: list[Trouble]
    failures: list[Failures]
    functions: list[AtWork]


class Look(msgspec.Struct, frozen=True):
    """The same with what it is made of."""

    at: int
    facts: list[FunctionFacts]
    trouble: list[Trouble]
    failures: list[Failures]
    errors: list[ErrorGroup]
    """Those of the last hour, of each function."""
    dead: list[Dead]

    def told(self) -> Overview:
        """Return what is told of it."""
        return Overview(self.at, self.trouble, self.failures, [at_work_of(one) for one in self.facts])


async def look_over(wire: Wire) -> Look:
    """Return what there is to see at a glance."""
    facts, dead = await asyncio.gather(function_facts(wire), _dead(wire))
    minutes = [minute for one in facts for minute in one.minutes]
    now, errors, unfit = await asyncio.gather(wire.moment(), errors_among(wire, marks_in(minutes)), evicts(wire))
    trouble = [] if unfit is None else [Trouble("bad", f"{unfit.check}: {unfit.found}", unfit.do, command="bus doctor")]
    trouble += given_up([one for one in errors if one.last > now - HOUR * MINUTE_MS])
    trouble += troubles(facts, failed_of(errors, minutes), dead, now)
    return Look(now, facts, trouble, failures_of(errors, minutes), errors, dead)


def at_work_of(one: FunctionFacts) -> AtWork:
    """Return a function at work as it is told."""
    return AtWork(
        one.function.slug, one.runs, one.unread.events, one.unread.exact, one.oldest, one.oldest_run, one.workers,
        one.codes, one.paused, one.overrides, hour_of(one.minutes),
    )  # fmt: skip


def hour_of(minutes: Sequence[Minute]) -> HourTold:
    """Return the last hour of a function from its minutes."""
    took = summed(one.took for one in minutes)
    return HourTold(
        sum(one.started for one in minutes),
        sum(one.completed for one in minutes),
        sum(one.failed for one in minutes),
        sum(one.cancelled for one in minutes),
        percentile(took, 0.5),
        percentile(took, 0.95),
        [MinuteTold(one.at, one.started, one.completed, one.failed, one.cancelled) for one in minutes],
    )


def failed_of(errors: Sequence[ErrorGroup], minutes: Sequence[Minute]) -> dict[str, tuple[int, int]]:
    """Return how many runs of each function failed and ended; those whose error is resolved or muted do not count."""
    settled = {(one.function, one.fingerprint) for one in errors if one.state != "open"}
    failed, completed = Counter[str](), Counter[str]()
    for minute in minutes:
        completed[minute.function] += minute.completed
        failed[minute.function] += minute.failed
        for mark, times in minute.errors.items():
            if (minute.function, mark) in settled:
                failed[minute.function] -= times
    return {slug: (max(0, failed[slug]), done + max(0, failed[slug])) for slug, done in completed.items()}


def failures_of(errors: Sequence[ErrorGroup], minutes: Sequence[Minute]) -> list[Failures]:
    """Return the errors of the last hour, those that came most often first; muted ones are left out."""
    count: Counter[tuple[str, str]] = Counter()
    for minute in minutes:
        for mark, times in minute.errors.items():
            count[minute.function, mark] += times
    groups: dict[str, list[ErrorGroup]] = {}
    for one in errors:
        if count[one.function, one.fingerprint] and one.state != "muted":
            groups.setdefault(one.fingerprint, []).append(one)
    found: list[Failures] = []
    for several in groups.values():
        newest = max(several, key=lambda one: one.last)
        found.append(
            Failures(
                newest.fingerprint, newest.name, newest.frame, newest.message,
                sum(count[one.function, one.fingerprint] for one in several),
                tuple(sorted({one.function for one in several})),
                min(one.first for one in several), newest.last, newest.run, newest.state,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.count, -one.last))


class _InHand(Record):
    status: str = ""
    worker: str = ""
    crashes: int = 0


async def _dead(wire: Wire) -> list[Dead]:
    """Return the workers that are gone, with what is still in their hand."""
    gone = [one for one in await workers_told(wire) if not one.alive][:_MOST_DEAD]
    held = [(each.function, each.run) for one in gone for each in one.held]
    rows = await read(wire, _InHand, held) if held else []
    there = {row.id: row for row in rows if row is not None}
    return [_what_it_had(one, there) for one in gone]


def _what_it_had(gone: WorkerView, there: dict[str, _InHand]) -> Dead:
    rows = [row for each in gone.held if (row := there.get(each.run)) is not None]
    still = [row for row in rows if row.status == "running" and consumer_worker(row.worker) == gone.name]
    killed = [row for row in rows if row.crashes and row.status not in ENDED]
    return Dead(
        gone,
        Counter(row.function for row in still),
        tuple(Killer(row.function, row.id, row.crashes) for row in killed),
    )
