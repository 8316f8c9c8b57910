"""Message: alerts in words, as JSON, and as Slack understands them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.consumers.alerts.turning import News

MOST_TOLD = 50
"""How many alerts one message names; it tells how many there are."""
_WORD = {"firing": "FIRING", "reminder": "STILL FIRING", "resolved": "RESOLVED"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Told(msgspec.Struct, frozen=True):
    """An alert as a program gets it. `since` is Unix ms; `id` is the same when the same is said again."""

    id: str
    rule: str
    function: str
    state: str
    reminder: bool
    again: bool
    """Whether a process that has died since may have sent this already."""
    since: int
    value: str
    threshold: str
    text: str
    link: str
    run: str


class Message(msgspec.Struct, frozen=True):
    """What is sent at once: a text of all, and each alert, those that fire first."""

    source: str
    text: str
    link: str
    count: int
    alerts: Sequence[Told]
    test: bool = False

    def body(self, *, slack: bool) -> bytes:
        """Return it as it is sent."""
        content: Mapping[str, Any] | Message = {"text": self.text.translate(_ESCAPES)} if slack else self
        return codec.encode(content)


def message(news: Sequence[News], configured: Settings, now: int) -> Message:
    """Return what is said of a round, in one message."""
    ordered = sorted(news, key=lambda one: (one.what == "resolved", one.alert.rule, one.alert.function))
    told = [_told(one, configured, now) for one in ordered[:MOST_TOLD]]
    lines = [f"{one.text} {one.link}".rstrip() for one in told]
    if len(news) > 1:
        counts = Counter("resolved" if one.what == "resolved" else "firing" for one in news)
        lines.insert(0, f"{len(news)} alerts: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
    if len(news) > MOST_TOLD:
        lines.append(f"and {len(news) - MOST_TOLD} more: bus alerts")
    return Message("stepstream", "\n".join(lines), _link(configured, "alerts"), len(news), told)


def trial(by: str, configured: Settings) -> Message:
    """Return a message by which somebody tries whether alerts arrive."""
    text = f"TEST Stepstream: {by or 'somebody'} tries whether alerts arrive here; nothing is wrong"
    return Message("stepstream", text, _link(configured, "alerts"), 0, [], test=True)


def _told(one: News, configured: Settings, now: int) -> Told:
    alert = one.alert
    state = "resolved" if one.what == "resolved" else "firing"
    lasted_ms = max(0, now - alert.since)
    lasted = in_words(lasted_ms)
    about = f"{alert.rule} {alert.function}".rstrip()
    if one.what == "resolved":
        text = f"{_WORD[one.what]} {about}: over, after {lasted}"
    else:
        for_long = f"for {lasted}; " if lasted_ms else ""  # what is found as it begins has not lasted
        text = f"{_WORD[one.what]} {about}: {alert.words} ({for_long}threshold {alert.threshold})"
    path = f"functions/{quote(alert.function, safe='')}" if alert.function else "alerts"
    since = f"{alert.told}" if one.what == "reminder" else f"{alert.since}"
    return Told(
        f"{about}|{one.what}|{since}", alert.rule, alert.function, state, one.what == "reminder", one.again,
        alert.since, alert.value, alert.threshold, text, _link(configured, path), alert.run,
    )  # fmt: skip


def _link(configured: Settings, path: str) -> str:
    return f"{configured.public_url.rstrip('/')}/{path}" if configured.public_url else ""
