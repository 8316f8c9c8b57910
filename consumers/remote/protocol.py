"""Protocol: what an app's SDK answers, read: a result, an error, or operations (steps that it has run or found).

The wire is that of the official Inngest SDKs; unknown fields are ignored, for they send many.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Raw

from stepstream.bus.encryption.sealing import Reserved, refuse_mark
from stepstream.bus.errors import EventInvalid
from stepstream.bus.values import codec
from stepstream.bus.values.durations import LONGEST_MS, milliseconds, utc_ms
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.turn.step_ids import MAX_STEP_ID
from stepstream.producers.strict import parse, parse_as

SDK_HEADER = "x-inngest-sdk"
NO_RETRY_HEADER = "x-inngest-no-retry"
VERSION_HEADER = "x-inngest-req-version"
RUN_HEADER = "x-run-id"
STEP_HEADER = "x-inngest-step-id"
NEXT = "step"
"""The step id of a call that asks what is next."""
AFTER_HEADER = "x-stepstream-retry-after-ms"
"""In how many ms our own applications ask to be tried again; SDKs say Retry-After, which is in seconds."""
OWN = "stepstream-py:"
"""What our own applications begin with (consumers/served). They have Redis, and look up how a run stands."""
RACE = "race"
"""The parallelMode of an operation after whose end the app wants to be asked at once, whatever else is under way."""
NOT_FOUND = "StepNotFound"
"""What our own applications answer when they are called for a step that their code does not reach any more."""
CODE_CHANGED = "code_changed"
"""The error of our own applications whose code does not call `steps`, which the run has begun."""
PLANNING = 2
"""From this version of the protocol on an app plans parallel steps: it is asked again when all of them have ended."""
MAX_OPS = 1_000
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_NOTHING = Raw(b"null")
_LONGEST_TEXT = 8_000
_LONGEST_ORIGINAL = 4 * _LONGEST_TEXT
"""A larger error object is kept as name, message and stack only."""
_HASH = re.compile(r"[0-9a-f]{40}")
RAN = frozenset({"Step", "StepRun", "StepFailed"})
"""Operations that are steps which have come to their end in the app."""
_NO_STEP = frozenset({"None", "RunComplete", "DiscoveryRequest"})
"""Operations that are about no step."""
_LONGEST_VERSION = 4
_LONGEST_SHOWN = 200
_LONGEST_AFTER = 15
_SHORT_AFTER = 7
"""A Retry-After of so many characters or fewer is seconds; a longer one is a moment."""


class BadAnswer(Exception):
    """What came back is not an SDK's answer; the next call may get one."""


class _Userland(msgspec.Struct, frozen=True):
    """The id that the author gave a step, and which of its repetitions this is."""

    id: str = ""
    index: int | None = None


class _Timing(msgspec.Struct, frozen=True):
    """When the app began a step, and how long it took, ns."""

    a: float = 0
    b: float = 0


class Op(msgspec.Struct, frozen=True, rename={"display_name": "displayName"}):
    """One operation: a step that the app has run, or one it has found and that is to be done for it."""

    op: str
    id: str
    name: str | None = None
    display_name: str | None = None
    opts: Raw = _NOTHING
    data: Raw = _NOTHING
    error: Raw = _NOTHING
    userland: _Userland | None = None
    timing: _Timing | None = None

    def __post_init__(self) -> None:
        """Refuse an id that no SDK makes: under it the step would be kept."""
        if self.op not in _NO_STEP and not _HASH.fullmatch(self.id):
            raise ValueError(f"the id of {self.op[:40]} must be the SHA-1 of a step's id in hex, got {self.id[:80]!r}")

    @property
    def took_ms(self) -> int:
        """How long the app ran the step, ms; 0 where it does not say."""
        return round(max(0, min(self.timing.b / 1_000_000, LONGEST_MS))) if self.timing is not None else 0

    @property
    def step(self) -> str:
        """The step's id as it is stored: the author's, with its number, where that gives this hash; else the hash."""
        given = self.userland or _Userland()
        numbered = f"{given.id}:{given.index}" if given.index else given.id
        for text in (numbered, given.id, self.display_name, self.name):
            if text and len(text) <= MAX_STEP_ID and hashed(text) == self.id:
                return text
        return self.id

    def options(self, kind: type[Any]) -> Any:
        """Return its options; BadAnswer when they are not what this operation takes."""
        try:
            return kind() if bytes(self.opts) == b"null" else codec.decode_as(self.opts, kind)
        except msgspec.MsgspecError as error:
            raise BadAnswer(f"options of {self.op} '{self.step}': {error}") from None


class Answer(msgspec.Struct, frozen=True):
    """What an app answered: a status, headers in lower case, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_sdk(self) -> bool:
        """Whether an SDK wrote it."""
        return SDK_HEADER in self.headers

    @property
    def is_final(self) -> bool:
        """Whether the app says that trying again cannot mend it."""
        return self.headers.get(NO_RETRY_HEADER) == "true"

    @property
    def version(self) -> int | None:
        """The version of the protocol that the app speaks."""
        text = self.headers.get(VERSION_HEADER, "")
        return int(text) if text.isdecimal() and len(text) <= _LONGEST_VERSION else None

    def asked_ms(self, now_ms: int) -> int | None:
        """Return how long the app asks to wait before the next attempt, ms: between 1 s and 24 h, unless it is ours."""
        own = self.headers.get(AFTER_HEADER, "")
        if own.isdecimal() and len(own) <= _LONGEST_AFTER:
            return min(int(own), LONGEST_MS)
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        try:
            wait = int(text) * 1_000 if len(text) <= _SHORT_AFTER else moment_of(text) - now_ms
        except ValueError:
            return None
        return max(1_000, min(wait, 86_400_000))


class _Streamed(msgspec.Struct):
    """The end of an answer that was streamed: the answer proper."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    body: Raw = _NOTHING
    headers: dict[str, Any] = {}


def unwrapped(answer: Answer) -> Answer:
    """Return the answer inside one that was streamed (status 201); any other as it is."""
    if answer.status != 201:
        return answer
    try:
        inner = codec.decode_as(answer.body.strip(), _Streamed)
        body = bytes(inner.body)
        if body[:1] == b'"':  # encoded twice
            body = codec.decode_as(body, str).encode()
    except msgspec.MsgspecError as error:
        raise BadAnswer(f"a streamed answer (201) ends in no answer: {error}") from None
    headers = {name.lower(): str(value) for name, value in inner.headers.items()}
    return Answer(inner.status, {**answer.headers, **headers}, body)


def ops_of(answer: Answer) -> list[Op]:
    """Return the operations of a 206; BadAnswer when it has none that can be read."""
    try:
        text = answer.body.strip()
        ops = parse_as(text, list[Op]) if text[:1] == b"[" else [parse_as(text, Op)]
    except EventInvalid as error:
        raise BadAnswer(f"206 without operations: {error}") from None
    if len(ops) > MAX_OPS:
        raise BadAnswer(f"{len(ops)} operations in one answer; at most {MAX_OPS}")
    return ops


class _Error(msgspec.Struct):
    """An error as SDKs write it; what is missing or of another type is read around."""

    name: Any = None
    message: Any = None
    stack: Any = None
    code: Any = None
    error: Any = None


def output_of(answer: Answer) -> bytes:
    """Return what the app's function returned, JSON; BadAnswer when it is not JSON."""
    text = answer.body.strip() or b"null"
    try:
        parse(text)
        return refuse_mark(text)
    except EventInvalid as error:
        raise BadAnswer(f"200 with a result that is not JSON: {error}") from None
    except Reserved as error:
        raise BadAnswer(f"200 with a result that {error}") from None


def failure_of(raw: bytes, otherwise: str) -> Failure:
    """Return an error as it is stored; what is not an error object is kept whole, under the name of a fatal error."""
    try:
        told = codec.decode_as(raw, _Error)
    except msgspec.MsgspecError:
        told = None
    if told is None or not (told.name or told.message):
        text = raw[:_LONGEST_TEXT].decode(errors="replace").strip()
        about = next((str(one) for one in (told and (told.error, told.code)) or () if one), text)
        return Failure("Server returned a fatal error", f"{otherwise}: {about}" if about else otherwise)
    return Failure(
        str(told.name or "Error")[:200],
        str(told.message or "")[:_LONGEST_TEXT],
        str(told.stack or "")[-_LONGEST_TEXT:],
        original=raw.decode() if _can_be_told_again(raw) else "",
    )


def _can_be_told_again(raw: bytes) -> bool:
    """Whether an error object can be kept as it is: it becomes part of later calls, and others read it."""
    try:
        return len(raw) <= _LONGEST_ORIGINAL and parse(raw) is not None
    except EventInvalid:
        return False


def hashed(step: str) -> str:
    """Return a step's id as it goes over the wire; one that is kept as such a hash is its own."""
    if _HASH.fullmatch(step):
        return step
    return hashlib.sha1(step.encode(), usedforsecurity=False).hexdigest()


def moment_of(text: str) -> int:
    """Return an RFC 3339 moment, or an HTTP date, as Unix ms; ValueError for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    return utc_ms(moment)


_GO_SMALL = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs)")


def due_of(text: str) -> str:
    """Return until when a wait goes: "+<ms from now>" of a duration, "<ms since 1970>" of a moment.

    BadAnswer for what is neither, ConfigError beyond 366 days.
    """
    if text[:4].isdecimal() and text[4:5] == "-":
        try:
            return str(moment_of(text))
        except ValueError:
            raise BadAnswer(f"{text!r} is neither a duration nor a moment") from None
    return f"+{milliseconds(_GO_SMALL.sub('', text) or '0ms', 'the wait of a step')}"


def timeout_of(text: str | None, now_ms: int) -> int:
    """Return how long a wait lasts, ms: 366 days when it has no end, 0 when it is over."""
    if text is None:
        return LONGEST_MS
    if not text:
        return 0
    due = due_of(text)
    left = int(due[1:]) if due[:1] == "+" else int(due) - now_ms
    return max(0, min(left, LONGEST_MS))


def without_secrets(url: str) -> str:
    """Return an address as it is told: without what may be secret in it."""
    split = urlsplit(url)
    host = split.netloc.rpartition("@")[2]
    return urlunsplit((split.scheme, host, split.path, "", ""))[:_LONGEST_SHOWN]
