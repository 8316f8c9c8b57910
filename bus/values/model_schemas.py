"""Model schemas: JSON Schema of Pydantic models, as lenient as their validation. Only imported where there is a model.

Pydantic takes `"5"` for an int and a field under several names, and a validator of the author's may take anything.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from stepstream.bus.values.fitting import BOOLEAN, INTEGER, NUMBER
from stepstream.bus.values.payload import takes_more

_OF_STR = ("strip_whitespace", "to_lower", "to_upper")

Node = dict[str, Any]


class Lenient(GenerateJsonSchema):
    """Pydantic's own generator, where it is as lenient as the validation; else less is said."""

    _options: tuple[Node, ...] = ()

    def _option(self, name: str) -> Any:
        return self._options[-1].get(name) if self._options else None

    def _is_strict(self, schema: Any) -> bool:
        return bool(schema.get("strict", self._option("strict")))

    def int_schema(self, schema: Any) -> Node:
        """Also of text and of true and false."""
        made = super().int_schema(schema)
        return (
            made if self._is_strict(schema) else {**made, "type": ["integer", "boolean", "string"], "pattern": INTEGER}
        )

    def float_schema(self, schema: Any) -> Node:
        """Also of text and of true and false."""
        made = super().float_schema(schema)
        return made if self._is_strict(schema) else {**made, "type": ["number", "boolean", "string"], "pattern": NUMBER}

    def bool_schema(self, schema: Any) -> Node:
        """Also of 0 and 1, as numbers and as text."""
        made = super().bool_schema(schema)
        return (
            made if self._is_strict(schema) else {**made, "type": ["boolean", "number", "string"], "pattern": BOOLEAN}
        )

    def decimal_schema(self, schema: Any) -> Node:  # noqa: ARG002 - it is the generator's
        """Of a number, or any text."""
        return {"type": ["number", "boolean", "string"]}

    def _moment(self, made: Node) -> Node:
        return {**made, "type": ["string", "number"]} if made.get("type") == "string" else made

    def date_schema(self, schema: Any) -> Node:
        """Also of a number."""
        return self._moment(super().date_schema(schema))

    def time_schema(self, schema: Any) -> Node:
        """Also of a number."""
        return self._moment(super().time_schema(schema))

    def datetime_schema(self, schema: Any) -> Node:
        """Also of a number."""
        return self._moment(super().datetime_schema(schema))

    def timedelta_schema(self, schema: Any) -> Node:
        """Also of a number."""
        return self._moment(super().timedelta_schema(schema))

    def str_schema(self, schema: Any) -> Node:
        """Of any text where it is changed before it is looked at, and of a number where that is allowed."""
        changed = any(schema.get(name) or self._option(f"str_{name}") for name in _OF_STR)
        number = schema.get("coerce_numbers_to_str", self._option("coerce_numbers_to_str"))
        made = {"type": "string"} if changed else super().str_schema(schema)
        return {"type": ["string", "number"]} if number else made

    def enum_schema(self, schema: Any) -> Node:
        """Of anything, where the members are not text only."""
        made = super().enum_schema(schema)
        return {} if takes_more(schema["cls"]) else self._of_text(made)

    def literal_schema(self, schema: Any) -> Node:
        """Of anything, where the values are not text only: True is 1."""
        return self._of_text(super().literal_schema(schema))

    def _of_text(self, made: Node) -> Node:
        return made if all(isinstance(one, str) for one in made.get("enum", [made.get("const")])) else {}

    def complex_schema(self, schema: Any) -> Node:  # noqa: ARG002 - it is the generator's
        """Of anything."""
        return {}

    def named_tuple_schema(self, schema: Any) -> Node:
        """Of a list, or of an object."""
        return {"anyOf": [super().named_tuple_schema(schema), {"type": "object"}]}

    def call_schema(self, schema: Any) -> Node:
        """Of a list, or of an object: as which Pydantic up to 2.13 sees a named tuple."""
        return {"anyOf": [super().call_schema(schema), {"type": "object"}]}

    def generator_schema(self, schema: Any) -> Node:  # noqa: ARG002 - it is the generator's
        """Of anything that can be gone through, with items that nobody looks at before."""
        return {}

    def dataclass_schema(self, schema: Any) -> Node:
        """A dataclass has its own settings, not those of the model it stands in."""
        before, self._options = self._options, (*self._options, dict(schema.get("config") or {}))
        try:
            return super().dataclass_schema(schema)
        finally:
            self._options = before

    def function_before_schema(self, schema: Any) -> Node:
        """Of anything: the author's code sees it first."""
        return self._of_function(schema, super().function_before_schema(schema))

    def function_wrap_schema(self, schema: Any) -> Node:
        """Of anything: the author's code sees it first."""
        return self._of_function(schema, super().function_wrap_schema(schema))

    def function_plain_schema(self, schema: Any) -> Node:
        """Of anything: the author's code sees it first."""
        return self._of_function(schema, super().function_plain_schema(schema))

    def _of_function(self, schema: Any, made: Node) -> Node:
        module = str(getattr(schema["function"]["function"], "__module__", ""))
        return made if module.partition(".")[0] in ("pydantic", "pydantic_core") else {}

    def model_schema(self, schema: Any) -> Node:
        """Where a field has several names, the schema does not say which are missing or too many."""
        options: Node = dict(getattr(schema["cls"], "model_config", {}))
        before = self._options
        self._options = (*before, options)
        try:
            made = super().model_schema(schema)
        finally:
            self._options = before
        fields: dict[str, Any] = getattr(schema["cls"], "model_fields", {})
        by_name = options.get("populate_by_name") or options.get("validate_by_name")
        aliased = [field.validation_alias for field in fields.values() if field.validation_alias is not None]
        if aliased and (by_name or any(not isinstance(alias, str) for alias in aliased)):
            made.pop("required", None)
            made.pop("additionalProperties", None)
        return made
