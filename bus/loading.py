"""Load an application: APP is `module:attribute`, as for uvicorn; modules are looked up from the working directory."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, cast

from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError

_NOT_THE_AUTHORS = ("stepstream", "importlib")


class NoSuchApp(ConfigError):
    """There is no such module, or no Bus of that name in it: what was typed is wrong."""


class BrokenApp(ConfigError):
    """The module is there and cannot be imported; the message ends with the line of the author's that failed."""


def load(app: str) -> Bus[Any]:
    """Return the Bus that APP names; NoSuchApp when there is none, BrokenApp when its module cannot be imported."""
    module_name, _, attribute = app.partition(":")
    if not module_name or not attribute:
        told = (module_name or "shop.functions").removesuffix(".py").replace("/", ".")
        raise NoSuchApp(f"{app!r} is not module:attribute; write for example {told}:{attribute or 'app'}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 - whatever the author's module raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            if module_name.endswith(".py"):
                right = module_name.removesuffix(".py").replace("/", ".")
                raise NoSuchApp(f"{app!r} names a file; did you mean {right}:{attribute}?") from None
            raise NoSuchApp(
                f"there is no module {missing!r} in {here} or installed; write APP as module:attribute"
            ) from None
        raise BrokenApp(f"{module_name} cannot be imported:\n{_told(error)}") from None
    bus = getattr(module, attribute, None)
    if not isinstance(bus, Bus):
        kind = "class" if isinstance(bus, type) else type(bus).__name__
        what = "has no such attribute" if bus is None else f"is a {kind}, not a Bus"
        names = [name for name, value in vars(module).items() if isinstance(value, Bus)]
        hint = f"; did you mean {module_name}:{names[0]}?" if names else ""
        raise NoSuchApp(f"{app!r} {what}{hint}")
    return cast("Bus[Any]", bus)


def _told(error: Exception) -> str:
    """Return an error with the last line of the author's that led to it; a syntax error has its place in itself."""
    frames = [place for place in _frames(error.__traceback__) if not _is_ours(place[0])]
    own = [place for place in frames if place[0].f_code.co_filename.startswith(os.getcwd())]
    frames = own or frames  # rather where the author calls a library than where that raises
    place = "" if isinstance(error, SyntaxError) or not frames else _place(*frames[-1])
    return f"{''.join(traceback.format_exception_only(error)).rstrip()}{place}"


def _frames(at: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while at is not None:
        yield at.tb_frame, at.tb_lineno
        at = at.tb_next


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _NOT_THE_AUTHORS or frame.f_code.co_filename.startswith("<frozen")


def _place(frame: FrameType, line: int) -> str:
    [summary] = traceback.StackSummary.extract([(frame, line)])
    return f'\n  File "{summary.filename}", line {line}, in {summary.name}\n    {summary.line}'
