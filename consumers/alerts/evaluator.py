"""Evaluator: looks at the rules again and again, as one of all processes that may, and sends what is to be said.

Each that knows where alerts are sent asks every BUS_ALERT_EVERY whether it may begin the next round. Who has one, sees,
writes that it sends, sends, and writes what came of it; each write is refused when another has begun a round meanwhile.
So what two processes see is said once, and what one was about to say when it died is said by the next, maybe again.
"""

import random
import time
from collections.abc import Sequence

import msgspec

from stepstream.bus.alerts.rules import Threshold
from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.connection.trouble import Notice
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.alerts.kept import (
    DELIVERY,
    Alert,
    Change,
    Delivery,
    Kept,
    change_of,
    ended,
    kept,
    put,
    sent,
    take,
    tell_rolled_back,
)
from stepstream.consumers.alerts.conditions import conditions
from stepstream.consumers.alerts.limits import limits_of
from stepstream.consumers.alerts.message import message
from stepstream.consumers.alerts.sending import SENT_WITHIN_S, Outcome, send
from stepstream.consumers.alerts.turning import News, Turned, What, turned

_AGAIN_MS, _LONGEST_AGAIN_MS = 15_000, 300_000
"""How soon it is tried again to send what could not be sent: it doubles each time, up to five minutes."""


class Evaluator:
    """Looks for one process. `by` is its name, which no other has; `tell` reports what it cannot do.

    With `alone` it also says by itself, from this process's own view, that Redis does not serve it: a site does.
    """

    def __init__(self, wire: Wire, by: str, tell: Notice, *, alone: bool = False) -> None:
        self._wire = wire
        self._by = by
        self._tell = tell
        self._configured = wire.settings
        self._highest = 0
        self._failed = ""
        self._away = _Away(wire.settings, tell) if alone else None
        self._limits = limits_of(wire.settings)
        # What it does within a round is over before another may begin the next one.
        self._lease_ms = max(2 * wire.settings.alert_every_ms, 3 * wire.settings.lease_ms)

    async def once(self) -> float:
        """Begin a round if nobody else looks; return in how many seconds to ask again."""
        try:
            await self._look()
        except StoreUnavailable as error:
            if self._away is not None:
                await self._away.lasts(self._limits["unreachable"], str(error))
            raise
        if self._away is not None:
            await self._away.over()
        return self._configured.alert_every_ms / 1_000 * random.uniform(0.8, 1.2)

    async def _look(self) -> None:
        number, is_ours = await take(self._wire, self._by, self._lease_ms)
        if number < self._highest:
            await tell_rolled_back(self._wire, self._highest, number)
        self._highest = number
        if is_ours:
            await self._round(number)

    async def _round(self, number: int) -> None:
        half_s = self._lease_ms / 2_000
        stands = await self._wire.within(half_s, kept(self._wire))
        self._limits = limits_of(self._configured, stands)
        now, found = await self._wire.within(half_s, conditions(self._wire, self._limits, stands.rolled_back))
        made = turned(stands.alerts, found, self._limits, now, self._configured.alert_remind_ms)
        waits = stands.delivery is not None and stands.delivery.next > now
        news = () if waits else made.news
        seen_at = time.monotonic()
        if not await self._put(number, _seen(stands, made, news, now)) or not news:
            return
        if time.monotonic() - seen_at > half_s:  # it was stopped meanwhile: another may have begun a round
            return
        outcome = await send(self._configured, message(news, self._configured, now), min(SENT_WITHIN_S, half_s))
        self._note(outcome)
        await self._put(number, _sent(news, outcome, _delivery(stands, outcome, now), now))

    async def _put(self, number: int, changes: Sequence[Change]) -> bool:
        return await put(self._wire, self._by, number, self._lease_ms, changes)

    def _note(self, outcome: Outcome) -> None:
        """Log that alerts are not sent, once for each reason, and that they are again."""
        if outcome.ok and self._failed:
            self._tell("alerts are sent again", destination=self._configured.alerts_shown)
        elif not outcome.ok and outcome.words != self._failed:
            self._tell("alerts could not be sent, and are tried again", why=outcome.words)
        self._failed = "" if outcome.ok else outcome.words


def _seen(stands: Kept, made: Turned, news: Sequence[News], now: int) -> list[Change]:
    """Return what is written before sending: what stands, and of what is sent that it is."""
    sending = {one.alert.field for one in news}
    changes = [ended(rule, now) for rule in sorted(made.over)]
    for field, alert in made.stands.items():
        if alert is None:
            changes.append(Change(field, b""))
        else:
            told = msgspec.structs.replace(alert, sending=alert.sending or field in sending)
            if told != stands.alerts.get(field):
                changes.append(change_of(told))
    return changes


def _sent(news: Sequence[News], outcome: Outcome, delivery: Delivery, now: int) -> list[Change]:
    """Return what is written after sending."""
    changes = [Change(DELIVERY, codec.encode(delivery))]
    for one in news:
        alert: Alert = one.alert
        if not outcome.ok:
            changes.append(change_of(msgspec.structs.replace(alert, sending=outcome.is_unknown)))
        elif one.what == "resolved":
            changes += [Change(alert.field, b""), ended(alert.rule, now)]
        else:
            changes.append(change_of(msgspec.structs.replace(alert, told=now, sending=False)))
    if outcome.ok:
        changes += [sent(rule, now) for rule in sorted({one.alert.rule for one in news})]
    return changes


def _delivery(stands: Kept, outcome: Outcome, now: int) -> Delivery:
    if outcome.ok:
        return Delivery(now, ok=True, words=outcome.words)
    before = stands.delivery.failures if stands.delivery is not None else 0
    wait = min(_LONGEST_AGAIN_MS, _AGAIN_MS * 2 ** min(before, 10))
    return Delivery(now, ok=False, words=outcome.words, failures=before + 1, next=now + wait)


class _Away:
    """What one process says by itself while Redis does not serve it: there all else about alerts is."""

    def __init__(self, configured: Settings, tell: Notice) -> None:
        self._configured = configured
        self._tell = tell
        self._since: int | None = None
        self._began = 0.0
        self._next = 0.0
        self._failures = 0
        self._is_told = False

    async def lasts(self, limit: Threshold, why: str) -> None:
        """Redis does not serve: say so once when that has lasted, and try again where that cannot be sent."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._began = now_ms(), now
        if not limit.is_on or self._is_told or now - self._began < limit.ms / 1_000 or now < self._next:
            return
        self._is_told = await self._say("firing", limit, why)

    async def over(self) -> None:
        """Redis serves."""
        if self._is_told and time.monotonic() >= self._next:
            self._is_told = not await self._say("resolved", Threshold(""), "")
        if not self._is_told:
            self._since, self._failures, self._next = None, 0, 0.0

    async def _say(self, what: What, limit: Threshold, why: str) -> bool:
        assert self._since is not None
        value = in_words(max(0, now_ms() - self._since))
        words = f"Redis does not serve this site: {why}"
        alert = Alert(
            rule="unreachable", function="", state="firing", since=self._since, value=value, threshold=limit.text,
            words=words,
        )  # fmt: skip
        outcome = await send(self._configured, message([News(what, alert)], self._configured, now_ms()))
        if not outcome.ok:
            self._failures += 1
            again_s = min(_LONGEST_AGAIN_MS, _AGAIN_MS * 2 ** min(self._failures - 1, 10)) / 1_000
            self._next = time.monotonic() + again_s
            self._tell("that Redis does not serve could not be sent", why=outcome.words)
        return outcome.ok
