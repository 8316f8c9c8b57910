"""Importing: what `module:attribute` names, as for uvicorn; modules are looked up from the working directory."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from types import FrameType, ModuleType, TracebackType
from typing import Any

from stepstream.bus.errors import ConfigError

_NOT_THE_AUTHORS = ("stepstream", "importlib")


class NoSuchName(ConfigError):
    """There is no such module, or nothing of that name in it: what was typed is wrong."""


class BrokenModule(ConfigError):
    """The module is there and cannot be imported; the message ends with the line of the author's that failed."""


def module_of(named: str, what: str, example: str) -> tuple[ModuleType, str]:
    """Return the module that `module:attribute` names, imported, and the attribute's name.

    `what` it is called in errors, `example` an attribute as people write it. NoSuchName when there is no such module,
    BrokenModule when it cannot be imported.
    """
    module_name, _, attribute = named.partition(":")
    if not module_name or not attribute:
        told = (module_name or "shop.functions").removesuffix(".py").replace("/", ".")
        raise NoSuchName(f"{named!r} is not module:attribute; write for example {told}:{attribute or example}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name), attribute
    except Exception as error:  # noqa: BLE001 - whatever the author's module raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            if module_name.endswith(".py"):
                right = module_name.removesuffix(".py").replace("/", ".")
                raise NoSuchName(f"{named!r} names a file; did you mean {right}:{attribute}?") from None
            raise NoSuchName(
                f"there is no module {missing!r} in {here} or installed; write {what} as module:attribute"
            ) from None
        raise BrokenModule(f"{module_name} cannot be imported:\n{_told(error)}") from None


def attribute(named: str, variable: str) -> Any:
    """Return what a setting names as `module:attribute`; the errors of `module_of`, with the setting's name."""
    try:
        module, name = module_of(named, variable, "codec")
    except ConfigError as error:
        raise type(error)(f"{variable}: {error}") from None
    if not hasattr(module, name):
        raise NoSuchName(f"{variable}: {named!r} names what the module does not have")
    return getattr(module, name)


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
