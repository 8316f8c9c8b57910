"""Apps: the applications behind HTTP that have registered their functions here, and what came of their last sync.

Each is one field of a hash, its name; what calls its functions makes an ordinary bus of it (consumers/remote). Who
follows changes blocks on a stream that gets an entry with each.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from stepstream.bus.errors import NotFound
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.fields import put_if

_KEPT_CHANGES = 16


class AppNotFound(NotFound):
    """No application of this name is registered; the message lists those that are."""

    code = "app_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        super().__init__(f"app {name[:150]!r} is not registered; there are {', '.join(sorted(known)) or 'none'}")


class App(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An application as it was registered last. `functions` are its functions as its SDK has sent them, by slug."""

    name: str
    url: str
    """Where it is called."""
    sdk: str = ""
    """Language and version: `js:v4.24.0`, `py:v0.5.19`."""
    framework: str = ""
    app_version: str = ""
    """What the application says its version is."""
    version: int = 0
    """Counts the syncs that changed something."""
    checksum: str = ""
    """Of what was registered: an equal one changes nothing. Empty until all of it is done."""
    synced: int = 0
    """When it was registered last, Unix ms; 0: never."""
    functions: dict[str, dict[str, Any]] = {}
    archived: dict[str, dict[str, Any]] = {}
    """Functions that it has no more, while runs of them go on."""
    error: str = ""
    """What is wrong, for people; empty when the last sync went well."""
    error_code: str = ""
    """`unreachable`, `invalid_function`, …: stable, for programs."""
    note: str = ""
    """What an operator should know that is no error: another application has had this name."""

    @property
    def is_healthy(self) -> bool:
        """Whether the last sync went well."""
        return not self.error and bool(self.checksum)


async def apps(wire: Wire) -> list[App]:
    """Return the registered applications, by name."""
    found: list[App] = []
    for raw in await wire.load("HVALS", keys.apps(), patience=2.0):
        app = codec.stored_as(raw, App)
        if app is not None:
            found.append(app)
    return sorted(found, key=lambda app: app.name)


async def app_of(wire: Wire, name: str) -> App | None:
    """Return a registered application; None when there is none of that name."""
    raw = await wire.load("HGET", keys.apps(), name, patience=2.0)
    return None if raw is None else codec.decode_as(raw, App)


async def the_app(wire: Wire, name: str) -> App:
    """Return a registered application; AppNotFound when there is none of that name."""
    found = await app_of(wire, name)
    if found is None:
        raise AppNotFound(name, [one.name for one in await apps(wire)])
    return found


async def put(wire: Wire, name: str, change: Callable[[App | None], App | None]) -> App | None:
    """Change an application as one act, and tell who follows: `change` gets what stands, and returns what is to stand.

    Two that change it at once are one after the other: the second sees what the first has written, for which its
    `change` is called again. None: it is to be no more.
    """
    raw: bytes = await patiently(lambda: wire.call("HGET", keys.apps(), name), 2.0) or b""
    while True:
        app = change(codec.decode_as(raw, App) if raw else None)
        new = b"" if app is None else codec.encode(app)
        if new == raw:
            return app
        stands = await put_if(wire, keys.apps(), name, new, raw)
        if stands is None:
            break
        raw = stands
    await patiently(lambda: wire.call("XADD", keys.app_changes(), "MAXLEN", _KEPT_CHANGES, "*", "app", name), 2.0)
    return app
