"""Schemas: the JSON Schema of a payload type, for processes that do not have the type.

A schema never refuses what the type takes: where JSON Schema cannot say what the type says, it says less. What a
process without the type lets pass, the function still checks when it gets the event.
"""

import hashlib
import re
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import inspect, json

from stepstream.bus.values import codec
from stepstream.bus.values.fitting import AS_TEXT, INTEGER, PYTHON_PATTERN
from stepstream.bus.values.payload import is_model, takes_more

Node = dict[str, Any]

_NAMED = ("properties", "$defs", "patternProperties")
_SINGLE = ("items", "additionalProperties", "propertyNames", "contains", "not")
_SEVERAL = ("anyOf", "allOf", "oneOf", "prefixItems")
_SAYS_MORE = re.compile(r"[\\\\(]")
"""In a pattern of Pydantic's: what JSON Schema reads in another way (\\w), and what may take for ever elsewhere."""
_TOLD = ("title", "description", "default", "examples", "discriminator", "deprecated", "readOnly", "writeOnly")
"""Keywords that refuse nothing: two applications may differ in them and agree."""


class Schema(NamedTuple):
    """A JSON Schema as text, and a fingerprint of it; not `exact`: it takes everything, for none could be made."""

    text: bytes
    hash: str
    exact: bool = True
    redacted: tuple[str, ...] = ()
    """The fields of the type that are not shown to everybody; the fingerprint does not know them."""


@lru_cache(maxsize=1_024)
def schema_of(kind: type[Any]) -> Schema:
    """Return the schema of a payload type."""
    try:
        node = _model_schema(kind, "") if is_model(kind) else _schema(kind)
        text = codec.canonical(node)
    except Exception as error:  # noqa: BLE001 - a type may be anything, and any library may have made it
        why = f"{kind.__module__}.{kind.__qualname__}: only its own application can check it: {error}"
        return _made(kind, codec.canonical({"$comment": why[:300]}), exact=False)
    return _made(kind, text, exact=True)


def _made(kind: type[Any], text: bytes, *, exact: bool) -> Schema:
    return Schema(text, hashlib.sha256(text).hexdigest()[:12], exact, getattr(kind, "redacted", ()))


def _schema(kind: type[Any]) -> Node:
    inner: Node = {}

    def hook(custom: type[Any]) -> Node:
        if not is_model(custom):
            raise NotImplementedError
        made = _model_schema(custom, f"{custom.__name__}.")
        inner.update(made.pop("$defs", {}))
        return made

    node = json.schema(kind, schema_hook=hook)
    if inner:
        node["$defs"] = {**node.get("$defs", {}), **inner}
    _change(node, _as_the_decoder_takes_it)
    for lenient in {one.__name__ for one in _enums(inspect.type_info(kind)) if takes_more(one)}:
        for name in [name for name in node.get("$defs", {}) if name.rpartition(".")[2] == lenient]:
            node["$defs"][name] = {}
    return _with_its_root_inside(node)


def _enums(kind: Any) -> Generator[Any]:
    """Yield the enums in a type, as msgspec knows it."""
    seen: set[int] = set()
    below: list[Any] = [kind]
    while below:
        one = below.pop()
        if isinstance(one, tuple | list):
            below += one  # type: ignore[reportUnknownArgumentType]
        elif isinstance(one, inspect.Type | inspect.Field) and id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, inspect.EnumType):
                yield one.cls
            below += [getattr(one, field) for field in one.__struct_fields__]


def _model_schema(kind: Any, prefix: str) -> Node:
    from stepstream.bus.values.model_schemas import Lenient  # it needs Pydantic, which made `kind`

    node: Node = kind.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}", schema_generator=Lenient)
    if "$defs" in node:
        node["$defs"] = {f"{prefix}{name}": inner for name, inner in node["$defs"].items()}
    _change(node, _as_a_model_takes_it)
    return node


def _with_its_root_inside(node: Node) -> Node:
    """Put the definition of the type itself where it is referred to: its class may have another name elsewhere."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    defs = node.get("$defs", {})
    if name not in defs or sum(one.get("$ref") == node["$ref"] for one in _nodes(node)) > 1:
        return node
    rest = {other: inner for other, inner in defs.items() if other != name}
    return {**defs[name], **({"$defs": rest} if rest else {})}


def _nodes(node: Node) -> Generator[Node]:
    """Yield a schema and all schemas in it; what stands in an enum, or is the name of a property, is not a schema."""
    yield node
    below = [inner for key in _NAMED for inner in node.get(key, {}).values()]
    below += [node[key] for key in _SINGLE if key in node]
    below += [inner for key in _SEVERAL for inner in node.get(key, ())]
    for inner in below:
        if isinstance(inner, dict):
            yield from _nodes(inner)  # type: ignore[reportUnknownArgumentType]


def _change(root: Node, change: Callable[[Node], None]) -> None:
    for node in list(_nodes(root)):
        for key in _TOLD:
            node.pop(key, None)
        change(node)


def _as_the_decoder_takes_it(node: Node) -> None:
    node.pop("uniqueItems", None)  # a set takes what comes twice
    # A pattern is one of Python's: its `\w` is also ü, its `$` stands before a last end of line, too.
    if node.get("pattern", INTEGER) not in AS_TEXT:
        node[PYTHON_PATTERN] = node.pop("pattern")
    if node.get("format") == "decimal":
        node["type"] = ["number", "string"]
    if "required" in node:  # the tag of a struct that stands alone may be missing
        properties = node.get("properties", {})
        node["required"] = [name for name in node["required"] if len(properties.get(name, {}).get("enum", "..")) != 1]


def _as_a_model_takes_it(node: Node) -> None:
    node.pop("uniqueItems", None)
    form = node.pop("format", "")  # Pydantic takes more forms of a date than the formats of JSON Schema allow
    if form.startswith("ip") or form == "password":  # addresses of numbers, secrets of whatever is text to them
        node.pop("type", None)
    if node.get("pattern") not in AS_TEXT and _SAYS_MORE.search(node.get("pattern", "")):
        del node["pattern"]
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
