"""Events: the envelope (`Event`), the payload's base (`EventData`), and the rules every event keeps.

A payload type has its event's name: `class OrderPaid(EventData, name="order/paid")`, or `@event("order/paid")` above a
dataclass, a TypedDict or a Pydantic model. In Redis a payload is plain JSON; a function's type decodes it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Literal, Protocol, cast, dataclass_transform

import msgspec
from msgspec import Raw
from typing_extensions import TypeVar

from stepstream.bus.encryption import sealing
from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.codec import NotJson
from stepstream.bus.values.durations import LONGEST_MS, milliseconds, moment_ms
from stepstream.bus.values.payload import is_payload

T = TypeVar("T")
E_co = TypeVar("E_co", covariant=True, default=Any)

MAX_EVENT_BYTES = 3 * 1024 * 1024
MAX_EVENTS = 5_000
MAX_NAME_BYTES = 512
MAX_ID_CHARS = 256
EARLIEST_MS = 315_532_800_000  # 1980-01-01
LATEST_MS = 4_102_444_800_000  # 2100-01-01
RESERVED = ("bus/", "inngest/")
_JSON_KINDS = {b"[": "a list", b'"': "text", b"t": "true or false", b"f": "true or false", b"n": "null"}
"""What JSON is, by its first letter; else it is an object, or a number."""
_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_HALF = re.compile(r"[\ud800-\udfff]")


@dataclass_transform(kw_only_default=False, field_specifiers=(msgspec.field,))
class _EventMeta(msgspec.StructMeta):
    """Takes `name=` and `redact=`: msgspec refuses unknown class arguments, and its `tag=` would be in the payload."""

    def __new__(
        mcs,
        cls: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        name: str = "",
        redact: Sequence[str] = (),
        rename: Literal["lower", "upper", "camel", "pascal", "kebab"] | None = None,
        **options: Any,
    ) -> Any:
        made: Any = super().__new__(mcs, cls, bases, namespace, rename=rename, **options)
        if name:
            made.event_name = _declared(name, cls)
        if redact:
            fields = dict(zip(made.__struct_fields__, made.__struct_encode_fields__, strict=True))
            made.redacted = _redacted(redact, cls, fields)
        return made


class EventData(msgspec.Struct, metaclass=_EventMeta):
    """The base of typed payloads: `class OrderPaid(EventData, name="order.paid", rename="camel")`.

    With `redact=["email", "card.number"]` these fields are shown to admins only, and are in no log or trace.
    """

    event_name: ClassVar[str] = ""
    redacted: ClassVar[tuple[str, ...]] = ()


def event(name: str, *, redact: Sequence[str] = ()) -> Callable[[type[T]], type[T]]:
    """Give a payload type its event's name: `@event("order/paid")` above a dataclass, TypedDict or Pydantic model.

    With `redact=["email", "card.number"]` these fields are shown to admins only, and are in no log or trace.
    """

    def named(kind: type[T]) -> type[T]:
        if not is_payload(kind):
            raise ConfigError(
                f"class {kind.__name__}: an event's data is an EventData, a dataclass, a TypedDict or a Pydantic model"
            )
        kind.event_name = _declared(name, kind.__name__)  # type: ignore[attr-defined]
        kind.redacted = _redacted(redact, kind.__name__)  # type: ignore[attr-defined]
        return kind

    return named


def event_name_of(kind: Any) -> str:
    """Return the name that a payload type has been given; empty when it has none."""
    return getattr(kind, "event_name", "")


_REDACTED = re.compile(r"[^\s.]+(\.[^\s.]+)*")


def _redacted(paths: Sequence[str], cls: str, fields: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the fields as they are called in JSON, where it is known which there are; ConfigError for what is none."""
    if isinstance(paths, str):
        raise ConfigError(f"class {cls}: redact must be a list of fields, got the text {paths!r}: write [{paths!r}]")
    found: list[str] = []
    for path in paths:
        if not isinstance(path, str) or not _REDACTED.fullmatch(path):  # type: ignore[redundant-expr]
            raise ConfigError(
                f"class {cls}: redact {path!r} is no field: write 'email', or 'card.number' inside of one"
            )
        first, dot, rest = path.partition(".")
        if fields is not None and first not in fields and first not in fields.values():
            raise ConfigError(f"class {cls}: redact {path!r}: it has no field {first!r}, but {', '.join(fields)}")
        found.append((fields or {}).get(first, first) + dot + rest)
    return tuple(found)


def _declared(name: str, cls: str) -> str:
    try:
        check_name(name)
    except EventInvalid as error:
        raise ConfigError(f"class {cls}: name {name!r} {error.reason}") from None
    return name


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Model(Protocol):
    def model_dump_json(self) -> str: ...


Payload = EventData | _Dataclass | _Model
"""An event's data that has its event's name: an EventData, or a dataclass or Pydantic model below `@event(…)`."""


class Event(msgspec.Struct, Generic[E_co], frozen=True):
    """What happened: an id, a name, typed data, `ts` (Unix ms, the sender's) and the schema version `v`."""

    id: str
    name: str
    data: E_co
    ts: int
    v: str | None = None


class RawEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as it is stored: `data` is JSON text that nobody has decoded yet, and may be sealed."""

    id: str
    name: str
    data: Raw
    ts: int
    v: str | None = None
    batch: "list[RawEvent] | None" = None
    """All events of a batch, of which this is the first."""
    trace: str | None = None
    """The `traceparent` of the span that has sent it (bus/observe/traceparent.py); no function sees it."""

    def several(self) -> list["RawEvent"]:
        """Return the events of a batch; of another, itself."""
        return self.batch or [self]

    def opened(self) -> "RawEvent":
        """Return the event, and those of its batch, with data that is not sealed; CannotOpen."""
        try:
            batch = self.batch and [one.opened() for one in self.batch]
            plain = sealing.opened_raw(self.data)
        except sealing.CannotOpen as error:
            raise sealing.CannotOpen(f"the data of event {self.name} ({self.id}): {error}") from error
        return self if plain is self.data and not batch else msgspec.structs.replace(self, data=plain, batch=batch)

    def typed(self, kind: type[Any] | None) -> Event[Any]:
        """Return the event with its data as `kind` (None: plain values).

        EventInvalid with the path if it fits not, CannotOpen for data that this process cannot open.
        """
        try:
            plain = sealing.opened_raw(self.data)
            data = codec.decode(plain) if kind is None else codec.decode_as(plain, kind)
        except msgspec.DecodeError as error:
            raise invalid(error, "data") from None
        return Event(self.id, self.name, data, self.ts, self.v)

    def plain(self) -> dict[str, Any]:
        """Return the event as plain values: what expressions see as `event`. CannotOpen as `typed`."""
        data = codec.decode(sealing.opened_raw(self.data))
        return {"id": self.id, "name": self.name, "data": data, "ts": self.ts, "v": self.v}


class NewEvent(msgspec.Struct, frozen=True):
    """An event to send, when it needs more than its data: a name without a type, an id of its own, a time.

    `ts` is when it happened, Unix ms. With `delay` (seconds, "10m", a timedelta) or `at` (an aware datetime) it is
    published then: until that moment nobody sees it, and it can be taken back.
    """

    event: str | Payload
    data: Mapping[str, Any] | Payload | None = None
    id: str | None = None
    ts: int | None = None
    v: str | None = None
    delay: float | str | timedelta | None = None
    at: datetime | None = None


Sendable = Payload | NewEvent | Mapping[str, Any]
"""An event to send: a payload that has its event's name, a NewEvent, or `{"name": "order/paid", "data": {…}}`."""


class Outgoing(msgspec.Struct, frozen=True):
    """An event on its way to the store. `own_id` is true when the caller chose the id: then it is idempotent.

    `fits` is the payload type that its data has been checked against: that of the object that was sent.
    It is published after `delay` (ms) or `at` (Unix ms); at once when both are 0.
    `internal` is what the SDK that sent it calls it, which is its id too where its sender gave it none: an SDK makes
    the same ones when it repeats a request. `trace` is the `traceparent` of the span that sends it.
    """

    id: str
    name: str
    data: bytes
    own_id: bool = False
    ts: int | None = None
    v: str | None = None
    fits: type[Any] | None = None
    delay: int = 0
    at: int = 0
    internal: str = ""
    trace: str | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether it is kept for a time before it is published."""
        return self.delay > 0 or self.at > 0

    def misfit(self, kinds: Sequence[type[Any]]) -> "EventInvalid | None":
        """Return why its data fits none of a name's types; None when it fits one, or there are none."""
        return None if self.fits in kinds else misfit(self.data, kinds)


def as_new(event: object) -> NewEvent:
    """Return what somebody sends as a NewEvent; EventInvalid for what is no event."""
    if isinstance(event, NewEvent):
        return event
    if isinstance(event, Mapping):
        return _of_mapping(cast("Mapping[Any, Any]", event))
    if not is_payload(type(event)):
        raise EventInvalid(
            f"is missing: a {type(event).__name__} is not an event; send a payload that has a name, a NewEvent, "
            f"{_AS_MAPPING}, or a list of them",
            field="name",
        )
    return NewEvent(cast("Any", event))


_AS_MAPPING = '{"name": "order/paid", "data": {…}}'
_FIELDS = ("name", "data", "id", "ts", "v", "delay", "at")


def _of_mapping(fields: Mapping[Any, Any]) -> NewEvent:
    """Return an event written as a dict, the form that POST /e takes."""
    if "name" not in fields:
        raise EventInvalid(
            f"is missing: a dict is a whole event, {_AS_MAPPING}; data alone is sent with its name before it",
            field="name",
        )
    _check_text(fields["name"], "name")
    for key in fields:
        if key not in _FIELDS:
            raise EventInvalid(f"is no field of an event, which has {', '.join(_FIELDS)}", field=str(key)[:80])
    given: list[Any] = [fields.get(field) for field in _FIELDS]
    return NewEvent(*given)


def check_name(name: str) -> None:
    """Refuse an event name that is no text, empty, too long, reserved, or not printable."""
    _check_text(name, "name")
    if not name:
        raise EventInvalid("is empty", field="name")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise EventInvalid(f"is longer than {MAX_NAME_BYTES} bytes", field="name")
    if _UNPRINTABLE.search(name) or name != name.strip():
        raise EventInvalid("has control characters or outer blanks", field="name")
    if name.lower().startswith(RESERVED):
        raise EventInvalid("is reserved: names must not begin with bus/ or inngest/", field="name")


def _check_text(value: object, field: str) -> None:
    if not isinstance(value, str):
        raise EventInvalid(f"must be text, got {type(value).__name__}", field=field)
    if _HALF.search(value):
        raise EventInvalid("has half of a surrogate pair, which is no character", field=field)


def check_event_id(event_id: str) -> None:
    """Refuse a caller's event id that is no text, empty, too long or not printable."""
    _check_text(event_id, "id")
    if not event_id:
        raise EventInvalid("is empty; leave it out to have one made", field="id")
    if len(event_id) > MAX_ID_CHARS:
        raise EventInvalid(f"is longer than {MAX_ID_CHARS} characters", field="id")
    if _UNPRINTABLE.search(event_id):
        raise EventInvalid("has control characters", field="id")


def check_version(version: str) -> None:
    """Refuse a schema version that is no text."""
    _check_text(version, "v")


def check_ts(ts: int) -> None:
    """Refuse a time outside 1980 … 2100, in Unix milliseconds."""
    if isinstance(ts, bool) or not isinstance(ts, int):  # type: ignore[redundant-expr]
        raise EventInvalid(f"must be Unix milliseconds, got {type(ts).__name__}", field="ts")
    if not EARLIEST_MS <= ts <= LATEST_MS:
        raise EventInvalid(f"must be Unix milliseconds between 1980 and 2100, got {ts}", field="ts")


def moment_of(text: str) -> datetime:
    """Return a time that is written as RFC 3339 has it; EventInvalid for a text that is not."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise EventInvalid(f"is not a time: {text[:60]!r}; write 2026-12-01T09:00:00Z", field="at") from None


def checked_time(delay: float | str | timedelta | None, at: datetime | None) -> tuple[int, int]:
    """Return after how many ms, or when (Unix ms), an event is to be published; EventInvalid names the field."""
    if delay is not None and at is not None:
        raise EventInvalid("is given beside delay; give one of them", field="at")
    if at is not None and not isinstance(at, datetime):  # type: ignore[redundant-expr]
        raise EventInvalid(f"must be a datetime, got {type(at).__name__}", field="at")
    if delay is not None and not isinstance(delay, (int, float, str, timedelta)):  # type: ignore[redundant-expr]
        raise EventInvalid(
            f"must be seconds, text like '10m' or a timedelta, got {type(delay).__name__}", field="delay"
        )
    try:
        if delay is not None:
            return milliseconds(delay, "it"), 0
        moment = 0 if at is None else moment_ms(at, "it")
    except ConfigError as error:
        raise EventInvalid(str(error).removeprefix("it "), field="at" if delay is None else "delay") from None
    if moment - now_ms() > LONGEST_MS:
        raise EventInvalid(f"{at} is more than 366 days ahead", field="at")
    return 0, moment


def invalid(error: msgspec.DecodeError, root: str) -> EventInvalid:
    """Return what is told of text that is not JSON, or does not fit its type: the reason, and the field as a path."""
    reason, _, path = str(error).replace(" - at `key` in `$", " as a key - at `$").partition(" - at `$")
    field = f"{root}{path.rstrip('`')}"
    missing = _MISSING.fullmatch(reason)
    if missing is not None:
        reason, field = "is missing", f"{field}.{missing[1]}"
    return EventInvalid(reason, field=field.removeprefix("."))


def misfit(data: bytes, kinds: Sequence[type[Any]]) -> EventInvalid | None:
    """Return why the data of an event fits none of its types, told of the first one; None when it fits one."""
    found: EventInvalid | None = None
    for kind in kinds:
        error = codec.misfit(data, kind)
        if error is None:
            return None
        found = found or invalid(error, "data")
    return found


def as_data(value: object) -> bytes:
    """Return a value as the data of an event: a JSON object of at most 3 MiB; EventInvalid names the field."""
    data = as_json(value)
    if not data.startswith(b"{"):
        got = _JSON_KINDS.get(data[:1], "a number") if isinstance(value, Raw) else type(value).__name__
        raise EventInvalid(f"must be an object, got {got}", field="data")
    return data


def as_json(value: object) -> bytes:
    """Return a value as JSON of at most 3 MiB; EventInvalid names the field of what JSON cannot hold."""
    try:
        data = codec.encode(value)
    except NotJson as error:
        if not error.path:
            raise EventInvalid(f"is not JSON: {error}", field="data") from None
        path = error.path if error.path.startswith("[") else f".{error.path}"
        raise EventInvalid(error.reason, field=f"data{path}") from None
    check_data(data)
    return data


def check_data(data: bytes) -> None:
    """Refuse data over 3 MiB, and data that has the mark of encrypted data in it."""
    if len(data) > MAX_EVENT_BYTES:
        raise EventInvalid(f"is {len(data)} bytes; an event holds at most {MAX_EVENT_BYTES}", field="data", status=413)
    try:
        sealing.refuse_mark(data)
    except sealing.Reserved as error:
        raise EventInvalid(str(error), field="data") from None
