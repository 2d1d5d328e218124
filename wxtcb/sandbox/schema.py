"""What a request may hold, read once from `specs/*.json` into tables that are quick to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from importlib import resources
from typing import Final, Literal, Required, TypedDict, cast

import orjson
from attrs import frozen

__all__ = [
    "DEFAULT_MAX_BODY_BYTES",
    "ENDPOINT_SCHEMAS",
    "SECRET_FIELDS",
    "Credential",
    "EndpointSchema",
    "FieldSchema",
    "JsonType",
    "ObjectSchema",
    "parse_endpoint",
]

DEFAULT_MAX_BODY_BYTES: Final = 1 << 20
_FILE_NAMES: Final = ("environment", "database", "storage", "hosting", "functions", "cloudrun", "containers", "token")


class JsonType(Enum):
    """The JSON kind a value must have."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OBJECT = "object"


class Credential(Enum):
    """What a call must carry in its query."""

    COMPONENT = "component"
    NONE = "none"


class _FieldSpec(TypedDict, total=False):
    name: Required[str]
    type: Required[str]
    required: bool
    missing: int
    secret: bool
    place: Literal["body", "query", "query+body"]
    when: list[str]
    children: list[_FieldSpec]


class _EndpointSpec(TypedDict, total=False):
    name: Required[str]
    path: Required[str]
    method: Required[Literal["POST"]]
    credential: Required[str]
    actions: list[str]
    body: Literal["json", "raw"]
    most: int
    authorizer: bool
    fields: Required[list[_FieldSpec]]
    errcodes: Required[list[int]]


@frozen
class FieldSchema:
    """One key of a request; `missing_errcode` is the errcode for leaving it out, `empty_errcode` the one for `""`.

    What a `secret` one held is not remembered.
    """

    name: str
    json_type: JsonType
    is_array: bool
    required: bool
    missing_errcode: int
    empty_errcode: int
    secret: bool
    object_schema: ObjectSchema | None


@frozen
class ObjectSchema:
    """The keys an object may hold."""

    fields: dict[str, FieldSchema]
    required: tuple[FieldSchema, ...]


@frozen
class EndpointSchema:
    """One path as the platform documents it; `query_schema` holds what goes there beside the credential.

    `body_schemas` are those of the body by its action, under None where there is but one. A `is_raw` body is not looked into.
    A body may have up to `max_body_bytes` bytes. Where `accepts_authorizer_token`, the token of an authoriser will do as well.
    """

    name: str
    path: str
    method: str
    credential: Credential
    query_schema: ObjectSchema
    body_schemas: Mapping[str | None, ObjectSchema]
    is_raw: bool
    max_body_bytes: int
    accepts_authorizer_token: bool
    errcodes: frozenset[int]


def _applies_to_action(spec: _FieldSpec, action: str | None) -> bool:
    return action is None or action in spec.get("when", (action,))


def _field_location(spec: _FieldSpec) -> str:
    return spec.get("place", "body")


def _parse_field(spec: _FieldSpec, action: str | None) -> FieldSchema:
    stated = spec["type"]
    many = stated.startswith("array<")
    missing = spec.get("missing")
    return FieldSchema(
        name=spec["name"],
        json_type=JsonType(stated[len("array<") : -1] if many else stated),
        is_array=many,
        required=spec.get("required", False),
        missing_errcode=missing or 40101,
        empty_errcode=missing or 40097,
        secret=spec.get("secret", False),
        object_schema=_parse_object(spec["children"], action) if "children" in spec else None,
    )


def _parse_object(specs: Iterable[_FieldSpec], action: str | None = None) -> ObjectSchema:
    """Read the keys of an object, without those that belong to other actions."""
    fields = {fact["name"]: _parse_field(fact, action) for fact in specs if _applies_to_action(fact, action)}
    return ObjectSchema(fields, tuple(field for field in fields.values() if field.required))


def parse_endpoint(spec: _EndpointSpec) -> EndpointSchema:
    """Turn one entry of a facts file into its table."""
    body = [field for field in spec["fields"] if "body" in _field_location(field)]
    return EndpointSchema(
        name=spec["name"],
        path=spec["path"],
        method=spec["method"],
        credential=Credential(spec["credential"]),
        query_schema=_parse_object([field for field in spec["fields"] if "query" in _field_location(field)]),
        body_schemas={action: _parse_object(body, action) for action in spec.get("actions", [None])},
        is_raw=spec.get("body") == "raw",
        max_body_bytes=spec.get("most", DEFAULT_MAX_BODY_BYTES),
        accepts_authorizer_token=spec.get("authorizer", False),
        errcodes=frozenset(spec["errcodes"]),
    )


def _load_file(file_name: str) -> list[EndpointSchema]:
    text = resources.files("wxtcb.sandbox").joinpath("facts", f"{file_name}.json").read_bytes()
    return [parse_endpoint(fact) for fact in cast("list[_EndpointSpec]", orjson.loads(text))]


ENDPOINT_SCHEMAS: Final[dict[str, EndpointSchema]] = {
    call.path: call for group in _FILE_NAMES for call in _load_file(group)
}


def _secret_names(schema: ObjectSchema) -> Iterator[str]:
    for field in schema.fields.values():
        if field.secret:
            yield field.name
        if field.object_schema is not None:
            yield from _secret_names(field.object_schema)


SECRET_FIELDS: Final = frozenset(
    name for call in ENDPOINT_SCHEMAS.values() for shape in call.body_schemas.values() for name in _secret_names(shape)
)
