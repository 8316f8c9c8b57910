"""Schedules: for people: when each is due, what became of its last tick, which were missed; and to run one now."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Raw

from stepstream.bus.cron import Cron
from stepstream.bus.errors import BadRequest
from stepstream.bus.event import LATEST_MS, RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST, run_id, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import Pause, controls
from stepstream.checkpoint.registry import function_of, workers_serving
from stepstream.checkpoint.run.begin import begin
from stepstream.producers.cron import TICK, last_tick, run_of_tick

NEXT = 5
"""How many ticks to come are told."""
COUNTED_MISSED = 10
"""How many missed ticks are counted."""


class Schedule(msgspec.Struct, frozen=True):
    """A schedule of a function. All moments are server ms; what its jitter adds is not in them.

    `last` is its last tick that a worker has seen (None: none yet), and `last_run` the run that it began, as long as it
    is kept; empty as well when it was seen too late to run. `missed` ticks are over that no worker has seen, at most
    ten; of those at most the latest will run.
    """

    function: str
    text: str
    expression: str
    zone: str
    words: str
    next: tuple[int, ...]
    last: int | None
    last_run: str
    last_status: str
    missed: int
    workers: int
    paused: Pause | None


async def schedules(wire: Wire, known: Sequence[Registered]) -> list[Schedule]:
    """Return the schedules of functions, by function."""
    declared = [(one.slug, cron) for one in known for text in one.on if (cron := Cron.of(text)) is not None]
    slugs = list(dict.fromkeys(slug for slug, _ in declared))
    now, ordered, noted, workers = await asyncio.gather(
        wire.moment(),
        controls(wire),
        wire.looks(*(("HGETALL", keys.cron(slug)) for slug in slugs)),
        workers_serving(wire, slugs),
    )
    stored = {slug: fields_of(flat) for slug, flat in zip(slugs, noted, strict=True)}
    seen = [stored[slug].get(cron.text.encode()) for slug, cron in declared]
    # Reckoning takes about a millisecond for each schedule: others are served meanwhile.
    told = await asyncio.to_thread(
        lambda: [_told(slug, cron, raw, now) for (slug, cron), raw in zip(declared, seen, strict=True)]
    )
    runs = [run_of_tick(slug, cron, raw) if raw else "" for (slug, cron), raw in zip(declared, seen, strict=True)]
    begun = await wire.looks(
        *(("HGET", keys.run(slug, run), "status") for (slug, _), run in zip(declared, runs, strict=True))
    )
    return [
        msgspec.structs.replace(
            one,
            last_run=run if status is not None and one.last is not None else "",
            last_status=codec.text(status or b""),
            workers=workers[one.function],
            paused=ordered.functions.get(one.function),
        )
        for one, run, status in zip(told, runs, begun, strict=True)
    ]


def _told(slug: str, cron: Cron, raw: bytes | None, now: int) -> Schedule:
    due: list[int] = []
    at = now
    for _ in range(NEXT):
        at = cron.next_after(at)
        due.append(at)
    noted = last_tick(raw) if raw else 0
    seen = noted if 0 < noted <= LATEST_MS else None  # else it was written by hand
    missed, tick = 0, cron.last_before(now)
    while seen is not None and tick > seen and missed < COUNTED_MISSED:
        missed += 1
        tick = cron.last_before(tick - 1)
    is_tick = seen is not None and cron.last_before(seen) == seen  # else it is when it was declared
    return Schedule(
        slug, cron.text, cron.expression, cron.tz, cron.words, tuple(due), seen if is_tick else None, "", "", missed,
        workers=0, paused=None,
    )  # fmt: skip


async def run_now(wire: Wire, slug: str, text: str, request: str, at: int) -> str:
    """Begin a run as a tick of a schedule would, at once; return its id. Its own ticks stay as they are.

    `request` is an id of the caller's, and `at` when it was made, ms: repeated with both it is the same run.
    BadRequest when the function has no such schedule, FunctionNotFound when there is no such function.
    """
    known = await function_of(wire, slug)
    cron = Cron.of(text) if text in known.on else None
    if cron is None:
        raise BadRequest(f"function '{slug}' has no schedule {text[:100]!r}; it starts on {', '.join(known.on)}")
    run = run_id(slug, "cron", f"{text}|now|{request}", at, FIRST)
    moment = datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {"cron": cron.expression, "tz": cron.tz, "scheduledAt": moment}
    event = RawEvent(id=f"{moment}|{request}", name=TICK, data=Raw(codec.encode(data)), ts=at)
    await begin(wire, slug, run, "cron", event, patience=10.0)
    return run


async def run_of_function(wire: Wire, slug: str, text: str, request: str) -> str:
    """Begin a run as `run_now` does, now; `text` may be left out where the function has one schedule.

    `request` is a ULID: repeated with it, it is the same run.
    """
    made = ulid_ms(request)
    if made is None:
        raise BadRequest(f"request {request[:60]!r} is no ULID (26 letters); leave it out, or take a new one")
    declared = [on for on in (await function_of(wire, slug)).on if Cron.of(on) is not None]
    if not declared:
        raise BadRequest(f"function '{slug}' has no schedule; to run it without one: bus invoke {slug}")
    if not text and len(declared) > 1:
        raise BadRequest(f"function '{slug}' has several schedules, say which: {', '.join(declared)}")
    return await run_now(wire, slug, text or declared[0], request, min(made, await wire.moment()))
