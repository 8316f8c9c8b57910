"""Load an application: APP is `module:attribute`, as for uvicorn; modules are looked up from the working directory."""

from typing import Any, cast

from stepstream.bus.bus import Bus
from stepstream.bus.process.importing import NoSuchName, module_of


def load(app: str) -> Bus[Any]:
    """Return the Bus that APP names; NoSuchName when there is none, BrokenModule when its module cannot be imported."""
    module, attribute = module_of(app, "APP", "app")
    bus = getattr(module, attribute, None)
    if not isinstance(bus, Bus):
        kind = "class" if isinstance(bus, type) else type(bus).__name__
        what = "has no such attribute" if bus is None else f"is a {kind}, not a Bus"
        names = [name for name, value in vars(module).items() if isinstance(value, Bus)]
        hint = f"; did you mean {module.__name__}:{names[0]}?" if names else ""
        raise NoSuchName(f"{app!r} {what}{hint}")
    return cast("Bus[Any]", bus)
