"""Loading an application: APP is `module:attribute`, as for uvicorn, found from the working directory."""

import importlib
import os
import sys

from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError


def load(app: str) -> Bus:
    """Return the Bus that APP names; ConfigError when it cannot be had, with the reason."""
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
        raise ConfigError(f"no module {module_name!r} from {here}; APP is module:attribute") from None
    found = getattr(module, attribute, None)
    if not isinstance(found, Bus):
        what = "has no such attribute" if found is None else f"is a {type(found).__name__}, not a Bus"
        names = [name for name, value in vars(module).items() if isinstance(value, Bus)]
        hint = f"; did you mean {module_name}:{names[0]}?" if names else ""
        raise ConfigError(f"{app!r} {what}{hint}")
    return found
