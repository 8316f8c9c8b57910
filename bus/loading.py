"""Load an application: APP is `module:attribute`, as for uvicorn; modules are looked up from the working directory."""

import importlib
import os
import sys
from typing import Any, cast

from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError


def load(app: str) -> Bus[Any]:
    """Return the Bus that APP names; ConfigError, with the reason, when it cannot be loaded."""
    module_name, _, attribute = app.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{app!r} is not module:attribute; write for example shop.functions:app")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(
            f"there is no module {module_name!r} in {here} or installed; write APP as module:attribute"
        ) from None
    bus = getattr(module, attribute, None)
    if not isinstance(bus, Bus):
        what = "has no such attribute" if bus is None else f"is a {type(bus).__name__}, not a Bus"
        names = [name for name, value in vars(module).items() if isinstance(value, Bus)]
        hint = f"; did you mean {module_name}:{names[0]}?" if names else ""
        raise ConfigError(f"{app!r} {what}{hint}")
    return cast("Bus[Any]", bus)
