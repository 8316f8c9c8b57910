"""Filters: the options by which commands are told which runs are meant; each is named as the API's parameter."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeAlias

import typer

from stepstream.bus.errors import BadRequest
from stepstream.checkpoint.read.lists.runs import STATUSES

_NAMED = 10
Given: TypeAlias = list[tuple[str, str]]
"""The filters that were written, by name: one that may be repeated as often as it was."""

_SEVERAL = {
    "function": "Of this function (its slug), or of these.",
    "status": f"Of this status, or of these: {', '.join(STATUSES)}.",
}
_ONE = {
    "event": "Begun by an event of this name, or of such: order/*.",
    "key": "Counting under this value of a limit's key.",
    "since": "Queued then or later: 15m (ago), 2h, 2026-12-01T09:00Z.",
    "until": "Queued then or earlier.",
    "error": "Ended with an error of this name.",
    "code": "Begun with this version of the code.",
    "worker": "In hand of this worker; with --status: it had them last.",
    "source": "Made by: event, batch, debounce, cron, invoke, failure, rerun, replay.",
    "where": "A condition in CEL: event.data.total > 100 && output.paid.",
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each filter, in place of its argument `given`, which is what was written of them."""

    @functools.wraps(command)
    def with_filters(*args: Any, **options: Any) -> None:
        several = [(name, one) for name in _SEVERAL for one in options.pop(name, None) or ()]
        single = [(name, text) for name in _ONE if (text := options.pop(name, ""))]
        command(*args, given=several + single, **options)

    own = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        parameters += _options() if parameter.name == "given" else [parameter]
    # A call of ours may leave options out, as one may that types; typer reads their defaults from here.
    with_filters.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_filters


def named(begins: str, names: Iterable[str]) -> str | None:
    """Return the one of these names that is this, or else begins so; None for none, BadRequest when several do."""
    fitting = sorted({name for name in names if name.startswith(begins)}) if begins else []
    if begins in fitting or len(fitting) < 2:
        return begins if begins in fitting else next(iter(fitting), None)
    more = f" and {len(fitting) - _NAMED} more" if len(fitting) > _NAMED else ""
    raise BadRequest(f"{begins[:60]!r} is the beginning of several: {', '.join(fitting[:_NAMED])}{more}")


def _options() -> list[inspect.Parameter]:
    several = [_option(name, words, list[str] | None, None) for name, words in _SEVERAL.items()]
    return several + [_option(name, words, str, "") for name, words in _ONE.items()]


def _option(name: str, words: str, kind: Any, default: Any) -> inspect.Parameter:
    how = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, how, default=default, annotation=Annotated[kind, typer.Option(help=words)])
