"""An example of a type: what an event's data may look like, for a line that is copied and tried."""

from typing import Any

from msgspec import inspect

from stepstream.bus.values import codec
from stepstream.bus.values.payload import is_model

_SCALARS: dict[type[inspect.Type], Any] = {
    inspect.BoolType: True,
    inspect.IntType: 1,
    inspect.FloatType: 1.5,
    inspect.DecimalType: "1.50",
    inspect.DateTimeType: "2026-01-31T12:00:00Z",
    inspect.DateType: "2026-01-31",
    inspect.TimeType: "12:00:00",
    inspect.UUIDType: "00000000-0000-4000-8000-000000000001",
    inspect.NoneType: None,
}


def example_of(kind: type[Any]) -> Any:
    """Return data that fits a type: of its required fields, the simplest. Empty when none is found that fits."""
    try:
        fields: dict[str, Any] = getattr(kind, "model_fields", {}) if is_model(kind) else {}
        if fields:
            data: Any = {
                field.alias or name: _of(inspect.type_info(field.annotation), field.alias or name)
                for name, field in fields.items()
                if field.is_required()
            }
        else:
            data = _of(inspect.type_info(kind), "")
        codec.decode_as(codec.encode(data), kind)
    except (TypeError, ValueError, RecursionError):
        return {}
    return data


def _of(info: inspect.Type, name: str) -> Any:
    """Return an example of a type; text is the name of the field that it is for."""
    match info:
        case inspect.StrType():
            return name[: info.max_length] if info.max_length is not None else name
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return {one.encode_name: _of(one.type, one.encode_name) for one in info.fields if one.required}
        case inspect.UnionType():
            return _of(next((one for one in info.types if not isinstance(one, inspect.NoneType)), info.types[0]), name)
        case inspect.LiteralType():
            return info.values[0]
        case inspect.EnumType():
            return next(iter(info.cls)).value
        case inspect.Metadata():
            return _of(info.type, name)
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
        case _:
            return _SCALARS.get(type(info), name)
