"""Redaction: what is hidden of values where people see them: what stands under a key that names a secret.

Nothing is hidden in Redis and from functions. A pattern is compared with the name of a key, in small letters and with
`_` between words: `*token` is that of `accessToken`, `access-token` and `TOKEN`, and not of `tokens_used`.
Texts: bus/trust/redacted_text.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw

from stepstream.bus.encryption import sealing
from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.trust.redacted_text import MASK, in_words, text_without
from stepstream.bus.values import codec

T = TypeVar("T")

DEFAULT = (
    "*password", "*passwd", "*passphrase", "*token", "*secret", "*secret_key", "*secret_access_key", "*api_key",
    "*apikey", "*private_key", "*credential", "*credentials", "authorization", "proxy_authorization", "cookie",
    "set_cookie", "*signing_key", "*session_key",
)  # fmt: skip
"""The patterns of BUS_REDACT where it is not set."""

_PATTERN = re.compile(r"[a-z0-9_*?.]*[a-z0-9][a-z0-9_*?.]*")
_PIECES = re.compile(r"[^a-z0-9]+")
_DEEPEST = 200
"""How deep a value is looked into; what is deeper is hidden."""
_NAMES = ("name", "key", "header")
_ROOTS = ("event.", "async.", "output.")


class _Named(msgspec.Struct):
    name: str = ""
    batch: list["_Named"] | None = None


class Redaction:
    """What is hidden. It changes nothing that it is given, and returns what may be shown.

    `patterns` are those of keys. `fields` are, by an event's name, the fields of its data; `within` are fields that are
    hidden at whatever depth: of all that belongs to a run, those of its event.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        fields: Mapping[str, Sequence[str]] | None = None,
        within: Iterable[str] = (),
    ) -> None:
        self.patterns = tuple(patterns)
        self.fields = fields or {}
        self._within = tuple(tuple(path.split(".")) for path in within)
        self._last = frozenset(path[-1] for path in self._within)
        every = (path for paths in self.fields.values() for path in paths)
        self._in_texts = self._last | {path.rpartition(".")[2] for path in every}
        """The names of fields of all types: of an error's text nobody knows which events it is made of."""
        self._of_paths: dict[tuple[str, ...], Redaction] = {}
        self.is_on = bool(self.patterns or self.fields or self._within)
        """Whether anything is hidden."""
        words = {max(_PIECES.split(one), key=len) for one in self.patterns} | {one.lower() for one in self._in_texts}
        self._words = (*sorted(words), "://", "bearer", "basic")
        """What a text has in it, in small letters, of which anything is hidden."""
        self._bytes = tuple(one.encode() for one in self._words)
        self._is_ascii = all(one.isascii() for one in self._words)
        named = re.compile("|".join(map(translate, self.patterns)) or r"(?!)")

        @lru_cache(maxsize=4_096)
        def hides(key: str) -> bool:
            words = in_words(key)
            return any(named.match(one) is not None for one in {words, words.replace(".", "_")})

        self._hides = hides

    @property
    def rules(self) -> tuple[str, ...]:
        """What is hidden, as texts: `redaction_of` reads them."""
        return (*self.patterns, *(f"{path} of {name}" for name, paths in self.fields.items() for path in paths))

    def of_event(self, event: bytes | Raw | None) -> "Redaction":
        """Return what is hidden of a run: of its results and texts the same fields as of its event."""
        named = codec.stored_as(bytes(event), _Named) if self.fields and event else None
        several = [] if named is None else [named, *(named.batch or ())]
        paths = tuple(sorted({path for one in several for path in self.fields.get(one.name, ())}))
        return self.also(paths)

    def also(self, paths: tuple[str, ...]) -> "Redaction":
        """Return what hides these fields as well, at whatever depth."""
        if not paths:
            return self
        found = self._of_paths.get(paths)
        if found is None:
            before = (".".join(path) for path in self._within)
            found = self._of_paths[paths] = Redaction(self.patterns, self.fields, (*before, *paths))
        return found

    @property
    def of_any(self) -> "Redaction":
        """What is hidden of data of which nobody knows which events it was made of: the fields of all types."""
        return self.also(tuple(sorted({path for paths in self.fields.values() for path in paths})))

    def of(self, value: T) -> T:
        """Return what is told to somebody, without what is hidden: a struct, a list, a text, JSON (Raw).

        A struct and a dict are ours, and keep all their names; JSON in them is somebody's data. A struct whose `name`
        is that of an event is about such an event, one with `event` is about a run.
        """
        return self._of(value)

    def _of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Raw):
            return Raw(self.json(bytes(value)))
        if isinstance(value, msgspec.Struct):
            return self._of_struct(value)
        if isinstance(value, dict):
            return {name: self._of_named(name, one) for name, one in cast("dict[Any, Any]", value).items()}
        if isinstance(value, tuple):
            before = cast("tuple[Any, ...]", value)
            several = [self._of(one) for one in before]
            return type(before)(*several) if hasattr(before, "_fields") else tuple(several)
        if isinstance(value, list):
            return [self._of(one) for one in cast("list[Any]", value)]
        return value

    def _of_struct(self, value: msgspec.Struct) -> msgspec.Struct:
        event, name = getattr(value, "event", None), getattr(value, "name", None)
        inner = self.of_event(event) if isinstance(event, Raw) else self
        inner = inner.also(tuple(self.fields.get(name, ()))) if isinstance(name, str) else inner
        changed: dict[str, Any] = {}
        for field in value.__struct_fields__:
            old = getattr(value, field)
            new = inner.of(old)
            if new is not old:
                changed[field] = new
        return msgspec.structs.replace(value, **changed) if changed else value

    def hides(self, key: str) -> bool:
        """Whether what stands under a key is hidden, wherever that is."""
        return self._hides(key) or key in self._last

    def _of_named(self, name: Any, value: Any) -> Any:
        """Return what is told under a name of ours; what a condition saw is somebody's data, and is no longer JSON."""
        if not (isinstance(name, str) and name.startswith(_ROOTS)):
            return self._of(value)
        if self._hides_path(name):
            return MASK
        return self.plain(value) if isinstance(value, dict | list) else self._of(value)

    def _hides_path(self, name: Any) -> bool:
        """Whether a name is that of a place in data, as a condition writes it, and what is there is hidden."""
        return isinstance(name, str) and name.startswith(_ROOTS) and self.hides(name.rpartition(".")[2])

    def json(self, raw: bytes) -> bytes:
        """Return JSON without what is hidden; where nothing is, the same text. What is no JSON is taken as a text.

        What is encrypted is opened before, or is a text that says so.
        """
        raw = sealing.shown(raw)
        if not self.is_on or not raw:
            return raw
        small = raw.lower()
        # Nearly all data hides nothing, and may be megabytes. Escaped signs are looked for: \u0070, \/.
        if (
            self._is_ascii
            and b"\\u" not in small
            and b"\\/" not in small
            and not any(one in small for one in self._bytes)
        ):
            return raw
        try:
            value = codec.decode(raw)
        except msgspec.DecodeError:
            return self.text(codec.text(raw)).encode()
        found = self.plain(value)
        return raw if found is value else codec.encode(found)

    def plain(self, value: Any) -> Any:
        """Return plain values without what is hidden; where nothing is, the same object."""
        return self.looked_into(value, (), 0)

    def looked_into(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        """Return a part of plain values: what stands at a path, so deep in them."""
        if isinstance(value, str):
            return self.text(value)
        if not isinstance(value, dict | list):
            return value
        if depth > _DEEPEST:
            return MASK
        if isinstance(value, list):
            several = cast("list[Any]", value)
            if self._is_pair(several):
                return [several[0], MASK]
            made = [self.looked_into(one, path, depth + 1) for one in several]
            return several if all(map(_is, made, several)) else made
        named = cast("dict[str, Any]", value)
        of_data = self.also(tuple(self.fields.get(named["name"], ()))) if _is_event(named) and self.fields else self
        found = {
            name: MASK
            if one is not None and self._hides_at(name, path)
            else of_data.looked_into(one, (), depth + 1)
            if name == "data" and of_data is not self
            else self.looked_into(one, (*path, name) if self._within else path, depth + 1)
            for name, one in named.items()
        }
        if "value" in found and any(isinstance(one := found.get(name), str) and self.hides(one) for name in _NAMES):
            found["value"] = MASK
        return named if all(found[name] is one for name, one in named.items()) else found

    def _hides_at(self, name: str, path: tuple[str, ...]) -> bool:
        if self._hides(name):
            return True
        return name in self._last and any((*path, name)[-len(one) :] == one for one in self._within)

    def _is_pair(self, several: list[Any]) -> bool:
        """Whether a list is a header's name and value."""
        return len(several) == 2 and isinstance(several[0], str) and isinstance(several[1], str) and self.hides(
            several[0]
        )  # fmt: skip

    def text(self, text: str) -> str:
        """Return a text without what is hidden of it."""
        if not self.is_on or not (":" in text or "=" in text or " " in text or "\t" in text):
            return text
        small = text.lower()
        for one in self._words:
            if one in small:
                break
        else:
            return text
        return text_without(text, self._hides_in_text, self._hides_path)

    def _hides_in_text(self, key: str) -> bool:
        """Whether what stands behind a key in a text is hidden."""
        name = key.rpartition(".")[2]
        return self._hides(name) or self._hides(key) or name in self._in_texts

    def put_back(self, given: Any, original: Any) -> Any:
        """Return what somebody made of plain values that they saw redacted, with what was hidden where it was.

        EventInvalid names the place where a mask is left: it was moved, or what is around it was changed in a list,
        of which nobody can tell any more which of its items it was.
        """
        return _put_back(given, self.plain(original), original, "data")


@lru_cache(maxsize=64)
def redaction_of(rules: tuple[str, ...]) -> Redaction:
    """Return the redaction that was written as `rules`: one object for the same ones, for making it takes long."""
    patterns: list[str] = []
    fields: dict[str, list[str]] = {}
    for rule in rules:
        path, is_field, name = rule.partition(" of ")
        if is_field:
            fields.setdefault(name, []).append(path)
        else:
            patterns.append(rule)
    return Redaction(patterns, fields)


_NOTHING = object()


def _put_back(given: Any, shown: Any, original: Any, path: str) -> Any:
    # Python has 1, 1.0 and true for the same, whoever has edited it has not.
    if shown is not _NOTHING and given == shown and codec.encode(given) == codec.encode(shown):
        return original
    if isinstance(given, dict):
        seen, before = (cast("dict[str, Any]", one) if isinstance(one, dict) else {} for one in (shown, original))
        return {
            name: _put_back(one, seen.get(name, _NOTHING), before.get(name), f"{path}.{name}")
            for name, one in cast("dict[str, Any]", given).items()
        }
    if isinstance(given, list):
        items = cast("list[Any]", given)
        return [_put_back(one, _NOTHING, None, f"{path}[{n}]") for n, one in enumerate(items)]
    if isinstance(given, str) and MASK in given:
        raise EventInvalid(
            f"is {MASK}, which stands for a value that your role does not see: write its value, "
            "or leave it and what is around it as it was",
            field=path,
        )
    return given


def _is_event(named: dict[str, Any]) -> bool:
    """Whether an object may be an event within other data: what was waited for, what was sent, what has failed."""
    return isinstance(named.get("name"), str) and "data" in named


def _is(one: Any, other: Any) -> bool:
    return one is other


def check_patterns(patterns: Iterable[str]) -> None:
    """Raise ConfigError for a pattern that no key can have."""
    for one in patterns:
        if not _PATTERN.fullmatch(one):
            raise ConfigError(
                f"BUS_REDACT: {one[:60]!r} is no pattern of keys: write small letters, digits, _ and *, "
                "with commas between them: *password,*token,iban"
            )
