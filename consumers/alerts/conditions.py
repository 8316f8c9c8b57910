"""Conditions: what each rule finds now, read from what the Overview shows: no rule counts anything of its own."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from stepstream.bus.alerts.rules import Threshold, limit_of
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.doctor import at_boot, server
from stepstream.bus.wire.spoilt import spoilt_told
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.alerts.kept import RolledBack
from stepstream.checkpoint.at_work.functions import HOUR, FunctionFacts
from stepstream.checkpoint.at_work.overview import Look, failed_of, look_over
from stepstream.checkpoint.at_work.trouble import stuck_in_words, waits
from stepstream.checkpoint.facts.errors import ErrorGroup
from stepstream.checkpoint.facts.minutes import MINUTE_MS
from stepstream.producers.schedules import schedules

_FEW = 3
"""So many runs must have failed for their share to count, as on the Overview."""
_TOLD_MS = HOUR * MINUTE_MS
"""How long it is told that Redis has lost what was written."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule finds, of one function (empty: of none): its value in words, a sentence, the run it is about.

    `since` when, if that is known (Unix ms); it fires once it has lasted `hold_ms`.
    """

    rule: str
    function: str = ""
    value: str
    words: str
    since: int | None = None
    hold_ms: int = 0
    run: str = ""


Thresholds = Mapping[str, Threshold]


async def conditions(wire: Wire, limits: Thresholds, rolled_back: RolledBack | None) -> tuple[int, list[Condition]]:
    """Return what all rules find that are on, and the moment of it, Unix ms. Keys of a wrong type are passed over."""
    with spoilt_told():
        look = await look_over(wire)
        found = [*_of_functions(look, limits)]
        found += await _missed(wire, look.facts, limits)
        found += await _of_redis(wire, limits)
    if limits["rolled_back"].is_on and rolled_back is not None and look.at - rolled_back.at < _TOLD_MS:
        found.append(_rolled_back(rolled_back))
    return look.at, found


def _of_functions(look: Look, limits: Thresholds) -> Iterator[Condition]:
    errors: dict[str, list[ErrorGroup]] = {}
    for group in look.errors:
        errors.setdefault(group.function, []).append(group)
    died = {slug for each in look.dead for slug in each.worker.functions}
    for one in look.facts:
        slug = one.function.slug
        own = errors.get(slug, ())
        yield from _failures(one, own, limit_of(limits, "failures", slug), look.at)
        yield from _given_up(one, own, limit_of(limits, "given_up", slug))
        if one.paused is None:
            yield from _late(one, limits, look.at)
        no_worker = limit_of(limits, "no_worker", slug)
        if no_worker.is_on and not one.workers and (waits(one) or slug in died):
            yield _no_worker(one, no_worker)


def _failures(one: FunctionFacts, errors: Sequence[ErrorGroup], limit: Threshold, now: int) -> Iterator[Condition]:
    minutes = [minute for minute in one.minutes if minute.at > now - limit.ms - MINUTE_MS]
    slug = one.function.slug
    failed, ended = failed_of(errors, minutes).get(slug, (0, 0))
    if limit.is_on and failed and failed >= (limit.count or max(_FEW, limit.share * ended)):
        value = f"{failed} of {ended}"
        words = f"{value} runs of {slug} failed in the last {in_words(limit.ms)}"
        yield Condition(rule="failures", function=slug, value=value, words=words)


def _given_up(one: FunctionFacts, errors: Sequence[ErrorGroup], limit: Threshold) -> Iterator[Condition]:
    slug = one.function.slug
    groups = [group for group in errors if group.name == "worker_crash" and group.state == "open"]
    marks = {group.fingerprint for group in groups}
    count = sum(times for minute in one.minutes for mark, times in minute.errors.items() if mark in marks)
    if limit.is_on and groups and count >= limit.count:
        runs = f"{count} run{'' if count == 1 else 's'}"
        words = f"{runs} of {slug} killed {'its' if count == 1 else 'their'} worker again and again: given up"
        yield Condition(rule="given_up", function=slug, value=runs, words=words, run=groups[0].run)


def _late(one: FunctionFacts, limits: Thresholds, now: int) -> Iterator[Condition]:
    """Yield what is late of a function that nobody has paused."""
    slug = one.function.slug
    waiting, line = limit_of(limits, "waiting", slug), limit_of(limits, "line", slug)
    if waiting.is_on and one.oldest is not None and now - one.oldest > waiting.ms:
        value = in_words(now - one.oldest)
        words = f"the oldest queued run of {slug} has waited for {value}"
        yield Condition(
            rule="waiting", function=slug, value=value, words=words, since=one.oldest, run=one.oldest_run
        )  # fmt: skip
    if line.is_on and one.backlog > line.count:
        value = f"{'' if one.unread.exact else 'at least '}{one.backlog:,}"
        yield Condition(rule="line", function=slug, value=value, words=f"{value} wait in the line of {slug}")


def _no_worker(one: FunctionFacts, limit: Threshold) -> Condition:
    slug = one.function.slug
    stuck = f"{stuck_in_words(one)} cannot go on" if waits(one) else "the last one has died"
    return Condition(
        rule="no_worker", function=slug, value="0 workers", words=f"no worker serves {slug}: {stuck}", hold_ms=limit.ms
    )


async def _missed(wire: Wire, facts: Sequence[FunctionFacts], limits: Thresholds) -> list[Condition]:
    known = [
        one.function for one in facts
        if limit_of(limits, "missed", one.function.slug).is_on and any(on.startswith("cron ") for on in one.function.on)
    ]  # fmt: skip
    found: dict[str, Condition] = {}
    for one in await schedules(wire, known):
        if one.missed and one.paused is None:
            value = f"{one.missed} tick{'' if one.missed == 1 else 's'}"
            words = f"{value} of the schedule {one.text!r} of {one.function} did not begin"
            found[one.function] = Condition(
                rule="missed",
                function=one.function,
                value=value,
                words=words,
                hold_ms=limit_of(limits, "missed", one.function).ms,
            )
    return list(found.values())


async def _of_redis(wire: Wire, limits: Thresholds) -> list[Condition]:
    found: list[Condition] = []
    unfit = [one for one in await at_boot(wire) if one.verdict == "unfit"]
    if limits["unfit"].is_on and unfit:
        value = "; ".join(f"{one.check}: {one.found}" for one in unfit)
        found.append(Condition(rule="unfit", value=value, words=f"Redis is not fit: {value}: {unfit[0].do}"))
    about = await server(wire)
    limit = limits["memory"]
    if limit.is_on and about is not None and about.most and about.used >= limit.share * about.most:
        value = f"{about.used / about.most:.0%}"
        found.append(Condition(rule="memory", value=value, words=f"Redis uses {value} of its maxmemory"))
    return found


def _rolled_back(told: RolledBack) -> Condition:
    lost = told.seen - told.found
    words = (
        f"Redis has lost what was written: {lost} round{'' if lost == 1 else 's'} of looking for alerts are gone; "
        "runs of that time may run again, or be lost: bus check"
    )
    return Condition(rule="rolled_back", value=f"{lost} rounds", words=words, since=told.at)
