"""Unawaited: a call without `await`, which does nothing, is a line of the log that names where it stands.

Python tells of it by a warning when the coroutine is collected, which is at the call itself; by default it does so once
for a line, on standard error, between other things.
"""

import re
import warnings
from typing import Any

import structlog

_log = structlog.get_logger("await")
_TOLD = re.compile(r"coroutine '(.+)' was never awaited")


def tell() -> None:
    """Log each coroutine that nobody awaited, from now on."""
    warnings.filterwarnings("always", _TOLD.pattern, RuntimeWarning)
    show: Any = warnings.showwarning

    def showing(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
        found = _TOLD.match(str(message))
        if found is None:
            show(message, category, filename, lineno, *more)
            return
        what = "the event is not sent" if found[1].endswith(".send") else "it does nothing"
        _log.error(f"a call is not awaited: {what}; write await before it", call=found[1], at=f"{filename}:{lineno}")

    warnings.showwarning = showing
