"""JSON Schemas of records, and examples that follow from them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from chatapi.protocol.queries import Query

Schema = dict[str, Any]

_REF = "#/components/schemas/"


class Schemas:
    """The schemas of the records of one document; `components` holds each once, by its name."""

    def __init__(self, records: Iterable[Any]) -> None:
        """A record may also be a type annotated with its bounds."""
        self._records = list(dict.fromkeys(records))
        schemas, self.components = msgspec.json.schema_components(
            self._records, schema_hook=_describe_anything, ref_template=_REF + "{name}"
        )
        self._schemas: dict[Any, Schema] = dict(zip(self._records, schemas, strict=True))
        queries = {
            record.__name__ for record in self._records if isinstance(record, type) and issubclass(record, Query)
        }
        for name, schema in self.components.items():
            (_leave_out_null if name in queries else _tell_defaults_in_words)(schema.get("properties", {}))

    def get(self, record: Any) -> Schema:
        """A reference to a record, or the schema itself of any other type."""
        return self._schemas[record]

    def properties_of(self, record: Any) -> dict[str, Schema]:
        """The schemas of a record's fields."""
        properties: dict[str, Schema] = self.resolve(self.get(record))["properties"]
        return properties

    def resolve(self, schema: Schema) -> Schema:
        return self.components[schema["$ref"].removeprefix(_REF)] if "$ref" in schema else schema

    def example_of(self, schema: Schema) -> Any:
        """Made of the examples of its parts. An optional part without an example is left out.

        Raises ValueError for a required part without one.
        """
        if "examples" in schema:
            return schema["examples"][0]
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return self.example_of(schema["anyOf"][0])
        for given in ("const", "default"):
            if given in schema:
                return schema[given]
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "array":
            return [self.example_of(schema["items"])]
        if "properties" in schema:
            required = schema.get("required", ())
            return {
                name: self.example_of(part)
                for name, part in schema["properties"].items()
                if name in required or self._has_example(part)
            }
        raise ValueError(f"no example for {schema}")

    def _has_example(self, schema: Schema) -> bool:
        parts = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
        return "examples" in schema or any(map(self._has_example, parts))


def _leave_out_null(properties: dict[str, Schema]) -> None:
    """A query has no way to say null: there a field is absent instead."""
    for name, part in properties.items():
        if part.get("default", ...) is None:
            (properties[name],) = (choice for choice in part["anyOf"] if choice != {"type": "null"})


def _tell_defaults_in_words(properties: dict[str, Schema]) -> None:
    """Generators of TypeScript take a field with a default for one that is always there, and demand it in requests."""
    for name, part in properties.items():
        default = part.pop("default", None)
        if not default and default is not False:
            continue
        said = f"default: {msgspec.json.encode(default).decode()}"
        whole = {"allOf": [part]} if "$ref" in part else part
        properties[name] = {
            **whole,
            "description": f"{whole['description']}; {said}" if "description" in whole else said,
        }


def get_type(record: type[msgspec.Struct]) -> str:
    """The `type` that a frame, or a call of a webhook, carries."""
    return str(record.__struct_config__.tag)


def _describe_anything(record: type) -> Schema:
    if record is object:
        return {"description": "any JSON value"}
    raise NotImplementedError  # so msgspec wants it of a hook that does not know the type
