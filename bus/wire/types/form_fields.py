"""Fields of a form, made from a JSON Schema: what is asked of a person, and the JSON text that the answers make.

A form asks for the fields of the object, one line each; what is an object or a list itself is asked for as JSON. What
comes out is checked by the type itself, so a schema that says little makes a form that does, and refuses nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from stepstream.bus.errors import EventInvalid
from stepstream.bus.values import codec
from stepstream.bus.values.fitting import AS_TEXT

Kind = Literal["text", "number", "choice", "json"]
_MOST = 100
"""A form of more fields helps nobody: then JSON is asked for."""
_DEEPEST = 4
_EXAMPLES = {
    "date-time": "2026-01-31T12:00:00Z", "date": "2026-01-31", "time": "12:00:00", "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000001", "decimal": "1.50",
}  # fmt: skip
_EMPTY: dict[str, Any] = {"integer": 0, "number": 0, "boolean": False, "null": None, "array": [], "object": {}}


class FormField(msgspec.Struct, frozen=True):
    """A field of a form. `choices` are JSON texts; `hint` says what it takes; `value` is what it begins with."""

    name: str
    kind: Kind
    required: bool
    hint: str = ""
    choices: tuple[str, ...] = ()
    value: str = ""


def form_fields(schema: bytes) -> tuple[FormField, ...]:
    """Return the fields that a form asks for; none where the schema does not say which there are."""
    root = _read(schema)
    named, required = _named(root, "properties"), _required(root)
    if len(named) > _MOST:
        return ()
    found = [_field(name, node, name in required, root) for name, node in named.items()]
    return tuple(sorted(found, key=lambda one: not one.required))


def example_text(schema: bytes) -> str:
    """Return JSON that is a beginning for who writes data of a type: its required fields."""
    root = _read(schema)
    made = _example(root, root, 0)
    return codec.pretty(codec.encode(_object(made)))


def json_text(fields: Sequence[FormField], given: Mapping[str, str]) -> bytes:
    """Return the JSON object that was filled in; EventInvalid for a field of another kind.

    What was left empty is left out; but a text that is required is empty.
    """
    parts: list[str] = []
    for one in fields:
        text = given.get(one.name, "")
        if one.kind == "text":
            if text or one.required:
                parts.append(f"{_quoted(one.name)}:{_quoted(text)}")
            continue
        if text := text.strip():
            parts.append(f"{_quoted(one.name)}:{_checked(one, text)}")
    return f"{{{','.join(parts)}}}".encode()


def _checked(one: FormField, text: str) -> str:
    where = f"data.{one.name}"
    try:
        value = codec.decode(text)
    except (msgspec.DecodeError, ValueError) as error:
        what = "a number" if one.kind == "number" else f"JSON ({error})"
        raise EventInvalid(f"expected {what}, got {text[:60]!r}", field=where) from None
    if one.kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise EventInvalid(f"expected a number, got {text[:60]!r}", field=where)
    return text


def _quoted(text: str) -> str:
    return codec.encode(text).decode()


def _read(schema: bytes) -> dict[str, Any]:
    try:
        found = codec.decode(schema)
    except (msgspec.DecodeError, ValueError):  # written by hand
        return {}
    return _object(found)


def _field(name: str, node: Any, required: bool, root: Mapping[str, Any]) -> FormField:
    inner, several = _meant(node, root)
    hint = _hint(inner)
    if choices := _choices(inner):
        return FormField(name, "choice", required, hint, tuple(codec.encode(one).decode() for one in choices))
    word = _word(inner)
    if several or word in {"object", "array", ""}:
        value = codec.encode(_example(inner, root, 1)).decode() if required and word in {"object", "array"} else ""
        return FormField(name, "json", required, hint or (word and f"JSON, {word}") or "JSON", value=value)
    if word == "boolean":
        return FormField(name, "choice", required, hint, ("true", "false"))
    return FormField(name, "text" if word == "string" else "number", required, hint or word)


def _choices(node: Mapping[str, Any]) -> list[Any]:
    found = node.get("enum")
    return cast("list[Any]", found) if isinstance(found, list) else []


def _named(node: Mapping[str, Any], word: str) -> dict[str, Any]:
    return _object(node.get(word))


def _object(found: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _required(node: Mapping[str, Any]) -> list[str]:
    found = node.get("required")
    return [one for one in cast("list[Any]", found) if isinstance(one, str)] if isinstance(found, list) else []


def _meant(node: Any, root: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return what a schema says behind its references and beside null; and whether several remain to choose from."""
    for _ in range(_DEEPEST):
        if not isinstance(node, dict):
            return {}, False
        one = cast("dict[str, Any]", node)
        if "$ref" in one:
            node = _named(root, "$defs").get(str(one["$ref"]).removeprefix("#/$defs/"), {})
            continue
        branches = _branches(one)
        if not branches:
            return one, False
        left = [inner for inner in map(_object, branches) if inner and inner.get("type") != "null"]
        if len(left) != 1:
            return one, True
        node = left[0]
    return {}, False


def _branches(node: Mapping[str, Any]) -> list[Any]:
    found = node.get("anyOf") or node.get("oneOf")
    return cast("list[Any]", found) if isinstance(found, list) else []


def _word(node: Mapping[str, Any]) -> str:
    """Return the type that is meant; a model takes text for a number as well."""
    as_text = node.get("pattern")
    if isinstance(as_text, str) and as_text in AS_TEXT:
        return AS_TEXT[as_text]
    kinds = node.get("type", "")
    several = [one for one in cast("list[Any]", kinds) if one != "null"] if isinstance(kinds, list) else [kinds]
    word = "string" if "string" in several else several[0] if several else ""
    return word if isinstance(word, str) else ""


def _hint(node: Mapping[str, Any]) -> str:
    told = [node["format"]] if isinstance(node.get("format"), str) else []
    bounds = (
        ("minimum", "at least {}"), ("exclusiveMinimum", "more than {}"), ("maximum", "at most {}"),
        ("exclusiveMaximum", "less than {}"), ("minLength", "at least {} characters"),
        ("maxLength", "at most {} characters"),
    )  # fmt: skip
    told += [words.format(node[name]) for name, words in bounds if name in node]
    return ", ".join(told)


def _example(node: Any, root: Mapping[str, Any], depth: int) -> Any:
    inner, several = _meant(node, root)
    if several:
        inner, _ = _meant(_branches(inner)[0], root)
    if choices := _choices(inner):
        return choices[0]
    word = _word(inner)
    if word == "object" and depth < _DEEPEST:
        named = _named(inner, "properties")
        return {name: _example(named.get(name, {}), root, depth + 1) for name in _required(inner)}
    if word == "string":
        return _EXAMPLES.get(str(inner.get("format")), "")
    return _EMPTY.get(word)
