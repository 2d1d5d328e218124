"""Check of a request body against the documentation of the platform, before a command sends it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Set as AbstractSet
from typing import Final, cast

from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.cli.config import credential_fields
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, FieldSchema, JsonType, ObjectSchema
from wxtcb.secret import Secret

# Compared with `type(value)`: a JSON true is not an integer, although a Python bool is an int.
_PYTHON_TYPES: Final[Mapping[JsonType, tuple[type, ...]]] = {
    JsonType.STRING: (str, Secret),
    JsonType.INTEGER: (int,),
    JsonType.NUMBER: (int, float),
    JsonType.BOOLEAN: (bool,),
    JsonType.OBJECT: (dict,),
}


def check_body(endpoint: Endpoint[Reply], body: Mapping[str, object]) -> None:
    """Raise one `InvalidArgument` for all fields that are unknown, missing or of a wrong type; it quotes no value."""
    schema = ENDPOINT_SCHEMAS[endpoint.path]
    # Such a body belongs to the function that the call invokes.
    if schema.is_raw:
        return
    # The command adds the action and the credentials.
    added = {"action", *credential_fields(endpoint)}
    errors = list(_find_errors(schema.body_schemas[endpoint.action], body, "", added))
    if endpoint.action is not None and body.get("action", endpoint.action) != endpoint.action:
        errors.append(f"action must be {endpoint.action!r}, or be left out")
    if errors:
        raise InvalidArgument(
            f"the body of {endpoint.name}: {'; '.join(errors)}. `wxtcb call {endpoint.name} --example` prints a "
            "correct body, and --unchecked sends this one; no request was sent"
        )


def _find_errors(
    schema: ObjectSchema, value: Mapping[str, object], path: str, added: AbstractSet[str] = frozenset()
) -> Iterator[str]:
    for name, item in value.items():
        field = schema.fields.get(name)
        if field is not None:
            yield from _find_field_errors(field, item, f"{path}{name}")
        else:
            absent = [each for each in schema.fields if each not in value]
            # The cutoff is lower than the default, so that short names with two wrong letters are found.
            similar = difflib.get_close_matches(name, absent, n=1, cutoff=0.5)
            hint = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(schema.fields) or 'none'}"
            yield f"unknown field {path}{name} ({hint})"
    for field in schema.required:
        if field.name not in value and field.name not in added:
            yield f"{path}{field.name} is missing"


def _find_field_errors(field: FieldSchema, value: object, path: str) -> Iterator[str]:
    if field.is_array and not isinstance(value, list):
        yield f"{path} must be an array"
        return
    items = cast("list[object]", value) if field.is_array else [value]
    for index, item in enumerate(items):
        item_path = f"{path}[{index}]" if field.is_array else path
        if type(item) not in _PYTHON_TYPES[field.json_type]:
            yield f"{item_path} must be of type {field.json_type.value}"
        elif field.object_schema is not None:
            yield from _find_errors(field.object_schema, cast("dict[str, object]", item), f"{item_path}.")
