"""Flush: let what a debounce or a batch holds back become its run now."""

from collections.abc import Sequence

import msgspec

from stepstream.bus.errors import BadRequest
from stepstream.bus.limits.keys import keys_like, shown_key
from stepstream.bus.values import codec
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.limits.backlogs import backlogs_of
from stepstream.checkpoint.registry import function_of

FLUSH = script(__file__, "buffer_flush")
_PATIENCE_S = 2.0


class Flushed(msgspec.Struct, frozen=True):
    """A buffer that has become a run: of which kind (debounce, batch) and key, and the run."""

    kind: str
    key: str
    run: str


async def flush(wire: Wire, slug: str, key: str | None = None, runs: Sequence[str] = ()) -> list[Flushed]:
    """Let the buffers of a function become runs now; return those that have: at most a hundred, those due first.

    With `key` only those of this value of its key, as people write it; with `runs` only those that will be these runs:
    repeated it does nothing. BadRequest when the function holds nothing back, FunctionNotFound when there is none.
    """
    function = await function_of(wire, slug)
    if not any(one.kind in ("debounce", "batch") for one in function.limits):
        raise BadRequest(f"function '{slug}' has neither debounce nor batch: it holds no event back")
    done: list[Flushed] = []
    for name, run in await _meant(wire, slug, key, runs):
        kind, _, stored = name.partition(":")
        if await wire.lasting_script(FLUSH, [keys.function(slug, FIRST)], name, run, patience=_PATIENCE_S):
            shown = "" if stored == "=null" else shown_key(stored)
            done.append(Flushed("batch" if kind == "b" else "debounce", shown, run))
    return done


async def _meant(wire: Wire, slug: str, key: str | None, runs: Sequence[str]) -> list[tuple[str, str]]:
    """Return the buffers that are meant, each with the run that it will be."""
    if runs:
        names = await wire.loads(*(("HGET", keys.buffered(slug), run) for run in runs))
        found = [(codec.text(name or b""), run) for name, run in zip(names, runs, strict=True)]
        meant = None if key is None else keys_like(key)
        return [one for one in found if one[0] and (meant is None or one[0].partition(":")[2] in meant)]
    if key is not None:
        asked = [f"{kind}:{stored}" for kind in ("d", "b") for stored in keys_like(key)]
        held = await wire.loads(*(("HGET", keys.buffer(slug, name), "run") for name in asked))
        return [(name, codec.text(run)) for name, run in zip(asked, held, strict=True) if run]
    return [(held.key, held.run) for held in (await backlogs_of(wire, slug)).buffers]
