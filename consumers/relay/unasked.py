"""Unasked: runs whose expression cannot be evaluated for an event, so that it counts as false: this is told."""

from collections.abc import Mapping
from typing import Any

from stepstream.bus.observe.signals import Signals
from stepstream.bus.values.matching import answers, why_not


class Unasked:
    """Asks the expressions of several runs of one event, and tells at the end of how many that could not be done."""

    def __init__(self, signals: Signals, what: str, event: str) -> None:
        """Take what is asked, in words, and the event: its name and its entry."""
        self._signals = signals
        self._what = what
        self._event = event
        self._runs: list[str] = []
        self._why = ""

    def answers(self, own: Mapping[str, Any], came: Mapping[str, Any], if_: str, run: str) -> bool:
        """Whether an expression is true of a run's own event and of one that came; ConfigError for one that is none."""
        if answers(own, came, None, if_):
            return True
        why = why_not(own, came, if_)
        if why is not None:
            self._runs.append(run)
            self._why = f"{if_}: {why}"
        return False

    def tell(self) -> None:
        """Say of how many runs it could not be evaluated, and why of one."""
        if self._runs:
            self._signals.notice(
                f"the condition of {self._what} could not be evaluated, and counts as false",
                entry=self._event,
                runs=len(self._runs),
                run=self._runs[-1],
                why=self._why,
            )
