"""Pauses: no run of a function goes on, or none begins for events of a name, until that is resumed."""

from stepstream.bus.errors import BadRequest
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import Pause, event_field, function_field, one_field
from stepstream.checkpoint.controls.put import put_control, remove_control
from stepstream.checkpoint.controls.run_one import LetThrough
from stepstream.checkpoint.registry import function_of

_PATIENCE_S = 2.0


async def pause_function(wire: Wire, slug: str, by: str) -> Pause:
    """Let no run of a function go on beyond what is in a worker's hand; return how it is paused from now, or was.

    Its work stays in line: events in their streams, turns in the queue, runs in the backlogs of limits. What a worker
    does at the moment it goes on doing until the run waits for something. FunctionNotFound when it is not registered.
    """
    await function_of(wire, slug)
    return await _pause(wire, function_field(slug), by)


async def resume_function(wire: Wire, slug: str) -> bool:
    """Let the runs of a function go on; return whether it was paused."""
    await put_control(wire, one_field(slug), LetThrough, lambda _: None, is_told=False)  # with the other
    return await remove_control(wire, function_field(slug), Pause) is not None


async def pause_event(wire: Wire, name: str, by: str) -> Pause:
    """Let no function begin a run for events of a name; return how it is paused from now, or was.

    They are published as before, and stay in their stream. Runs that wait for such an event, or are cancelled by one,
    hear of it.
    """
    if not name or "*" in name:
        raise BadRequest(f"event name {name[:150]!r} must be one name, without *: order/placed")
    return await _pause(wire, event_field(name), by)


async def resume_event(wire: Wire, name: str) -> bool:
    """Let functions begin runs for events of a name; return whether it was paused."""
    return await remove_control(wire, event_field(name), Pause) is not None


async def _pause(wire: Wire, field: str, by: str) -> Pause:
    made = Pause(await patiently(wire.moment, _PATIENCE_S), by)
    return await put_control(wire, field, Pause, lambda stands: stands or made) or made
