"""Kept: what `bus:alerts` holds: what fires since when, how sending went, and which thresholds people have set.

One process looks whether there are alerts, and it alone writes them, in rounds: `take` begins one unless another
process looks, `put` writes what was seen in it unless another round has begun. Each round has the next number, so one
that is lower than one that was seen tells that Redis has lost what was written since.
"""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec

from stepstream.bus.alerts.rules import RULES, Rule, Threshold, rule_of, threshold
from stepstream.bus.errors import BadRequest, ConfigError, NotFound, WrongType
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.streams import Fields, fields_of
from stepstream.bus.wire.wire import Wire

T = TypeVar("T")

_ALERT, _SET, _ENDED, _SENT = "alert", "set", "ended", "sent"
DELIVERY, ROLLED_BACK = "delivery", "rolled_back"
_PATIENCE_S = 2.0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule is about, of one function (empty: of none): `pending` until it has lasted, then `firing`.

    All moments are Unix ms. It is no longer seen for `calm` rounds; `told` is when it was last sent (0: not yet). While
    it is sent it is `sending`: where that still stands in the next round nobody knows whether it has been sent.
    """

    rule: str
    function: str
    state: Literal["pending", "firing"]
    since: int
    value: str
    threshold: str
    words: str
    run: str = ""
    calm: int = 0
    told: int = 0
    sending: bool = False

    @property
    def field(self) -> str:
        """The field under which it stands."""
        return f"{_ALERT} {self.rule} {self.function}".rstrip()


class Delivery(msgspec.Struct, frozen=True):
    """How sending went last: at which moment, whether it arrived, what was answered, in words without secrets.

    After so many `failures` in a row it is not tried before `next`.
    """

    at: int
    ok: bool
    words: str
    failures: int = 0
    next: int = 0


class RolledBack(msgspec.Struct, frozen=True):
    """When it was seen that Redis has lost what was written: round `seen` had been begun, and `found` is the last."""

    at: int
    seen: int
    found: int


class Kept(msgspec.Struct, frozen=True):
    """All of it. `free` is until when somebody looks (`by`), Unix ms; `set` are the thresholds that people have set.

    `ended` and `sent` tell of a rule when its last alert was over, and when one was last sent.
    """

    by: str
    free: int
    round: int
    alerts: Mapping[str, Alert]
    """By the field under which each stands."""
    delivery: Delivery | None
    rolled_back: RolledBack | None
    set: Mapping[str, Threshold]
    """By name, as `waiting` and `waiting:shop-report`."""
    unreadable: tuple[str, ...]
    """The fields that were written by hand and say nothing: they are passed over."""
    ended: Mapping[str, int]
    sent: Mapping[str, int]


@contextlib.contextmanager
def _named() -> Generator[None]:
    """Name the key where another type of value has its name: the server does not."""
    try:
        yield
    except WrongType:
        raise WrongType(f"{keys.alerts()} holds another kind of value than the hash that alerts are kept in") from None


_TAKE = script(__file__, "alerts_take")


class Change(NamedTuple):
    """A field and what is to stand there; empty: nothing."""

    field: str
    value: bytes


_PUT = script(__file__, "alerts_put", item=Change)


class Round(NamedTuple):
    """A round: its number (or that of another's), and whether it is the caller's."""

    number: int
    is_ours: bool


async def take(wire: Wire, by: str, ms: int) -> Round:
    """Begin a round for so many ms, unless another process looks."""
    with _named():
        number, is_ours = await wire.script(_TAKE, [keys.alerts()], by, ms)
    return Round(int(number), bool(is_ours))


async def put(wire: Wire, by: str, number: int, ms: int, changes: Sequence[Change]) -> bool:
    """Write what was seen in a round, and have it for so many ms more; return whether it is still the caller's."""
    nothing: Sequence[Change] = ()
    for part in [*parts(changes, 2)] or [nothing]:
        flat = [word for one in part for word in one]
        with _named():
            if not await wire.script(_PUT, [keys.alerts()], by, number, ms, *flat):
                return False
    return True


async def kept(wire: Wire) -> Kept:
    """Return what is kept of alerts."""
    fields = fields_of(await wire.load("HGETALL", keys.alerts(), patience=_PATIENCE_S))
    alerts, set_, bad = dict[str, Alert](), dict[str, Threshold](), list[str]()
    moments: dict[str, dict[str, int]] = {_ENDED: {}, _SENT: {}}
    for field, raw in sorted((codec.text(name), raw) for name, raw in fields.items()):
        word, _, rest = field.partition(" ")
        if word == _ALERT:
            alert = codec.stored_as(raw, Alert)
            if alert is None or alert.field != field or alert.rule not in RULES:
                bad.append(field)
            else:
                alerts[field] = alert
        elif word == _SET:
            found = _threshold(rest, codec.text(raw))
            if found is None:
                bad.append(field)
            else:
                set_[rest] = found
        elif word in moments:
            moments[word][rest] = codec.whole(raw)
    by, free, number = (fields.get(name, b"") for name in (b"by", b"free", b"round"))
    return Kept(
        codec.text(by), codec.whole(free), codec.whole(number), alerts,
        _json(fields, DELIVERY, Delivery), _json(fields, ROLLED_BACK, RolledBack), set_, tuple(bad),
        moments[_ENDED], moments[_SENT],
    )  # fmt: skip


def _json(fields: Fields, name: str, kind: type[T]) -> T | None:
    return codec.stored_as(fields.get(name.encode()), kind)


def _threshold(name: str, text: str) -> Threshold | None:
    try:
        return threshold(rule_of(name, ""), text, name)
    except ConfigError:
        return None


def change_of(alert: Alert) -> Change:
    """Return the change by which an alert stands."""
    return Change(alert.field, codec.encode(alert))


def ended(rule: str, at: int) -> Change:
    """Return the change by which the last alert of a rule is over."""
    return Change(f"{_ENDED} {rule}", b"%d" % at)


def sent(rule: str, at: int) -> Change:
    """Return the change by which an alert of a rule was sent."""
    return Change(f"{_SENT} {rule}", b"%d" % at)


async def tell_rolled_back(wire: Wire, seen: int, found: int) -> None:
    """Note that Redis has lost what was written: who looks next tells of it."""
    told = RolledBack(await wire.clock(), seen, found)
    with _named():
        await wire.call("HSET", keys.alerts(), ROLLED_BACK, codec.encode(told))


class RuleNotFound(NotFound):
    """No alert has a rule of this name."""

    code = "rule_not_found"


async def set_threshold(wire: Wire, name: str, text: str) -> Threshold:
    """Set the threshold of a rule (`waiting`, `waiting:shop-report`) for all processes, in place of their settings.

    RuleNotFound, and BadRequest for what is no threshold of it.
    """
    found = _rule(name)
    try:
        made = threshold(found, text, "the threshold")
    except ConfigError as error:
        raise BadRequest(str(error)) from None
    with _named():
        await wire.call("HSET", keys.alerts(), f"{_SET} {name}", made.text)
    return made


async def reset_threshold(wire: Wire, name: str) -> bool:
    """Let the threshold of a rule be that of the settings again; return whether it was set. RuleNotFound."""
    _rule(name)
    with _named():
        return bool(await wire.call("HDEL", keys.alerts(), f"{_SET} {name}"))


def _rule(name: str) -> Rule:
    try:
        return rule_of(name, "alerts")
    except ConfigError as error:
        raise RuleNotFound(str(error)) from None
