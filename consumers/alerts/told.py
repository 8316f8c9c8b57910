"""Told: what the page, `GET /v1/alerts` and `bus alerts` say of alerts: each rule, what fires, how sending went."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import msgspec

from stepstream.bus.alerts.rules import RULES
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.alerts.kept import Alert, Delivery, Kept, kept
from stepstream.consumers.alerts.limits import limits_of

MOST_ALERTS = 200
"""How many alerts are told of a rule; of the others how many there are."""


class AlertTold(msgspec.Struct, frozen=True):
    """What fires, or is `pending`: it has to last first. `sent` is when it was told, Unix ms (null: not yet)."""

    function: str
    state: Literal["pending", "firing"]
    since: int
    value: str
    words: str
    run: str
    sent: int | None


class Own(msgspec.Struct, frozen=True):
    """The threshold of a rule for one function, and who says so."""

    function: str
    threshold: str
    by: Literal["settings", "set"]


class RuleTold(msgspec.Struct, frozen=True):
    """A rule: its threshold, who says so (`default`, `settings`, or it is `set` for all), and what fires of it.

    `state` is `firing`, `quiet`, `off`, or, while no process looks, `unwatched`; `since` when, Unix ms (null: it has
    never fired); `sent` is when something of it was sent last. Of `count` alerts the first are listed.
    """

    rule: str
    about: str
    threshold: str
    by: Literal["default", "settings", "set"]
    expects: str
    state: Literal["firing", "quiet", "off", "unwatched"]
    since: int | None
    sent: int | None
    count: int
    alerts: Sequence[AlertTold]
    of_functions: bool
    """Whether it is about functions."""
    functions: Sequence[Own]
    """The functions that have a threshold of their own."""


class AlertsTold(msgspec.Struct, frozen=True):
    """Where this process sends alerts (empty: nowhere), which process looks (empty: none), how sending went last.

    `unreadable` are fields of bus:alerts that were written by hand and say nothing.
    """

    destination: str
    by: str
    delivery: Delivery | None
    rules: Sequence[RuleTold]
    unreadable: Sequence[str]


async def alerts_told(wire: Wire) -> AlertsTold:
    """Return what there is to say of alerts."""
    stands, now = await kept(wire), await wire.clock()
    is_watched = stands.free > now
    return AlertsTold(
        wire.settings.alerts_shown, stands.by if is_watched else "", stands.delivery,
        _rules(wire, stands, is_watched=is_watched), stands.unreadable,
    )  # fmt: skip


def _rules(wire: Wire, stands: Kept, *, is_watched: bool) -> list[RuleTold]:
    limits, before = limits_of(wire.settings, stands), limits_of(wire.settings)
    several: dict[str, list[Alert]] = defaultdict(list)
    for alert in stands.alerts.values():
        several[alert.rule].append(alert)
    told: list[RuleTold] = []
    for name, rule in RULES.items():
        own = sorted(several[name], key=lambda one: (one.state != "firing", one.since, one.function))
        firing = [one.since for one in own if one.state == "firing"]
        state = "firing" if firing else "quiet"
        state = "off" if not limits[name].is_on else state if is_watched else "unwatched"
        by = "set" if name in stands.set else "default" if before[name].text == rule.default else "settings"
        told.append(
            RuleTold(
                name, rule.about, limits[name].text, by, rule.expects, state,
                min(firing) if firing else stands.ended.get(name), stands.sent.get(name), len(own),
                [_alert(one) for one in own[:MOST_ALERTS]], rule.of_functions,
                [
                    Own(key.partition(":")[2], limit.text, "set" if key in stands.set else "settings")
                    for key, limit in sorted(limits.items()) if key.startswith(f"{name}:")
                ],
            )
        )  # fmt: skip
    return told


def _alert(one: Alert) -> AlertTold:
    return AlertTold(one.function, one.state, one.since, one.value, one.words, one.run, one.told or None)
