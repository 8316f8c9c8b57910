"""Protobuf: messages whose fields have their numbers beside their types, read and written by Google's library.

    class Worker(Message):
        name: Annotated[str, 1] = ""

There is no generated code: what a compiler makes fits only some versions of the library, and applications that mount
the site bring their own. Fields that a message does not name are read over, as newer SDKs send more.
"""

from functools import cache
from typing import Any, Self, get_args, get_origin, get_type_hints

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stepstream.bus.errors import BadRequest

_PACKAGE = "stepstream.connect"
_POOL = descriptor_pool.DescriptorPool()
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    str: _FIELD.TYPE_STRING,
    bytes: _FIELD.TYPE_BYTES,
    bool: _FIELD.TYPE_BOOL,
    int: _FIELD.TYPE_INT64,
}
"""How a type goes over the wire. Smaller integers and enums are written in the same way as this one."""


class Message(msgspec.Struct, kw_only=True):
    """A message of the protocol; what is missing has its default."""

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        return _filled(self).SerializeToString()

    @classmethod
    def decoded(cls, data: bytes) -> Self:
        """Read one; BadRequest for bytes that are not such a message."""
        try:
            return _read(cls, _class_of(cls).FromString(data))
        except DecodeError as error:
            raise BadRequest(f"is not a {cls.__name__} of the protocol: {error}") from None


@cache
def _fields_of(kind: type[Message]) -> list[tuple[str, int, type, bool]]:
    """Return the fields of a message: name, number, type, and whether there may be several."""
    found: list[tuple[str, int, type, bool]] = []
    hints = get_type_hints(kind, include_extras=True)
    for name in kind.__struct_fields__:
        inner, number = get_args(hints[name])
        several = get_origin(inner) is tuple
        found.append((name, number, get_args(inner)[0] if several else inner, several))
    return found


@cache
def _class_of(kind: type[Message]) -> Any:
    """Return the library's class for a message."""
    name = kind.__name__
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=_PACKAGE, syntax="proto3")
    made = file.message_type.add(name=name)
    for field, number, inner, several in _fields_of(kind):
        told = made.field.add(name=field, number=number)
        told.label = _FIELD.LABEL_REPEATED if several else _FIELD.LABEL_OPTIONAL
        if issubclass(inner, Message):
            _class_of(inner)
            file.dependency.append(f"{inner.__name__}.proto")
            told.type, told.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{inner.__name__}"
        else:
            told.type = _TYPES[inner]
    _POOL.Add(file)
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _filled(message: Message) -> Any:
    made = _class_of(type(message))()
    for name, _, inner, several in _fields_of(type(message)):
        value = getattr(message, name)
        if several:
            getattr(made, name).extend([_filled(one) for one in value] if issubclass(inner, Message) else value)
        elif issubclass(inner, Message):
            getattr(made, name).CopyFrom(_filled(value))
        elif value:
            setattr(made, name, value)
    return made


def _read(kind: type[Any], made: Any) -> Any:
    told: dict[str, Any] = {}
    for name, _, inner, several in _fields_of(kind):
        value = getattr(made, name)
        if issubclass(inner, Message):
            told[name] = tuple(_read(inner, one) for one in value) if several else _read(inner, value)
        else:
            told[name] = tuple(value) if several else value
    return kind(**told)
