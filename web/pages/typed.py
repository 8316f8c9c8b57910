"""Forms for data of a type: its fields one by one where the type says which, or as JSON; what was sent is not lost."""

from collections.abc import Mapping, Sequence

import msgspec

from stepstream.bus.errors import BusError
from stepstream.bus.wire.types.form_fields import FormField, example_text, form_fields, json_text

_PREFIX = "data."
_AS_JSON = "json"


class TypedForm(msgspec.Struct, frozen=True):
    """A form for data. `text` is what stands in the field for JSON, `others` how many other types would do as well."""

    fields: tuple[FormField, ...] = ()
    text: str = "{}"
    others: int = 0
    error: str = ""
    """Why what was sent was refused: then the form has it again."""
    by_json: bool = False
    """Whether that was sent as JSON."""


def typed_form(schemas: Sequence[bytes]) -> TypedForm:
    """Return the form for data that must fit one of some JSON Schemas."""
    if not schemas:
        return TypedForm()
    return TypedForm(form_fields(schemas[0]), example_text(schemas[0]), len(schemas) - 1)


def data_of(form: TypedForm, given: Mapping[str, str]) -> bytes:
    """Return the JSON that a form was sent with; EventInvalid for a field of another kind."""
    if given.get("as") == _AS_JSON or not form.fields:
        return given.get("json", "").strip().encode() or b"{}"
    return json_text(form.fields, _values(given))


def refused(form: TypedForm, given: Mapping[str, str], error: BusError) -> TypedForm:
    """Return a form as it was sent, with why it was refused."""
    values = _values(given)
    fields = tuple(msgspec.structs.replace(one, value=values.get(one.name, "")) for one in form.fields)
    by_json = given.get("as") == _AS_JSON
    text = given.get("json", "") if by_json else form.text
    return msgspec.structs.replace(form, fields=fields, text=text, error=str(error), by_json=by_json)


def _values(given: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_PREFIX): text for name, text in given.items() if name.startswith(_PREFIX)}
