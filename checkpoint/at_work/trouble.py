"""Trouble: what is wrong with functions and workers, a line each, the worst first.

The front page begins with it, and so do `GET /v1/overview` and `bus top`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from stepstream.bus.errors import listed
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.functions import FunctionFacts
from stepstream.checkpoint.controls.ordered import Override
from stepstream.checkpoint.controls.overrides import restoring
from stepstream.checkpoint.facts.errors import ErrorGroup
from stepstream.checkpoint.facts.workers import WorkerView

_LATE_MS = 60_000
"""How long a run may be queued before the page says so."""
_FEW, _SHARE = 3, 0.1
"""So many runs of an hour, and this share of those that ended, must have failed for a function to be in trouble."""
_NAMED = 4
_RECENT_MS = 600_000
"""For how long a worker is told of that died, once others have what it had in hand."""
_AGAIN = 2
"""So often a run has killed its worker when it is told of, though it goes on."""


class Trouble(msgspec.Struct, frozen=True):
    """A line of what is wrong: how bad (`bad`, or `wait`: look), in words, what to do, and of what it is.

    `command` is the line of `bus` that does it, or shows more.
    """

    how: Literal["bad", "wait"]
    words: str
    do: str = ""
    function: str = ""
    run: str = ""
    command: str = ""
    worker: str = ""

    @property
    def id(self) -> str:
        """What it is about, in a word that no other line has, and that stays while the numbers of it change."""
        return f"{self.how} {self.command} {self.worker}".strip()


class Killer(msgspec.Struct, frozen=True):
    """A run that goes on, and how many workers in a row died of it."""

    function: str
    run: str
    times: int


class Dead(msgspec.Struct, frozen=True):
    """A worker that is not seen any more, and the runs that are still in its hand, by function."""

    worker: WorkerView
    held: Mapping[str, int]
    killers: tuple[Killer, ...] = ()
    """The runs it had that have killed their worker before, and go on."""


def troubles(
    facts: Sequence[FunctionFacts], failed: Mapping[str, tuple[int, int]], dead: Sequence[Dead], now: int
) -> list[Trouble]:
    """Return what is wrong: what nobody serves, dead workers, what waits longest, what fails, what people hold back.

    `failed` has, of each function, how many runs failed and how many ended in the last hour.
    """
    at_work = {one.function.slug: one for one in facts if one.workers}
    stuck = [one for one in facts if not one.workers and waits(one)]
    found = [_unserved(one, dead, now) for one in stuck]
    found += [one for each in dead if (one := _dead(each, at_work, now)) is not None]
    killers = {one.run: one for each in dead for one in each.killers if one.times >= _AGAIN}
    found += [_killer(one) for one in killers.values()]
    names = {one.function.slug for one in stuck}
    waiting = [(one.oldest, one) for one in facts if one.oldest is not None and now - one.oldest > _LATE_MS]
    for queued, one in sorted(waiting, key=lambda row: row[0])[:_NAMED]:
        slug = one.function.slug
        told = f"the oldest queued run of {slug} has waited for {in_words(now - queued)}"
        found.append(
            Trouble(
                "bad" if slug in names else "wait",
                told,
                "its page says for what",
                slug,
                one.oldest_run,
                f"bus run {one.oldest_run}",
            )
        )
    failing = [(count, ended, slug) for slug, (count, ended) in failed.items() if _fails(count, ended)]
    for count, ended, slug in sorted(failing, reverse=True):
        told = f"{count} of {ended} runs of {slug} failed in the last hour"
        found.append(Trouble("bad", told, "", slug, command=f"bus errors --function {slug}"))
    found += [_paused(one, now) for one in facts if one.paused is not None]
    found += [_shut(one, other, now) for one in facts for other in one.overrides if not other.to]
    unused = [one.function.slug for one in facts if not one.workers and not waits(one)]
    if unused:
        told = f"no worker serves {listed(unused, _NAMED)}"
        found.append(
            Trouble(
                "wait",
                told,
                "start one: bus worker APP; if it is no more: bus functions forget SLUG",
                command="bus functions",
            )
        )
    return found


def given_up(errors: Sequence[ErrorGroup]) -> list[Trouble]:
    """Return a line for each function of which a run killed its workers until it was given up."""
    return [
        Trouble(
            "bad", f"a run of {one.function} killed its worker again and again, and was given up",
            "its page runs it again, with another input too; then resolve the error", one.function, one.run,
            f"bus run {one.run}",
        )
        for one in errors if one.name == "worker_crash" and one.state == "open"
    ]  # fmt: skip


def waits(one: FunctionFacts) -> bool:
    """Whether work of a function waits, or is under way."""
    return bool(one.unread.events or any(one.runs[word] for word in ("queued", "running", "waiting")))


def _unserved(one: FunctionFacts, dead: Sequence[Dead], now: int) -> Trouble:
    """Nobody serves it: what cannot go on, and whether its last worker died."""
    slug = one.function.slug
    gone = [each.worker for each in dead if slug in each.held or slug in each.worker.functions]
    since = f"{gone[0].name}, seen {in_words(max(0, now - gone[0].seen))} ago, is gone" if gone else ""
    do = f"start a worker of {one.function.bus}: bus worker MODULE:APP"
    words = f"no worker serves {slug}: {stuck_in_words(one)} cannot go on{f'; {since}' if since else ''}"
    return Trouble("bad", words, do, slug, command=f"bus functions {slug}")


def stuck_in_words(one: FunctionFacts) -> str:
    """Return what waits for a function, or is under way."""
    runs = sum(one.runs[word] for word in ("queued", "running", "waiting"))
    events, least = one.unread.events, "" if one.unread.exact else "at least "
    told = [f"{runs} run{'' if runs == 1 else 's'}"] if runs else []
    told += [f"{least}{events} event{'' if events == 1 else 's'}"] if events else []
    return " and ".join(told)


def _dead(one: Dead, at_work: Mapping[str, FunctionFacts], now: int) -> Trouble | None:
    """It is gone with runs in its hand that others serve: those that nobody serves are told of already."""
    count = sum(held for slug, held in one.held.items() if slug in at_work)
    ago = max(0, now - one.worker.seen)
    seen = in_words(ago)
    if not count:
        had = sum(each.function in at_work for each in one.worker.held)
        if not had or ago > _RECENT_MS:
            return None
        told = f"worker {one.worker.name} died {seen} ago; it had {had} run{'' if had == 1 else 's'} in hand"
        return Trouble("wait", told, "others go on with what has not ended", "", "", "bus workers", one.worker.name)
    told = f"worker {one.worker.name}, seen {seen} ago, is gone with {count} run{'' if count == 1 else 's'} in hand"
    do = "others take them over by themselves; if not: bus check"
    return Trouble("wait", told, do, "", "", "bus workers", one.worker.name)


def _killer(one: Killer) -> Trouble:
    told = f"a run of {one.function} has killed its worker {one.times} times"
    return Trouble("wait", told, "it goes on; its page cancels it", one.function, one.run, f"bus run {one.run}")


def _fails(failed: int, ended: int) -> bool:
    return failed >= _FEW and failed >= _SHARE * ended


def _paused(one: FunctionFacts, now: int) -> Trouble:
    slug, pause = one.function.slug, one.paused
    assert pause is not None
    line = f": {stuck_in_words(one)} in line" if waits(one) else ""
    told = f"{slug} is paused, for {in_words(max(0, now - pause.since))}, by {pause.by}{line}"
    return Trouble("wait", told, "its page resumes it", slug, command=f"bus resume {slug}")


def _shut(one: FunctionFacts, other: Override, now: int) -> Trouble:
    """A limit is set to 0: that holds back all runs, or those of one value of its key, as a pause does."""
    slug = one.function.slug
    whose = "no run of it begins" if other.key is None else f"no run for {other.key} begins"
    queued = one.runs["queued"] if other.key is None else 0
    line = f"; {queued} run{'' if queued == 1 else 's'} in line" if queued else ""
    left = in_words(max(0, other.until - now))
    told = f"{other.limit} of {slug} is set to 0 by {other.by}, for another {left}: {whose}{line}"
    return Trouble("wait", told, "the page of limits takes it back", slug, command=restoring(slug, other))
