"""Turning: what a round makes of what fires and of what is found now, and what is to be said of it.

It fires when it has lasted, and is over when it was not found for some rounds: what comes and goes is not told each
time. What could not be sent is not kept to be sent later: the next round says what is so then.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from stepstream.bus.alerts.rules import limit_of
from stepstream.checkpoint.alerts.kept import Alert
from stepstream.consumers.alerts.conditions import Condition, Thresholds

CALM_ROUNDS = 4
"""In how many rounds in a row it must not be found to be over."""

What = Literal["firing", "resolved", "reminder"]


class News(msgspec.Struct, frozen=True):
    """What is to be said of an alert. `again`: a process that has died since may have said it."""

    what: What
    alert: Alert
    again: bool = False


class Turned(msgspec.Struct, frozen=True):
    """What stands after a round, by field (None: nothing stands any more), and what is to be said."""

    stands: Mapping[str, Alert | None]
    news: Sequence[News]
    over: frozenset[str] = frozenset()
    """The rules of which something that fired is over, told or not."""


def turned(
    known: Mapping[str, Alert], found: Sequence[Condition], limits: Thresholds, now: int, remind_ms: int
) -> Turned:
    """Return what a round makes of what is known and of what is found."""
    stands: dict[str, Alert | None] = {}
    news: list[News] = []
    over: set[str] = set()
    for one in found:
        alert = _lasts(one, known, limits, now)
        stands[alert.field] = alert
        if alert.state == "firing" and not alert.told:
            news.append(News("firing", alert, alert.sending))
        elif alert.told and remind_ms and now - alert.told >= remind_ms:
            news.append(News("reminder", alert, alert.sending))
    for field, alert in known.items():
        if field in stands:
            continue
        calm = alert.calm + 1
        if alert.state == "pending" or (calm >= CALM_ROUNDS and not alert.told):
            stands[field] = None
            if alert.state == "firing":
                over.add(alert.rule)
            continue
        stands[field] = msgspec.structs.replace(alert, calm=calm)
        if calm >= CALM_ROUNDS:
            news.append(News("resolved", alert, alert.sending))
    return Turned(stands, news, frozenset(over))


def _lasts(one: Condition, known: Mapping[str, Alert], limits: Thresholds, now: int) -> Alert:
    made = Alert(
        rule=one.rule, function=one.function, state="pending", since=now if one.since is None else one.since,
        value=one.value, threshold=limit_of(limits, one.rule, one.function).text, words=one.words, run=one.run,
    )  # fmt: skip
    before = known.get(made.field)
    if before is not None:
        kept = {name: getattr(before, name) for name in ("state", "since", "told", "sending")}
        made = msgspec.structs.replace(made, **kept)
    if made.state == "pending" and now - made.since >= one.hold_ms:
        return msgspec.structs.replace(made, state="firing")
    return made
