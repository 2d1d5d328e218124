"""Strict validation of requests: anything that the facts do not name is rejected, with its JSON path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import MALFORMED_JSON, TOKEN_PARAMS
from wxtcb.sandbox.schema import CredentialKind, EndpointSchema, FieldSchema, JsonType, ObjectSchema

# Compared with `type(value)`, not by isinstance: a JSON true is not an integer, although a Python bool is an int.
_PYTHON_TYPES: Final[dict[JsonType, tuple[type, ...]]] = {
    JsonType.STRING: (str,),
    JsonType.INTEGER: (int,),
    JsonType.NUMBER: (int, float),
    JsonType.BOOLEAN: (bool,),
    JsonType.OBJECT: (dict,),
}


def check_query(schema: EndpointSchema, query: Mapping[str, str]) -> None:
    """Raise `PlatformError` for a parameter that is unknown, duplicated, missing or empty."""
    _reject_duplicate_names(query.items(), "?")
    # A call that is documented without a token must not carry one: there the token is an unknown parameter.
    needs_token = schema.credential is not CredentialKind.NONE
    own = {name: value for name, value in query.items() if name not in TOKEN_PARAMS or not needs_token}
    _check_object(schema.query_schema, own, "?")


def find_token(query: Mapping[str, str]) -> str | None:
    """Return the token of a request, under either of its names. Raises `PlatformError` if the two differ."""
    first, second = (query.get(name) for name in TOKEN_PARAMS)
    if first is not None and second is not None and first != second:
        raise platform_error(40097, f"?{TOKEN_PARAMS[1]} differs from ?{TOKEN_PARAMS[0]}")
    return second if first is None else first


def check_duplicate_keys(raw_body: bytes) -> None:
    """Raise `PlatformError` if an object in the body has a key twice."""
    # orjson silently keeps the last one of two equal keys, so the body is decoded a second time.
    try:
        _DUPLICATE_KEY_DECODER.decode(raw_body.decode())
    except RecursionError as error:
        raise platform_error(MALFORMED_JSON, "$ is nested too deep") from error


def merge_action(query: Mapping[str, str], body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the body with the action of the query. Raises `PlatformError` if the body has another one."""
    # The platform's pages disagree on the place, and programs that work send it in the query alone, in the body alone,
    # or in both. `check_query` has rejected it for paths without actions.
    action = query.get("action")
    if action is not None and body.get("action", action) != action:
        raise platform_error(40097, "?action differs from the action in the body")
    return body if action is None else {**body, "action": action}


def check_body(schema: EndpointSchema, body: Mapping[str, object]) -> None:
    """Raise `PlatformError` for the first field that is unknown, null, of a wrong type, missing or empty.

    For a path with several actions, the `action` selects the schema; `merge_action` takes it from the query.
    """
    if None in schema.body_schemas:
        _check_object(schema.body_schemas[None], body, "")
        return
    action = body.get("action")
    if action is None:
        raise platform_error(40101, "action")
    if not isinstance(action, str) or action not in schema.body_schemas:
        raise platform_error(40097, "action is not supported by this path")
    _check_object(schema.body_schemas[action], body, "")


def _check_object(schema: ObjectSchema, value: Mapping[str, object], path: str) -> None:
    for name, inner in value.items():
        field = schema.fields.get(name)
        if field is None:
            raise platform_error(40097, f"unknown field {path}{name}")
        _check_field(field, inner, f"{path}{name}")
    for field in schema.required:
        if field.name not in value:
            raise platform_error(field.missing_errcode, f"{path}{field.name}")


def _check_field(field: FieldSchema, value: object, path: str) -> None:
    if field.is_array:
        _check_type(value, (list,), "array", path)
        for index, item in enumerate(cast("list[object]", value)):
            _check_value(field, item, f"{path}[{index}]")
    else:
        _check_value(field, value, path)
    if field.required and value in ("", []):
        raise platform_error(field.empty_errcode, f"{path} is empty")


def _check_value(field: FieldSchema, value: object, path: str) -> None:
    _check_type(value, _PYTHON_TYPES[field.json_type], field.json_type.value, path)
    if field.object_schema is not None:
        _check_object(field.object_schema, cast("dict[str, object]", value), f"{path}.")


def _check_type(value: object, types: tuple[type, ...], label: str, path: str) -> None:
    # A null is nearly always an unset field that the client failed to leave out.
    if value is None:
        raise platform_error(40097, f"{path} is null")
    if type(value) not in types:
        raise platform_error(MALFORMED_JSON, f"{path} must be {label}")


def _reject_duplicate_names(pairs: Iterable[tuple[str, object]], path: str = "") -> None:
    known: set[str] = set()
    for name, _ in pairs:
        if name in known:
            raise platform_error(40097, f"{path}{name} is duplicated")
        known.add(name)


# Numbers stay strings: int() refuses more than 4,300 digits, and their values do not matter here.
_DUPLICATE_KEY_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_names, parse_int=str, parse_float=str
)
