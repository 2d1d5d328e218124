"""Request schemas: what a request may contain, read once from `facts/*.json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from importlib import resources
from typing import Final, Literal, Required, TypedDict

import orjson
from attrs import frozen

DEFAULT_MAX_BODY_BYTES: Final = 1 << 20
_FILE_NAMES: Final = ("environment", "database", "storage", "hosting", "functions", "cloudrun", "containers", "token")


class JsonType(Enum):
    """JSON type of a value, or of the items of an array."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OBJECT = "object"


class CredentialKind(Enum):
    """Kind of credential that a call carries in its query."""

    COMPONENT = "component"
    NONE = "none"


# The shape of the facts files.
class _FieldFacts(TypedDict, total=False):
    name: Required[str]
    type: Required[str]
    required: bool
    missing: int
    secret: bool
    place: Literal["body", "query", "query or body"]
    when: list[str]
    children: list[_FieldFacts]


class _EndpointFacts(TypedDict, total=False):
    name: Required[str]
    path: Required[str]
    method: Required[Literal["POST"]]
    credential: Required[str]
    actions: list[str]
    body: Literal["json", "raw"]
    most: int
    authorizer: bool
    fields: Required[list[_FieldFacts]]
    errcodes: Required[list[int]]


@frozen
class FieldSchema:
    """Schema of one field, with the errcodes of a required one that is missing or empty."""

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
    """Schema of an object: its fields by name, and those that are required."""

    fields: dict[str, FieldSchema]
    required: tuple[FieldSchema, ...]


@frozen
class EndpointSchema:
    """Schema of one path, as the platform documents it.

    `query_schema` omits the credential. `body_schemas` are by action; a path without actions has one under None. If
    `is_raw`, the body is not parsed. If `accepts_authorizer_token`, an authorizer's token replaces the component's.
    """

    name: str
    path: str
    method: str
    credential: CredentialKind
    query_schema: ObjectSchema
    body_schemas: Mapping[str | None, ObjectSchema]
    is_raw: bool
    max_body_bytes: int
    accepts_authorizer_token: bool
    errcodes: frozenset[int]


def parse_endpoint(facts: _EndpointFacts) -> EndpointSchema:
    """Return the schema for one entry of a facts file."""
    # A field with place "query or body" is in both schemas. In the query it is optional: the body may have it instead.
    in_body = [field for field in facts["fields"] if "body" in field.get("place", "body")]
    in_query: list[_FieldFacts] = [
        {**field, "required": field.get("required", False) and field not in in_body}
        for field in facts["fields"]
        if "query" in field.get("place", "body")
    ]
    return EndpointSchema(
        name=facts["name"],
        path=facts["path"],
        method=facts["method"],
        credential=CredentialKind(facts["credential"]),
        query_schema=_parse_object(in_query),
        body_schemas={action: _parse_object(in_body, action) for action in facts.get("actions", [None])},
        is_raw=facts.get("body") == "raw",
        max_body_bytes=facts.get("most", DEFAULT_MAX_BODY_BYTES),
        accepts_authorizer_token=facts.get("authorizer", False),
        errcodes=frozenset(facts["errcodes"]),
    )


def _parse_object(fields: Iterable[_FieldFacts], action: str | None = None) -> ObjectSchema:
    parsed = {
        facts["name"]: _parse_field(facts, action)
        for facts in fields
        if action is None or "when" not in facts or action in facts["when"]
    }
    return ObjectSchema(parsed, tuple(field for field in parsed.values() if field.required))


def _parse_field(facts: _FieldFacts, action: str | None) -> FieldSchema:
    is_array = facts["type"].startswith("array<")
    # Some fields have an errcode of their own, such as 41004 for the app secret; it covers missing and empty.
    errcode = facts.get("missing")
    return FieldSchema(
        name=facts["name"],
        json_type=JsonType(facts["type"][len("array<") : -1] if is_array else facts["type"]),
        is_array=is_array,
        required=facts.get("required", False),
        missing_errcode=errcode or 40101,
        empty_errcode=errcode or 40097,
        secret=facts.get("secret", False),
        object_schema=_parse_object(facts["children"], action) if "children" in facts else None,
    )


ENDPOINT_SCHEMAS: Final[dict[str, EndpointSchema]] = {
    facts["path"]: parse_endpoint(facts)
    for name in _FILE_NAMES
    for facts in orjson.loads(resources.files("wxtcb.sandbox").joinpath("facts", f"{name}.json").read_bytes())
}


def _secret_names(schema: ObjectSchema) -> Iterator[str]:
    for field in schema.fields.values():
        if field.secret:
            yield field.name
        if field.object_schema is not None:
            yield from _secret_names(field.object_schema)


# One set for all paths: a secret that a client sends to the wrong path must not be recorded either.
SECRET_FIELDS: Final = frozenset(
    name
    for endpoint in ENDPOINT_SCHEMAS.values()
    for schema in endpoint.body_schemas.values()
    for name in _secret_names(schema)
)
