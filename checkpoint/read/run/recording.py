"""Recording: a run as it is stored, with the results of its steps, in one JSON text: to be replayed against other code.

It holds the event and the results as they are: whoever keeps it looks for what is secret.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.errors import BadRequest, ConfigError, NotBegun
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import brought
from stepstream.checkpoint.read.run.bringing import run_whole
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.run.memo import Failure, Memo, Open, memo_of, open_of

FORMAT = 1
MOST_BYTES = 8 * 1024 * 1024
"""A larger one is refused: it would lie in a repository."""
NO_OUTPUT = Raw(b"")


class Recording(msgspec.Struct, omit_defaults=True):
    """One run: its event, its finished steps and the open ones, and how it ended if it has. Times are server ms.

    `code` is the fingerprint of the handler it was started with, `exported` the moment at which it was read.
    """

    run: str
    function: str
    status: str
    event: Raw
    exported: int
    steps: dict[str, Memo] = {}
    open: dict[str, Open] = {}
    attempt: int = 0
    code: str = ""
    output: Raw = NO_OUTPUT
    """Empty while there is none. Not `Raw | None`: msgspec reads no text as such a union."""
    error: Failure | None = None
    stepstream: int = FORMAT
    """The version of this format."""


async def record(wire: Wire, run: str) -> Recording:
    """Return a run as a recording, whatever its status; RunNotFound, NotBegun, or BadRequest when it is too large."""
    found = await get(wire, run)
    # In this order: a step that finishes between the two looks is seen as finished.
    raw_open = fields_of(await wire.load("HGETALL", keys.open_steps(found.function, run), patience=2.0))
    raw_steps = fields_of(await wire.load("HGETALL", keys.steps(found.function, run), patience=2.0))
    if found.event is None:
        raise NotBegun(run)
    event, found = found.event, await run_whole(wire, found)
    steps = {codec.text(name): memo_of(await brought(wire, raw)) for name, raw in raw_steps.items()}
    made = Recording(
        run=run,
        function=found.function,
        status=found.status,
        event=found.event or event,
        exported=await wire.moment(),
        steps=dict(sorted(steps.items(), key=lambda item: item[1].n)),
        open={codec.text(name): open_of(raw) for name, raw in raw_open.items() if name not in raw_steps},
        attempt=found.attempt,
        code=found.code,
        output=found.output or NO_OUTPUT,
        error=found.error,
    )
    size = len(codec.encode(made))
    if size > MOST_BYTES:
        largest = max(steps, key=lambda name: len(steps[name].data), default="")
        raise BadRequest(
            f"run {run} is {size} bytes as a recording, which holds at most {MOST_BYTES}; "
            f"its largest step is '{largest}': store what is large elsewhere and return where"
        )
    return made


def read_recording(source: str | Path) -> Recording:
    """Return the recording in a file; ConfigError for a file that is not one, or of another format."""
    path = Path(source)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"recording {path} cannot be read: {error.strerror}") from None
    try:
        found: Any = codec.decode(raw)
        version = found.get("stepstream") if isinstance(found, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if version not in (None, FORMAT):
            raise ConfigError(
                f"recording {path} is of format {version}, this Stepstream reads {FORMAT}: export it anew"
            )
        return codec.decode_as(raw, Recording)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path} is no recording: {error}; make one with: bus run ID --export > {path.name}"
        ) from None
