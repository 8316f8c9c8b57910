"""Payload types: msgspec structs (EventData), dataclasses, TypedDicts and Pydantic models.

A Pydantic model is recognised by its methods, so Pydantic is never imported here, and needs not be installed.
"""

import dataclasses
import enum
from typing import Any, cast, get_type_hints, is_typeddict

import msgspec


class Misfit(ValueError):
    """JSON that a Pydantic model refuses: the reason, and where in the model (`.userId`, `.tags[1]`)."""

    def __init__(self, reason: str, path: str) -> None:
        self.reason = reason
        self.path = path
        super().__init__(reason)


def is_model(kind: Any) -> bool:
    """Whether a type is a Pydantic model."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def is_payload(kind: Any) -> bool:
    """Whether a type can be the data of an event."""
    return _is_struct(kind) or is_typeddict(kind) or _is_dataclass(kind) or is_model(kind)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def validated(kind: Any, data: bytes) -> Any:
    """Return JSON as a Pydantic model; Misfit with the path of its first error."""
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        errors: Any = getattr(error, "errors", None)
        first: dict[str, Any] = errors()[0] if errors else {"msg": str(error), "loc": ()}
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise Misfit(first["msg"], path) from None


def dumped(model: Any) -> Any:
    """Return a Pydantic model as plain values, under the names that it is validated with."""
    return model.model_dump(mode="json", by_alias=True)


def takes_more(kind: Any) -> bool:
    """Whether an enum takes values other than its members': a Flag, or one with a `_missing_` of its own."""
    missing = getattr(kind._missing_, "__func__", None)
    return issubclass(kind, enum.Flag) or missing is not enum.Enum._missing_.__func__  # type: ignore[attr-defined]


def wire_fields(kind: Any) -> dict[str, Any] | None:
    """Return the names that a payload type has in JSON, each with its type; None when other names may be there too."""
    if _is_struct(kind):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if is_model(kind):
        return _model_fields(kind)
    if not is_typeddict(kind) and not _is_dataclass(kind):
        return None
    try:
        hints = get_type_hints(kind)
    except NameError:
        return None
    names = [field.name for field in dataclasses.fields(kind)] if _is_dataclass(kind) else list(hints)
    return {name: hints[name] for name in names}


def _model_fields(kind: Any) -> dict[str, Any] | None:
    options = cast("dict[str, Any]", kind.model_config)
    if options.get("extra") == "allow":
        return None
    by_name = options.get("populate_by_name") or options.get("validate_by_name")
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        alias = field.validation_alias or name
        if not isinstance(alias, str):  # a choice of several, or a path
            return None
        fields |= {alias: field.annotation} | ({name: field.annotation} if by_name else {})
    return fields
