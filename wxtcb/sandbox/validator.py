"""The one strict judge of request bodies: what the facts do not name is refused, with its JSON path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import TOKEN_PARAM
from wxtcb.sandbox.schema import Credential, EndpointSchema, FieldSchema, JsonType, ObjectSchema

__all__ = ["check_action_matches", "check_body", "check_duplicate_keys", "check_query"]

# `type(value) is`, not isinstance: a JSON true is no integer although a Python bool is one.
_PYTHON_TYPES: Final[dict[JsonType, tuple[type, ...]]] = {
    JsonType.STRING: (str,),
    JsonType.INTEGER: (int,),
    JsonType.NUMBER: (int, float),
    JsonType.BOOLEAN: (bool,),
    JsonType.OBJECT: (dict,),
}


def check_query(schema: EndpointSchema, query: Mapping[str, str]) -> None:
    """Judge the query as strictly as the body: stray parameters hide misspelt ones. The token is judged elsewhere."""
    _reject_duplicate_names(query.items(), "?")
    own = {name: value for name, value in query.items() if name != TOKEN_PARAM or schema.credential is Credential.NONE}
    _check_object(schema.query_schema, own, "?")


def check_duplicate_keys(raw_body: bytes) -> None:
    """Refuse a body in which an object has a key twice, of which readers of JSON keep one in silence."""
    try:
        _DUPLICATE_KEY_DECODER.decode(raw_body.decode())
    except RecursionError:
        raise platform_error(47001, "$ is nested too deep") from None


def check_action_matches(query: Mapping[str, str], body: Mapping[str, object]) -> None:
    """Refuse a request whose query and body name different actions."""
    if query.get("action", body.get("action")) != body.get("action"):
        raise platform_error(40097, "?action is not that of the body")


def check_body(schema: EndpointSchema, body: Mapping[str, object]) -> None:
    """Pass in silence, or raise `PlatformError` for the first key that is unknown, null, mistyped, missing or empty.

    A path that does several things has a shape for each, by the action in its body.
    """
    _check_object(_select_schema(schema, body), body, "")


def _select_schema(schema: EndpointSchema, body: Mapping[str, object]) -> ObjectSchema:
    if None in schema.body_schemas:
        return schema.body_schemas[None]
    action = body.get("action")
    if action is None:
        raise platform_error(40101, "action")
    if not isinstance(action, str) or action not in schema.body_schemas:
        raise platform_error(40097, "action is none of this path's")
    return schema.body_schemas[action]


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
        _check_list(field, value, path)
    else:
        _check_value(field, value, path)
    if field.required and value in ("", []):
        raise platform_error(field.empty_errcode, f"{path} is empty")


def _check_list(field: FieldSchema, value: object, path: str) -> None:
    _reject_null(value, path)
    if type(value) is not list:
        raise platform_error(47001, f"{path} must be array")
    for index, item in enumerate(cast("list[object]", value)):
        _check_value(field, item, f"{path}[{index}]")


def _check_value(field: FieldSchema, value: object, path: str) -> None:
    _reject_null(value, path)
    if type(value) not in _PYTHON_TYPES[field.json_type]:
        raise platform_error(47001, f"{path} must be {field.json_type.value}")
    if field.object_schema is not None:
        _check_object(field.object_schema, cast("dict[str, object]", value), f"{path}.")


def _reject_duplicate_names(pairs: Iterable[tuple[str, object]], path: str = "") -> None:
    known: set[str] = set()
    for name, _ in pairs:
        if name in known:
            raise platform_error(40097, f"{path}{name} is there twice")
        known.add(name)


_DUPLICATE_KEY_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_names, parse_int=str, parse_float=str
)


def _reject_null(value: object, path: str) -> None:
    if value is None:
        raise platform_error(40097, f"{path} is null")
