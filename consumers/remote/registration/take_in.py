"""Take in: an application is registered as it asks, or what is wrong with it is kept."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire.registering import Listeners
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import unfinished
from stepstream.checkpoint.apps import App, app_of, put
from stepstream.checkpoint.registry import register
from stepstream.checkpoint.run.resolve import hurry_failed
from stepstream.consumers.remote.functions import bus_of
from stepstream.consumers.remote.registration.asked import RegistrationRefused, as_refused, known_hole, read
from stepstream.consumers.remote.registration.refusals import fit_for
from stepstream.consumers.remote.registration.replaced import drop_unnamed, replace_others

_PATIENCE_S = 5.0
_NOT_THERE = frozenset({"unreachable", "unauthorized"})
_PERHAPS_OF_IT = frozenset({"call_broken", "code_changed"})
"""Errors of runs that another start of the application, or another version of it, may mend."""
_WITHIN_MS = 900_000
"""Runs that would be tried later than that have had several attempts: they keep to their time."""


async def take_in(wire: Wire, sent: Mapping[str, Any], *, connected: bool = False) -> tuple[App, bool]:
    """Register an application as it asks, or as a worker of it that has `connected`; return it, and whether it changed.

    RegistrationRefused says what is wrong; nothing is changed then. Runs that wait because it was not there go on.
    """
    asked = read(sent, connected=connected)
    new, name = asked.app, asked.app.name
    stands = await app_of(wire, name)
    if stands is not None and stands.checksum == asked.checksum:
        await _go_on(wire, stands, is_back=not stands.is_healthy)
        return (stands if stands.is_healthy else await _healthy(wire, name) or stands), False
    bus = await fit_for(wire, new)
    now = await wire.clock()
    gone = {} if stands is None else {**stands.archived, **stands.functions}
    archived = {slug: gone[slug] for slug in sorted(gone.keys() - new.functions.keys()) if await unfinished(wire, slug)}

    def begun(stands: App | None) -> App:
        return msgspec.structs.replace(
            new,
            version=1 if stands is None else stands.version + 1,
            synced=now,
            archived=archived,
            note=_note(stands, new),
        )

    def done(stands: App | None) -> App | None:
        # Somebody else may have registered meanwhile: what is theirs is not ours to call done.
        is_ours = stands is not None and stands.functions == new.functions and stands.url == new.url
        return msgspec.structs.replace(cast("App", stands), checksum=asked.checksum) if is_ours else stands

    # The application first: should this process end in between, workers declare its functions.
    await put(wire, name, begun)
    try:
        for function in bus_of(msgspec.structs.replace(new, archived=gone)).functions.values():
            await register(wire, function)
    except ConfigError as error:
        raise RegistrationRefused(str(error), "invalid_function", name) from None
    await Listeners(wire, [bus.functions]).get_ready(set(), _PATIENCE_S)
    app = await put(wire, name, done)
    await replace_others(wire, new)
    await _go_on(wire, app or new, is_back=True)
    return app or new, True


async def note_refused(wire: Wire, sent: Mapping[str, Any], error: RegistrationRefused) -> None:
    """Keep why an application was refused, if it has a name; what it had registered before stays."""
    if not error.name:
        return
    unknown = as_refused(sent, error.name)

    def noted(stands: App | None) -> App:
        return msgspec.structs.replace(stands or unknown, error=str(error), error_code=error.code)

    await put(wire, error.name, noted)
    if unknown.url:
        await drop_unnamed(wire, unknown.url)


async def _healthy(wire: Wire, name: str) -> App | None:
    """Forget what was wrong: it is registered again as it had been."""
    return await put(wire, name, lambda stands: stands and msgspec.structs.replace(stands, error="", error_code=""))


async def _go_on(wire: Wire, app: App, *, is_back: bool) -> None:
    """Let runs go on that wait because the application was not there, for it has just spoken.

    If it `is_back`, or is another version, so do those whose call broke off, and those that wait for a deploy. Not each
    time it speaks: it may have died of such a call, and its backoff is there for that.
    """
    errors = _NOT_THERE | _PERHAPS_OF_IT if is_back else _NOT_THERE
    for slug in (*app.functions, *app.archived):
        for where in partitions(slug):
            await hurry_failed(wire, slug, errors, _WITHIN_MS, where)


def _note(stands: App | None, new: App) -> str:
    """Return what people should know of an application that is registered."""
    moved = stands is not None and stands.url and stands.url != new.url
    words = f"was at {stands.url} before: should both run, give one another id" if stands and moved else ""
    return "; ".join(filter(None, (known_hole(new.sdk), words)))
