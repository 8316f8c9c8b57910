"""Expressions over `event`: CEL, compiled once. The only module that imports the CEL package.

An expression that raises counts as false. Paths are checked at declaration against the payload's field names in JSON:
`event.data.user_id`, where the JSON has `userId`, is refused at once instead of being null in every event.

An event is not given to CEL where that would be wrong, or take long: with numbers that it cannot hold or compare
(cel/exact.py), or so large that the expression is too much work (cel/cost.py). A condition is false then, a key is all
the fields that the expression uses; the log says so, and so does who asks for the reason (`why_not`).

Those of applications behind HTTP are marked, and are evaluated as the Inngest SDKs expect (bus/values/dialect.py).
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, cast

import msgspec
import structlog

from stepstream.bus.errors import ConfigError
from stepstream.bus.values import codec, dialect
from stepstream.bus.values.cel.cost import MOST_WORK, TooMuch, cost_of, told
from stepstream.bus.values.cel.exact import are_small, not_exact
from stepstream.bus.values.payload import wire_fields

_log = structlog.get_logger("expression")
_TOKEN = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(\s*\()?"""
    r"""|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
)
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
"""The variable that a macro over a list (`all`, `exists`, …) binds to its members."""
_ASKS = re.compile(r"\bhas\s*\(\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\)")
_LOGICAL = re.compile(r"\|\||&&")
_Tree = dict[str, "_Tree | None"]
"""The fields an expression uses: name → its fields, or None for the whole value."""
_PATH = re.compile(r"event(\.[A-Za-z_]\w*)+")
_ENVELOPE = ("id", "name", "data", "ts", "v")

MOST_CHARACTERS = 4_096
"""How long an expression may be: CEL walks down one by recursion, and a long enough one would end the process."""

MOST_NAMES = 100
"""How many names a path may have: an event has fewer levels, and what it looks at is taken out by recursion."""


class Expression:
    """A compiled CEL expression; `text` is what the author wrote."""

    def __init__(self, text: str, where: str, *, other: str = "") -> None:
        """Compile it; ConfigError names `where` it was declared.

        `other` is what it knows beside `event`: `async`, the incoming event, or `output`, what a run returned.
        """
        if len(text) > MOST_CHARACTERS:
            told = f"{text[:60]!r}… has {len(text)} characters, an expression at most {MOST_CHARACTERS}"
            raise ConfigError(f"{where}: {told}")
        self._is_of_sdk = dialect.is_of_sdk(text)
        self.text = text = dialect.as_written(text)
        self._where = where
        import cel  # here, for it brings a terminal of its own: who declares no expression does not wait for that

        try:
            plain = dialect.plain(text) if self._is_of_sdk else dialect.Plain(text, is_boolean=True)
            self._program = cel.compile(plain.text)
            # What an SDK calculates with whole numbers is evaluated a second time, with doubles.
            self._cost = cost_of(plain.text, times=2 if self._is_of_sdk else 1)
        except RecursionError:
            raise ConfigError(f"{where}: {text!r} is not an expression: it is nested too deep") from None
        except TooMuch as error:
            raise ConfigError(f"{where}: {text!r} is too much work: {error}") from None
        except ValueError as error:
            raise ConfigError(f"{where}: {text!r} is not an expression: {str(error).splitlines()[0]}") from None
        self._other = other
        roots = {"event", other} if other else {"event"}
        unknown = set(self._program.variables()) - roots - set(_BOUND.findall(text))
        if unknown:
            known = " and ".join(f"`{root}`" for root in sorted(roots, reverse=True))
            raise ConfigError(f"{where}: {text!r} names {min(unknown)!r}; an expression here knows only {known}")
        self._context = cel.Context
        self._is_boolean = plain.is_boolean or not _LOGICAL.search(text)
        """Whether only `true` makes it true; otherwise any value may, as in JavaScript."""
        self._asked: _Tree = {}
        """The fields of which it asks whether they are there."""
        if self._is_of_sdk:
            self._refuse_unknown_functions()
            for path in _ASKS.findall(text):
                _look_at(self._asked, path.split("."))
        self._tree: _Tree = {}
        self._literals: list[int | float] = []
        for path, number in _words(text):
            if number is not None:
                self._literals += (number, -number) if number <= 2**63 else (number,)  # a minus sign is not parsed here
            elif path[0] in roots:
                if len(path) > MOST_NAMES:
                    told = f"names {len(path)} fields within one another, an expression at most {MOST_NAMES}"
                    raise ConfigError(f"{where}: {text[:60]!r}… {told}")
                _look_at(self._tree, path)
        self._has_small_literals = are_small(self._literals)
        self._path = text.split(".")[1:] if _PATH.fullmatch(text) else None
        """The field names, if the expression is only a path into the event: the most common key, looked up exactly."""
        self._has_warned: set[str] = set()
        self.refused = 0
        """How often it could not be evaluated so far (`why_not`): who goes through many events looks how it grows."""

    @property
    def marked(self) -> str:
        """Its text as it is compiled from: marked where it is one of an SDK."""
        return dialect.of_sdk(self.text) if self._is_of_sdk else self.text

    def matches(self, event: Mapping[str, Any], other: Any = None) -> bool:
        """Return whether it is true of an event (and of the `other` value); an expression that raises is false."""
        seen = self._seen({"event": event, self._other: other} if self._other else {"event": event})
        if self._refused(seen) is not None:
            return False
        value = self._evaluated(seen)
        return value is True or (not self._is_boolean and dialect.truthy(value))

    def matches_stored(self, event: bytes, other: Any = None) -> bool | None:
        """Return whether it is true of an event as it is stored, of which only the fields it uses are decoded.

        None: this event must be decoded whole, as one of a batch or one whose parts are not what the expression takes
        them for.
        """
        if self._shape is None:
            return None
        try:
            part = self._shape.read(event)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None
        if part is None:
            return None
        seen: dict[str, Any] = {"event": part}
        if self._other:
            seen[self._other] = _part(other, self._tree[self._other]) if self._other in self._tree else None
        return self._refused(seen) is None and self._evaluated(seen) is True

    @cached_property
    def _shape(self) -> "_Shape | None":
        tree = self._tree.get("event", {})
        if self._is_of_sdk or not self._is_boolean or tree is None or "v" in tree:
            return None
        return _Shape(tree)

    def value(self, event: Mapping[str, Any]) -> Any:
        """Return its value for an event; None for an expression that raises (a missing field).

        Where it cannot be evaluated (`why_not`), its value is all the fields it uses: different events then still have
        different keys.
        """
        if self._path is not None:
            return found_at(self._path, event)
        seen = self._seen({"event": event})
        return self._evaluated(seen) if self._refused(seen) is None else seen

    def seen_of(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return what it looks at in an event, by each path it names: `event.data.n` → 5; None where nothing is."""
        return {".".join(path): found_at(path[1:], event) for path in self._paths()}

    def missing_in(self, event: Mapping[str, Any]) -> list[str]:
        """Return those paths it names of which an event has nothing, not even null; none where that counts as null."""
        paths = [] if self._is_of_sdk else self._paths()
        return [".".join(path) for path in paths if not _is_there(path[1:], event)]

    def why_not(self, event: Mapping[str, Any], other: Any = None) -> str | None:
        """Return in words why it cannot be evaluated for an event, though it is a right one: it counts as false then.

        None when it can.
        """
        return self._refused(self._seen({"event": event, self._other: other} if self._other else {"event": event}))

    def _paths(self) -> list[list[str]]:
        return [path for path, number in _words(self.text) if number is None and path[0] == "event" and len(path) > 1]

    def _seen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return only the fields it uses: an event may be large."""
        if self._is_of_sdk:
            return {root: dialect.filled(value, self._tree.get(root, {}), self._asked.get(root) or {})
                    for root, value in values.items()}  # fmt: skip
        return dict.fromkeys(values) | _part(values, self._tree)

    def _evaluated(self, seen: dict[str, Any]) -> Any:
        try:
            if not self._is_of_sdk:
                return self._program.execute(seen)
            return self._as_sdk(seen)
        except Exception:  # noqa: BLE001 - the library raises KeyError, TypeError, ValueError and RuntimeError for data
            return None

    def _as_sdk(self, seen: dict[str, Any]) -> Any:
        try:
            return self._program.execute(self._context(variables=seen, functions=dialect.FUNCTIONS))
        except TypeError:  # it may calculate with a whole number, which is a double there
            doubles = dialect.as_doubles(seen)
            return self._program.execute(self._context(variables=doubles, functions=dialect.FUNCTIONS))

    def _refuse_unknown_functions(self) -> None:
        called = {name for name in self._program.functions() if name[0].isalpha()}
        unknown = called - dialect.CELS - dialect.FUNCTIONS.keys()
        if unknown:
            raise ConfigError(f"{self._where}: {self.text!r} calls {min(unknown)!r}, which is no function here")

    def _refused(self, seen: dict[str, Any]) -> str | None:
        """Return why CEL is not asked of what it looks at; None when it is. The first time of each kind is logged."""
        if not self._has_small_literals or not are_small(seen):
            number = not_exact([seen, self._literals])
            if number is not None:
                self._warn("a number that CEL cannot hold or compare exactly: send such as text", number=str(number))
                return "it has a number that no condition compares exactly; send such as text"
        if self._cost is not None and (work := self._cost.of(seen)) > MOST_WORK:
            self._warn("an event so large that it is too much work", work=told(work), most=told(MOST_WORK))
            return (
                f"for so large an event it would copy up to {told(work)} values, and may {told(MOST_WORK)}; "
                "let the publisher send a field that has the answer"
            )
        return None

    def _warn(self, of: str, **more: str) -> None:
        self.refused += 1
        if of not in self._has_warned:
            self._has_warned.add(of)
            _log.warning(
                f"an expression is not evaluated for {of}; a condition counts as false, a key becomes all the fields "
                "the expression uses",
                expression=self.text,
                where=self._where,
                **more,
            )

    def check(self, kind: type[Any], root: str = "event") -> None:
        """Raise ConfigError for a path that events of type `kind` cannot have; `root` is the variable for the event."""
        for path, _ in _words(self.text):
            if not path or path[0] != root or len(path) < 2:
                continue
            self._one_of(path[1], _ENVELOPE)
            if path[1] == "data" and len(path) > 2:
                self._walk(kind, path[2:])

    def _walk(self, kind: Any, parts: list[str]) -> None:
        for part in parts:
            fields = wire_fields(kind)
            if fields is None:
                return
            self._one_of(part, tuple(fields))
            kind = fields[part]

    def _one_of(self, part: str, known: tuple[str, ...]) -> None:
        if part not in known:
            near = difflib.get_close_matches(_folded(part), [_folded(name) for name in known], 1)
            twin = next((name for name in known if near and _folded(name) == near[0]), None)
            hint = f"; did you mean {twin}?" if twin else f"; known are {', '.join(known)}"
            raise ConfigError(f"{self._where}: {self.text!r} has unknown field {part}{hint}")


def _words(text: str) -> Iterator[tuple[list[str], int | float | None]]:
    """Yield an expression's paths (with None), and its numbers (with an empty path)."""
    for literal, path, called, number in _TOKEN.findall(text):
        if number:
            yield [], int(number) if number.isdecimal() else float(number)
        elif not literal:
            names = path.split(".")
            if called:  # `event.data.name.startsWith(`: the last name is a method, not a field
                names.pop()
            if names:
                yield names, None


def found_at(path: list[str], event: object) -> Any:
    """Return the value at a path in plain values; None when there is nothing."""
    for name in path:
        if not isinstance(event, dict):
            return None
        event = cast("dict[str, Any]", event).get(name)
    return event


def _is_there(path: list[str], event: object) -> bool:
    *before, last = path
    inside = found_at(before, event)
    return isinstance(inside, dict) and last in inside


def _look_at(tree: _Tree, path: list[str]) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        if inner is None:  # the whole value is used already
            return
        tree = inner
    tree[path[-1]] = None


def _part(value: Any, tree: _Tree | None) -> Any:
    if tree is None or not isinstance(value, Mapping):
        return value
    inside = cast("Mapping[str, Any]", value)
    return {name: _part(inside[name], inner) for name, inner in tree.items() if name in inside}


class _Shape:
    """Reads of a stored event only the fields in a tree: whatever else it has is passed over without being made."""

    def __init__(self, tree: _Tree) -> None:
        own, self._plan = _kind_of({**tree, _BATCH: None})
        self._decoded = codec.reader_of(own)

    def read(self, raw: bytes) -> dict[str, Any] | None:
        """Return the fields that are there; None of a batch, which is of several events."""
        found = _taken(self._decoded(raw), self._plan)
        return None if found.pop(_BATCH, None) else found


_BATCH = "batch"
_Plan = list[tuple[str, str, "_Plan | None"]]
"""Of each field the attribute that it is read into, its name, and what is read of it (None: the whole value)."""


def _kind_of(tree: _Tree) -> tuple[type[msgspec.Struct], _Plan]:
    """Return a struct that has the fields of a tree, and how they are called in it: names may be words of Python."""
    fields: list[tuple[str, Any, Any]] = []
    plan: _Plan = []
    for n, (name, inner) in enumerate(tree.items()):
        kind, inside = (Any, None) if inner is None else _kind_of(inner)
        fields.append((f"f{n}", kind if inner is None else kind | msgspec.UnsetType, msgspec.UNSET))
        plan.append((f"f{n}", name, inside))
    return msgspec.defstruct("Part", fields, rename={at: name for at, name, _ in plan}), plan


def _taken(part: Any, plan: _Plan) -> dict[str, Any]:
    return {
        name: value if inside is None else _taken(value, inside)
        for at, name, inside in plan
        if (value := getattr(part, at)) is not msgspec.UNSET
    }


@lru_cache(maxsize=4_096)
def compiled(text: str, where: str, *, other: str = "") -> Expression:
    """Return an Expression from a cache, compiling each text once: for expressions evaluated for every event."""
    return Expression(text, where, other=other)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
