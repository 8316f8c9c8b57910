"""Verdict: what there is to say of a run, in one sentence: what it waits for, who has it, how it ended, and why.

The sentence is for people; what is in it is beside it, for pages and programs. All moments are server ms.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from stepstream.bus.limits.keys import shown_key
from stepstream.bus.limits.told import limit_of_key
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.leases import consumer_worker
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import override_of, overrides_of
from stepstream.checkpoint.controls.ordered import Override, Pause, controls
from stepstream.checkpoint.controls.overrides import restoring
from stepstream.checkpoint.read.lists.runs import event_name_of
from stepstream.checkpoint.read.run.steps import StepView, in_words_of, open_steps
from stepstream.checkpoint.registry import functions, workers_of
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import Record, Run, read

_MOST_TOLD = 3
"""How many open steps, or holders of places, a sentence names."""
_FAR_MS = 300 * 86_400_000
"""A wait that ends later has no end to speak of."""


class Verdict(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One sentence about a run (`words`), what kind of sentence it is, and the facts in it."""

    kind: str
    """How it ended: `completed`, `failed`, `poison`, `timed_out`, `cancelled`, `rate_limited`, `singleton`, `merged`.

    Else what it waits for: `paused`, `no_worker`, `unread`, `slot`, `limit`, `throttle`, `debounce`, `batch`, `later`,
    `sleep`, `event`, `signal`, `child`, `retry`, `several`, `turn`; or that a worker has it: `running`, `cancelling`,
    `worker_gone`.
    """
    words: str
    until: int | None = None
    """When that is over by itself: the wait's end, the next attempt, the end of a lost lease."""
    limit: str = ""
    """The limit it waits for, in words, and the value of its `key`."""
    key: str = ""
    place: int | None = None
    """Where it stands in the line, from 1, `of` how many."""
    of: int | None = None
    holders: tuple[str, ...] = ()
    """Runs that hold the limit's places, some of them: `held` is how many there are."""
    held: int | None = None
    worker: str = ""
    seen: int | None = None
    """When its worker was there last."""
    step: str = ""
    attempt: int | None = None
    """The attempt that is next, of how many there may be where that is known."""
    attempts: int | None = None
    waits_for: str = ""
    """The event, the signal or the run it waits for; or the run it is part of, or was kept out by."""
    error: str = ""
    events: int | None = None
    """How many events a buffer holds."""


class _More(Record):
    entry: str = ""
    holds: str = ""
    cancel: Failure | None = None
    again: int = 0


async def verdict(wire: Wire, run: Run) -> Verdict:
    """Return what there is to say of a run, as it is now."""
    if run.has_ended:
        return _ended(run)
    [found], known, opened, now, at_work, ordered = await asyncio.gather(
        read(wire, _More, [(run.function, run.id)]),
        functions(wire, [run.function]),
        open_steps(wire, run.function, run.id),
        patiently(wire.clock, 2.0),
        workers_of(wire, run.function),
        controls(wire),
    )
    about = _About(wire, run, found or _More(run.id, run.function), known[0] if known else None, now, at_work)
    if run.status == "running":
        return await about.running(opened)
    paused = ordered.functions.get(run.function)
    what = f"{run.function} is"
    if found is None and run.event is not None and (name := event_name_of(bytes(run.event))) in ordered.events:
        paused, what = ordered.events[name], f"events {name} are"
    told = await about.waiting(opened) if run.status == "waiting" else await about.queued(begun=found is not None)
    return told if paused is None else _paused(told, paused, what, now)


def _paused(told: Verdict, paused: Pause, what: str, now: int) -> Verdict:
    """Return what keeps a run from going on before all else: that somebody has paused it."""
    since = in_words(max(0, now - paused.since))
    waits = f"; beside that it {told.words}" if told.kind not in ("slot", "unread", "turn", "later") else ""
    return replace(told, kind="paused", words=f"{what} paused, for {since}, by {paused.by}{waits}")


_WHY = {
    "rate_limit": ("rate_limited", "was dropped: more events came than its function's rate limit lets pass"),
    "singleton": ("singleton", "was skipped: {by} ran, and its function runs one at a time"),
    "debounced": ("merged", "is part of {by}: events that come close together are debounced to one run"),
    "batched": ("merged", "is part of {by}: its event is in that run's batch"),
}


def _ended(run: Run) -> Verdict:
    error = run.error.told().strip().partition("\n")[0][:300] if run.error is not None else ""
    took = in_words(max(0, (run.ended or 0) - (run.started or run.queued)))
    if run.status == "skipped":
        kind, words = _WHY.get(run.why, ("skipped", "was skipped"))
        return Verdict(kind=kind, words=words.format(by=run.by or "another run"), waits_for=run.by)
    if run.status == "completed":
        return Verdict(kind="completed", words=f"completed in {took}")
    name, message = (run.error.name, run.error.message) if run.error is not None else ("", "")
    if run.status == "cancelled":
        if name == "timeout":
            return Verdict(kind="timed_out", words=f"timed out: {message}", error=error)
        return Verdict(kind="cancelled", words=f"was cancelled: {message or 'nobody said why'}", error=error)
    if name == "worker_crash":
        words = f"failed: {message}; it is not tried again, for it may be what kills them"
        return Verdict(kind="poison", words=words, error=error)
    return Verdict(kind="failed", words=f"failed after {took}: {error or 'nobody said why'}", error=error)


class _About:
    """What is known of one run that has not ended."""

    def __init__(self, wire: Wire, run: Run, more: _More, function: Registered | None, now: int, at_work: int) -> None:
        self._wire = wire
        self._run = run
        self._more = more
        self._function = function
        self._now = now
        self._at_work = at_work

    def _in(self, until: float | None) -> str:
        return f"in {in_words(max(0, until - self._now))}" if until is not None else "soon"

    # -- queued: nobody has it ---------------------------------------------------------------------------------------

    async def queued(self, *, begun: bool) -> Verdict:
        """Nobody has it: because of what it waits for, and whether anybody would take it up."""
        kind, _, limit_key = self._more.entry.partition("|")
        buffered = await self._in_buffer() if not begun else None
        if buffered is not None:
            return buffered
        line = await self._in_line(limit_key) if kind == "backlog" else None
        if not self._at_work:
            words = f"waits for a worker: none serves {self._run.function}"
            return replace(line or Verdict(kind="", words=""), kind="no_worker", words=words)
        if line is not None:
            return line
        if self._more.cancel is not None:
            return self._cancelling()
        of = f"{self._at_work} worker{'' if self._at_work == 1 else 's'} of {self._run.function}"
        if begun:
            return Verdict(kind="slot", words=f"is due, and waits for a free slot of the {of}")
        return Verdict(kind="unread", words=f"waits to be taken up by the {of}")

    async def _in_buffer(self) -> Verdict | None:
        slug, run = self._run.function, self._run.id
        name = await self._wire.load("HGET", keys.buffered(slug), run)
        if name is None:
            return None
        stored = name.decode()
        count, due = await self._wire.loads(
            ("HGET", keys.buffer(slug, stored), "n"), ("ZSCORE", keys.timers(slug, FIRST), f"buffer|{stored}")
        )
        kind, _, key = stored.partition(":")
        until, events = (None if due is None else codec.whole(due)), codec.whole(count or b"1")
        if kind == "b":
            so_far = f"{events} event{'' if events == 1 else 's'}{self._for(key)}"
            words = f"waits for more: a batch of {so_far} runs {self._in(until)}, or when it is full"
            return Verdict(kind="batch", words=words, key=shown_key(key), until=until, events=events)
        words = f"is held back{self._for(key)}: it runs {self._in(until)}, if no other event comes"
        return Verdict(kind="debounce", words=words, key=shown_key(key), until=until, events=events)

    def _for(self, key: str) -> str:
        return f" for {shown_key(key)}" if key not in ("", "=null") else ""

    async def _in_line(self, limit_key: str) -> Verdict | None:
        """Where it stands in the line of a limit, and who has that limit's places."""
        slug, run = self._run.function, self._run.id
        if limit_key == "-":
            return None
        rank, count, held, holders, due = await self._wire.loads(
            ("ZRANK", keys.backlog(slug, limit_key), run),
            ("ZCARD", keys.backlog(slug, limit_key)),
            ("ZCARD", keys.places(slug, limit_key)),
            ("ZRANGE", keys.places(slug, limit_key), 0, _MOST_TOLD - 1),
            ("ZSCORE", keys.timers(slug, FIRST), f"limit|{limit_key}"),
        )
        if rank is None:
            return None
        kind, _, key = limit_key.partition(":")
        limits = self._function.limits if self._function is not None else ()
        rule = limit_of_key(limits, limit_key)
        said = rule.words if rule is not None else ""
        other = await self._override(limit_key)
        set_to = self._set_to(other) if other is not None else ""
        found = Verdict(kind="", words="", limit=said, key=shown_key(key), place=int(rank) + 1, of=int(count))
        where, limit = f"{_nth(int(rank) + 1)} of {count}{self._for(key)}", f" ({said}{set_to})" if said else ""
        if kind == "t":
            until = None if due is None else codec.whole(due)
            when = f": the next may start {self._in(until)}" if until is not None else ""
            return replace(found, kind="throttle", words=f"is throttled, {where}{limit}{when}", until=until)
        names = [one.decode() for one in holders]
        if rule is not None and rule.shared:
            names = await self._shared_holders(f"{rule.shared}={key}")
        count = max(int(held), len(names))
        by = f", held by {_listed(names, count)}" if names else ""
        lifts = "" if other is None or other.to else f"; while it is 0 nobody gets one: {restoring(slug, other)}"
        words = f"waits for its place: {where}{limit}{by}{lifts}"
        return replace(found, kind="limit", words=words, holders=tuple(names[:_MOST_TOLD]), held=count)

    async def _override(self, limit_key: str) -> Override | None:
        """Return to what people have set a limit until a time; None when they have not."""
        if self._function is None:
            return None
        limits = self._function.limits
        found = overrides_of(await controls(self._wire), self._function.slug, limits, self._now)
        return override_of(limits, limit_key, found)

    def _set_to(self, one: Override) -> str:
        return f", set to {one.to} by {one.by} for another {in_words(one.until - self._now)}"

    async def _shared_holders(self, name: str) -> list[str]:
        """Return the runs that hold places of a limit that several functions share."""
        rows = await self._wire.load("ZRANGEBYSCORE", keys.limit(name), self._now, "+inf")
        return [one.decode().split("|")[1] for one in rows]

    # -- running: a worker has it ------------------------------------------------------------------------------------

    async def running(self, opened: Sequence[StepView]) -> Verdict:
        """A worker has it, or had: then another takes it over once that one's lease has ended."""
        consumer, died = self._run.worker, self._run.crashes
        ends = await self._lease_end(consumer) if consumer else None
        crashed = f"; its worker has died {died} time{'' if died == 1 else 's'}" if died else ""
        lease = self._wire.settings.lease_ms
        if ends is None or ends - self._now < lease / 3:  # it is renewed three times as often
            return self._gone(consumer_worker(consumer) if consumer else "", ends, crashed)
        worker, seen = consumer_worker(consumer), ends - lease
        if self._more.cancel is not None:
            return replace(self._cancelling(), worker=worker, seen=seen)
        again = [step for step in opened if step.state == "retrying"]
        busy = [step.id for step in opened if step.state == "running"]
        if again and not busy:
            return replace(self._again(again[0]), worker=worker, seen=seen)
        what = f", at step {_listed(busy, len(busy))}" if busy else ""
        since = in_words(max(0, self._now - (self._run.started or self._run.queued)))
        words = f"runs on {worker}, begun {since} ago{what}{crashed}"
        return Verdict(kind="running", words=words, worker=worker, seen=seen, step=busy[0] if busy else "")

    async def _lease_end(self, consumer: str) -> int | None:
        """Return until when its worker's lease holds what it has in hand; None when that worker has none."""
        kind, _, rest = self._more.entry.partition("|")
        name = rest.rpartition("|")[0]
        own = keys.function_workers(self._run.function, self._run.id)
        ends = await self._wire.load("ZSCORE", keys.events_workers(name) if kind == "event" else own, consumer)
        return None if ends is None else codec.whole(ends)

    def _gone(self, worker: str, ends: int | None, crashed: str) -> Verdict:
        lease = self._wire.settings.lease_ms
        seen = None if ends is None else ends - lease
        last = "its worker is gone"
        if seen is not None:
            last = f"its worker {worker} was last seen {in_words(max(0, self._now - seen))} ago"
        if not self._at_work:
            over = f", and no other serves {self._run.function}: start one, which takes it over"
        elif ends is not None and ends > self._now:
            over = f"; another takes it over {self._in(ends)}, unless it comes back"
        else:
            over = "; another takes it over now"
        return Verdict(kind="worker_gone", words=f"{last}{over}{crashed}", worker=worker, seen=seen, until=ends)

    def _cancelling(self) -> Verdict:
        why = self._more.cancel.message if self._more.cancel is not None else ""
        return Verdict(kind="cancelling", words=f"is being cancelled: {why or 'nobody said why'}", error=why)

    # -- waiting: nobody has it, and something will wake it ----------------------------------------------------------

    async def waiting(self, opened: Sequence[StepView]) -> Verdict:
        """It waits for its steps, for a moment, or to be tried again; a worker of its function will wake it."""
        found = self._wait(opened, await self._timer())
        nobody = f"; no worker serves {self._run.function}, so nobody wakes it" if not self._at_work else ""
        return replace(found, words=f"{found.words}{nobody}")

    async def _timer(self) -> int | None:
        run = self._run
        due = await self._wire.load("ZSCORE", keys.timers(run.function, run.id), f"{run.id}:{run.turn}")
        return None if due is None else codec.whole(due)

    def _wait(self, opened: Sequence[StepView], timer: int | None) -> Verdict:
        run, steps = self._run, [step for step in opened if step.state in ("waiting", "retrying")]
        if self._more.again == run.turn and run.error is not None:
            return self._attempt("", run.attempt, run.error, timer)
        if not steps:
            if run.started is None:
                words = f"its event is of a time to come: it begins {self._in(timer)}"
                return Verdict(kind="later", words=words, until=timer)
            return Verdict(kind="turn", words=f"waits for its next turn, {self._in(timer)}", until=timer)
        steps.sort(key=lambda step: (step.due is None, step.due or step.since))
        told = [self._wait_of(step) for step in steps]
        if len(told) == 1:
            return told[0]
        several = "; ".join(one.words for one in told[:_MOST_TOLD])
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        return Verdict(kind="several", words=f"{several}{more}", until=told[0].until)

    def _wait_of(self, step: StepView) -> Verdict:
        if step.state == "retrying":
            return self._again(step)
        is_far = step.due is None or step.due - self._now > _FAR_MS
        until = None if is_far else step.due
        if step.kind == "sleep":
            return Verdict(
                kind="sleep", words=f"sleeps: step {step.id} goes on {self._in(until)}", until=until, step=step.id
            )
        what = step.waits_for
        if what is None:
            return Verdict(kind="turn", words=f"waits in step {step.id}", until=until, step=step.id)
        most = f", at most {in_words(max(0, until - self._now))} more" if until is not None else ""
        kind = "event" if what.event else "signal" if what.signal else "child"
        named = what.event or what.signal or what.run or what.function
        run = f" (run {what.run})" if what.run and what.function else ""
        words = f"{in_words_of(what, still=True)}{run} in step {step.id}{most}"
        return Verdict(kind=kind, words=words, until=until, step=step.id, waits_for=named)

    def _again(self, step: StepView) -> Verdict:
        return self._attempt(step.id, step.attempts, step.error, step.due)

    def _attempt(self, step: str, failed: int, error: Failure | None, until: int | None) -> Verdict:
        """It has failed so many times, and is tried again: as often as its function is, where a step says no other."""
        most = self._function.retries + 1 if self._function is not None else 0
        of = f" of {most}" if failed < most else ""
        what = f"step {step} is" if step else "is"
        told = f": {error.told().strip().partition(chr(10))[0][:200]}" if error is not None else ""
        return Verdict(
            kind="retry", words=f"{what} tried again {self._in(until)}, attempt {failed + 1}{of}{told}", until=until,
            step=step, attempt=failed + 1, attempts=most if failed < most else None, error=told[2:],
        )  # fmt: skip


def _nth(n: int) -> str:
    return f"{n}{'th' if 10 < n % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def _listed(names: Sequence[str], count: int) -> str:
    """Return some of `count` names as a sentence has them."""
    some = [*names[:_MOST_TOLD]]
    more = count - len(some)
    if more > 0:
        return f"{', '.join(some)} and {more} more"
    return " and ".join(filter(None, [", ".join(some[:-1]), some[-1]]))
