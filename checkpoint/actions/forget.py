"""Forget a function that no longer exists: drop its consumer groups, so that no events are kept, delete its keys."""

import asyncio
import contextlib
import time

from stepstream.bus.errors import BusError, FunctionNotFound, InUse
from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.all_keys import delete_fixed, delete_listed
from stepstream.checkpoint.apps import put, the_app
from stepstream.checkpoint.controls.pauses import resume_function
from stepstream.checkpoint.ends.ends import load_end
from stepstream.checkpoint.registry import function_of, functions, workers_of
from stepstream.checkpoint.run.memo import Failure
from stepstream.checkpoint.run.record import ENDED, Record, read
from stepstream.checkpoint.run.resolve import resolve
from stepstream.checkpoint.types import forget_types
from stepstream.checkpoint.upkeep.repair import active
from stepstream.checkpoint.waits.cancel_index import group_of

_PAGE = 500
_LOOK_S = 0.2


async def forget(wire: Wire, slug: str, *, with_runs: bool = False) -> list[str]:
    """Forget a function and its runs; return the event names whose groups were dropped.

    InUse while a worker reads for it, and, unless `with_runs`, while it has runs that have not ended: nobody would
    ever end them. A run that invoked one of those is told that it was cancelled. FunctionNotFound when it is not
    registered.
    """
    function = await function_of(wire, slug)
    alive = await workers_of(wire, slug)
    if alive:
        raise InUse(f"function '{slug}' has {alive} worker(s) at work; stop them first")
    callers, count = await _callers(wire, slug)
    if count and not with_runs:
        raise InUse(
            f"function '{slug}' has {count} run(s) that have not ended, and never would: cancel them first, "
            "or say --with-runs"
        )
    dropped = await _drop_groups(wire, slug)
    for run, parent in callers:
        await _tell(wire, slug, run, parent)
    fields = [codec.text(field) for field in await wire.call("HKEYS", keys.triggers())]
    for part in parts([field for field in fields if field.startswith(f"{slug} ")]):
        await wire.call("HDEL", keys.triggers(), *part)
    await forget_types(wire, function)
    await resume_function(wire, slug)
    await delete_listed(wire, slug)
    await wire.call("HDEL", keys.functions(), slug)
    await delete_fixed(wire, slug)
    return dropped


async def forget_app(wire: Wire, name: str, *, with_runs: bool = False, patience: float = 20.0) -> list[str]:
    """Forget an application behind HTTP, its functions and their runs; return the slugs of the functions.

    InUse while it has runs that have not ended, unless `with_runs`, and when its workers do not leave within `patience`
    seconds: then only its functions are left, for `forget`. AppNotFound when it is not registered.
    """
    app = await the_app(wire, name)
    declared = {one.slug for one in await functions(wire) if one.remote and one.bus == name}
    slugs = sorted({*app.functions, *app.archived, *declared})
    for slug in () if with_runs else slugs:
        if count := await unfinished(wire, slug):
            raise InUse(
                f"function '{slug}' has {count} run(s) that have not ended, and never would: cancel them first, "
                "or say --with-runs"
            )
    await put(wire, name, lambda _: None)
    until = time.monotonic() + patience
    for slug in slugs:
        while await workers_of(wire, slug) and time.monotonic() < until:  # noqa: ASYNC110 - they are other processes
            await asyncio.sleep(_LOOK_S)
        with contextlib.suppress(FunctionNotFound):  # it was never registered, or is forgotten already
            await forget(wire, slug, with_runs=True)
    return slugs


async def unfinished(wire: Wire, slug: str) -> int:
    """Return how many runs of a function have not ended."""
    return (await _callers(wire, slug))[1]


class _Called(Record):
    parent: str = ""


async def _callers(wire: Wire, slug: str) -> tuple[list[tuple[str, str]], int]:
    """Return the runs that have a caller (run, caller), and how many runs have not ended."""
    found: dict[str, str] = {}
    count = 0
    async for page in active(wire, slug):
        count += len(page)
        called = await read(wire, _Called, [(slug, run) for run in page])
        found |= {one.id: one.parent for one in called if one and one.parent}
    # Runs that have not begun, and ends not told to their caller.
    for stream in (of(slug, where) for of in (keys.queue, keys.ends) for where in partitions(slug)):
        start = "-"
        while rows := await wire.load("XRANGE", stream, start, "+", "COUNT", _PAGE):
            for fields in (fields_of(flat or ()) for _, flat in rows):
                if fields.get(b"parent") and fields.get(b"run"):
                    found[codec.text(fields[b"run"])] = codec.text(fields[b"parent"])
                    count += b"event" in fields
            start = f"({rows[-1][0].decode()}"
    return [(run, parent) for run, parent in found.items() if parent.count("|") >= 2], count


async def _tell(wire: Wire, slug: str, run: str, parent: str) -> None:
    """Resolve the caller's step with how the run ended: usually cancelled, just now."""
    caller, caller_run, step = parent.split("|", 2)
    ended, data = await load_end(wire, slug, run), b"null"
    error: Failure | None = Failure("cancelled", f"run {run} was cancelled: function '{slug}' was forgotten")
    if ended is not None and ended.status in ENDED:
        error, data = ended.error, bytes(ended.output or b"null")
    await resolve(wire, caller, caller_run, step, "invoke", data, error=error)


async def _drop_groups(wire: Wire, slug: str) -> list[str]:
    dropped: list[str] = []
    for name in map(codec.text, await wire.load("ZRANGE", keys.event_names(), 0, -1)):
        for group in (slug, group_of(slug)):
            try:
                if await wire.call("XGROUP", "DESTROY", keys.events(name), group):
                    dropped.append(name)
            except BusError:  # no such stream
                continue
    return dropped
