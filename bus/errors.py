"""Everything that can go wrong, and who should care.

StepstreamError
├── ConfigError           the programmer: a declaration, a setting or a command line makes no sense
├── EventInvalid          the sender: answered with 4xx, the event and the field
├── BadRequest            who asks: a parameter of the request makes no sense
│   ├── StepNotFound, NotBegun
├── NotFound              who asks: what is named does not exist
│   ├── RunNotFound, FunctionNotFound, NobodyWaits
├── Conflict              who acts: it exists, but its state does not allow that
│   ├── NotEnded, HasEnded, InUse
├── StoreError            the programmer or operator: Redis refused a command for good (WRONGTYPE, a syntax error)
│   ├── GroupMissing      a consumer group is gone (NOGROUP): made again
│   ├── KeyMissing        a key is gone that a command needs
│   ├── WrongType         another type of value has a key's name (WRONGTYPE)
│   ├── ScriptMissing     a script is not loaded (NOSCRIPT): sent whole
│   ├── BlobGone          the store of large results answers, and does not have one
│   └── StoreUnfit        the store of large results cannot be asked now; worth another try
├── Unavailable           the operator: Redis did not answer or cannot serve now; loops wait and try again
│   └── RightMissing      this user may not, or this server has no such command: waited out until it is given
└── RunError
    ├── StepFailed        the function body: a step used up its attempts; catchable
    │   └── ProcessFailed the same, of a step that is a command: its exit code or signal, and what it wrote last
    ├── ProcessError      one attempt of such a step
    ├── RunFailed         who waits for a run's result: it ended otherwise
    ├── RunUnfinished     who waits for a run's result: it has not ended in time
    ├── NonRetriable      raised by users: no further attempt
    └── RetryAfter        raised by users: try again at a given time
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

_MOST_NAMED = 20


def listed(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """Return names as a sentence has them, `a, b and 3 more`; empty when there are none."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class StepstreamError(Exception):
    """The root of every error of ours; `code` is stable, for HTTP answers and logs, `status` the HTTP status."""

    code = "bus_error"
    status = 500


BusError = StepstreamError
"""Its name inside."""


class ConfigError(BusError):
    """A declaration, a setting or a command line makes no sense; the message has the value and the way out."""

    code = "config"


class EventInvalid(BusError):
    """An event breaks a rule.

    `field` is its path (`data`, `ts`, `data.userId`), `position` its place in a list, `status` the HTTP status.
    """

    code = "event_invalid"
    status = 400

    def __init__(self, message: str, *, field: str = "", position: int | None = None, status: int = 400) -> None:
        self.reason = message
        self.field = field
        self.position = position
        self.status = status
        where = f"event {position}: " if position is not None else ""
        super().__init__(f"{where}{field}: {message}" if field else f"{where}{message}")

    def at(self, position: int) -> "EventInvalid":
        """Return the same error, told of the event at `position` of a list."""
        return EventInvalid(self.reason, field=self.field, position=position, status=self.status)


class BadRequest(BusError):
    """A parameter of a request makes no sense; the message has the value and what is allowed."""

    code = "bad_request"
    status = 400


class StepNotFound(BadRequest):
    """A run has no finished step of this id, from which it was to run again; the message lists those it has."""

    code = "step_not_found"

    def __init__(self, run: str, step: str, known: Sequence[str] = ()) -> None:
        self.run = run
        self.step = step
        there = listed(known) or "none"
        super().__init__(f"run {run} has no finished step {step[:150]!r}; it has {there}")


class NotBegun(BadRequest):
    """A run has no event that can be read, so it cannot be run again: it has not begun, or was stored by hand."""

    code = "not_begun"

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"run {run} has no event yet; it has not begun")


class NotFound(BusError):
    """What is named does not exist."""

    code = "not_found"
    status = 404


class RunNotFound(NotFound):
    """No run has this id."""

    code = "run_not_found"

    def __init__(self, run: str, why: str = "it never was, or its time to be kept is over") -> None:
        self.run = run
        super().__init__(f"no run {run[:60]!r}: {why}")


class FunctionNotFound(NotFound):
    """No function of this slug is registered; the message lists those that are."""

    code = "function_not_found"

    def __init__(self, slug: str, known: Sequence[str]) -> None:
        self.slug = slug
        there = listed(sorted(known)) or "none"
        super().__init__(f"function {slug[:150]!r} is not registered; there are {there}")


class NobodyWaits(NotFound):
    """No run waits for this signal."""

    code = "nobody_waits"

    def __init__(self, signal: str) -> None:
        self.signal = signal
        super().__init__(f"no run waits for signal {signal[:60]!r}")


class Conflict(BusError):
    """What is named exists, but its state does not allow the action."""

    code = "conflict"
    status = 409


class NotEnded(Conflict):
    """A run to be run again has not ended: a second one would do the same beside it."""

    code = "not_ended"

    def __init__(self, run: str, status: str) -> None:
        self.run = run
        super().__init__(
            f"run {run} has not ended, it is {status}: cancel it first (bus cancel {run}), or begin a second one "
            f"beside it (bus rerun {run} --beside; beside=true)"
        )


class HasEnded(Conflict):
    """A run to be cancelled has already ended."""

    code = "has_ended"

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"run {run} has ended already")


class InUse(Conflict):
    """A function to be forgotten has workers, or runs that have not ended; the message has the way out."""

    code = "in_use"


class StoreError(BusError):
    """Redis refused a command for what it asks, and trying again would not help."""

    code = "store"


class GroupMissing(StoreError):
    """A consumer group or its stream is gone (NOGROUP)."""


class KeyMissing(StoreError):
    """A command is about a key that is not there."""


class WrongType(StoreError):
    """A command met a key that holds another type of value (WRONGTYPE): something else has its name."""


class ScriptMissing(StoreError):
    """The server does not have a script (NOSCRIPT)."""


class Unavailable(BusError):
    """Redis did not answer, or says it cannot serve now; the outcome of a command in flight is unknown.

    `state` is the server's word (`OOM`, `LOADING`, `WRONGPASS`, …), `lost` for a broken connection, `timeout` for one
    that is silent, `refused` when none opens, `maxclients` or `files` when the server or this process may have no more.
    `is_paced`: no connection opened, and the next attempt waits by itself.
    """

    code = "store_unavailable"
    status = 503

    def __init__(self, message: str, *, state: str = "lost") -> None:
        self.state = state
        self.is_paced = False
        super().__init__(message)

    @property
    def is_unanswered(self) -> bool:
        """Whether what was asked may have been done all the same: no answer came back."""
        return self.state in {"lost", "timeout"}


StoreUnavailable = Unavailable
"""Its name inside."""


class RightMissing(StoreUnavailable):
    """This user may not run a command (NOPERM), or the server does not have it (renamed, too old)."""


class BlobGone(StoreError):
    """A store of large results answers and does not have a blob; `key` is its name, `store` the store's URL."""

    code = "blob_gone"
    status = 410

    def __init__(self, key: str, store: str) -> None:
        self.key = key
        self.store = store
        super().__init__(f"{store} does not have {key[:150]!r}: it was deleted, or written to another store")


class StoreUnfit(StoreError):
    """A store of large results cannot be asked now; the message has its URL and what to do. Another try may succeed.

    `state`: `unreachable`, `timeout`, `refused` (rights, credentials), `missing` (no such bucket), `full`, or `wrong`
    for one that answers what makes no sense.
    """

    code = "blobs_unfit"
    status = 503

    def __init__(self, message: str, *, state: str) -> None:
        self.state = state
        super().__init__(message)


class RunError(BusError):
    """An error that ends a step or a run."""

    code = "run"


class StepFailed(RunError):
    """A step used up its attempts. Catch it to continue without the step.

    `step` is its id; `name`, `message` and `stack` are those of the last error.
    """

    code = "step_failed"

    def __init__(self, step: str, name: str, message: str, stack: str = "") -> None:
        self.step = step
        self.name = name
        self.message = message
        self.stack = stack
        super().__init__(f"step '{step}' failed: {name}: {message}")


class ProcessFailed(StepFailed):
    """A step that is a command used up its attempts.

    `name` says how its last attempt ended: `exit_code`, `killed` (by another than us), `timeout`, `not_started`.
    `exit_code` is that code, `signal` what has ended it (`SIGKILL`); `output` is the end of what it wrote.
    """

    code = "process_failed"

    def __init__(
        self, step: str, name: str, message: str, output: str = "", exit_code: int | None = None, signal: str = ""
    ) -> None:
        self.exit_code = exit_code
        self.signal = signal
        self.output = output
        super().__init__(step, name, message, output)


class ProcessError(RunError):
    """An attempt of a step that is a command has failed; ProcessFailed says what the fields are."""

    code = "process"

    def __init__(self, name: str, message: str, *, code: int | None = None, signal: str = "", output: str = "") -> None:
        self.name = name
        self.exit_code = code
        self.signal = signal
        self.output = output
        super().__init__(message)


class NonRetriable(RunError):
    """Raise it in a step or a function: trying again would not help."""

    code = "non_retriable"


class RunFailed(RunError):
    """A run whose result was waited for ended otherwise: `status` is failed, cancelled or skipped.

    `run` is its id, `function` its function's slug; `name`, `message` and `stack` are those of its error.
    """

    code = "run_failed"

    def __init__(self, run: str, function: str, status: str, name: str, message: str, stack: str = "") -> None:
        self.run = run
        self.function = function
        self.status = status
        self.name = name
        self.message = message
        self.stack = stack
        super().__init__(f"run {run} of {function} {status}: {name}{': ' if name and message else ''}{message}")


class RunUnfinished(RunError, TimeoutError):
    """A run whose result was waited for has not ended in time; `status` is what it does."""

    code = "run_unfinished"

    def __init__(self, run: str, status: str) -> None:
        self.run = run
        self.status = status
        super().__init__(f"run {run} has not ended in time: it is {status}")


class RetryAfter(RunError):
    """Raise it to be tried again at a given time: seconds, "30s", a timedelta or an aware datetime.

    The attempt counts. The wait is kept between 1 s and 24 h.
    """

    code = "retry_after"

    def __init__(self, when: float | str | timedelta | datetime, message: str = "") -> None:
        self.when = when
        super().__init__(message or f"try again after {when}")
