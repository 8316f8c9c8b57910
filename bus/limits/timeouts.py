"""How long a run may take."""

import msgspec

from stepstream.bus.errors import ConfigError
from stepstream.bus.limits.rules import Duration
from stepstream.bus.values.durations import in_words, milliseconds


class Timeouts(msgspec.Struct, frozen=True):
    """How long a run may take: `start` from its event to its first line of code, `finish` from there to its end.

    A run that takes longer is cancelled: its async bodies stop at once, the result of a body in a thread is dropped.
    """

    start: Duration | None = None
    finish: Duration | None = None

    @property
    def start_ms(self) -> int:
        """`start` in ms; 0 for no bound."""
        return 0 if self.start is None else milliseconds(self.start, "timeouts start")

    @property
    def finish_ms(self) -> int:
        """`finish` in ms; 0 for no bound."""
        return 0 if self.finish is None else milliseconds(self.finish, "timeouts finish")

    @property
    def texts(self) -> tuple[str, ...]:
        """Both bounds in words, for people; those that are set."""
        bounds = (("start", self.start_ms, "its event comes"), ("end", self.finish_ms, "it starts"))
        return tuple(f"a run must {what} within {in_words(ms)} after {since}" for what, ms, since in bounds if ms)

    def check(self, where: str) -> None:
        """Raise ConfigError for a bound of no length."""
        for name, value, ms in (("start", self.start, self.start_ms), ("finish", self.finish, self.finish_ms)):
            if value is not None and ms < 1:
                raise ConfigError(f"{where}: timeouts {name} must be at least 1 ms, got {value!r}")
