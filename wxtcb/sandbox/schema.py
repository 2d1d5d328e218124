"""What a request may hold, read once from `facts/*.json` into tables that are quick to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from importlib import resources
from typing import Final, Literal, Required, TypedDict, cast

import orjson
from attrs import frozen

__all__ = ["CALLS", "MOST", "SECRETS", "Call", "Credential", "Field", "Kind", "Shape", "read_call"]

MOST: Final = 1 << 20
_GROUPS: Final = ("environment", "database", "storage", "hosting", "functions", "cloudrun", "containers", "token")


class Kind(Enum):
    """The JSON kind a value must have."""

    TEXT = "string"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "boolean"
    OBJECT = "object"


class Credential(Enum):
    """What a call must carry in its query."""

    COMPONENT = "component"
    NONE = "none"


class _FieldFact(TypedDict, total=False):
    name: Required[str]
    type: Required[str]
    required: bool
    missing: int
    secret: bool
    place: Literal["body", "query", "query+body"]
    when: list[str]
    children: list[_FieldFact]


class _CallFact(TypedDict, total=False):
    name: Required[str]
    path: Required[str]
    method: Required[Literal["POST"]]
    credential: Required[str]
    actions: list[str]
    body: Literal["json", "raw"]
    most: int
    authorizer: bool
    fields: Required[list[_FieldFact]]
    errcodes: Required[list[int]]


@frozen
class Field:
    """One key of a request; `absent` is the errcode for leaving it out, `empty` the one for `""`.

    What a `secret` one held is not remembered.
    """

    name: str
    kind: Kind
    many: bool
    required: bool
    absent: int
    empty: int
    secret: bool
    shape: Shape | None


@frozen
class Shape:
    """The keys an object may hold."""

    fields: dict[str, Field]
    required: tuple[Field, ...]


@frozen
class Call:
    """One path as the platform documents it; `query` holds what goes there beside the credential.

    `shapes` are those of the body by its action, under None where there is but one. A `raw` body is not looked into.
    A body may have up to `most` bytes. Where `authorizer`, the token of an authoriser will do as well.
    """

    name: str
    path: str
    method: str
    credential: Credential
    query: Shape
    shapes: Mapping[str | None, Shape]
    raw: bool
    most: int
    authorizer: bool
    errcodes: frozenset[int]


def _holds(fact: _FieldFact, action: str | None) -> bool:
    return action is None or action in fact.get("when", (action,))


def _place(fact: _FieldFact) -> str:
    return fact.get("place", "body")


def _read_field(fact: _FieldFact, action: str | None) -> Field:
    stated = fact["type"]
    many = stated.startswith("array<")
    missing = fact.get("missing")
    return Field(
        name=fact["name"],
        kind=Kind(stated[len("array<") : -1] if many else stated),
        many=many,
        required=fact.get("required", False),
        absent=missing or 40101,
        empty=missing or 40097,
        secret=fact.get("secret", False),
        shape=_read_shape(fact["children"], action) if "children" in fact else None,
    )


def _read_shape(facts: Iterable[_FieldFact], action: str | None = None) -> Shape:
    """Read the keys of an object, without those that belong to other actions."""
    fields = {fact["name"]: _read_field(fact, action) for fact in facts if _holds(fact, action)}
    return Shape(fields, tuple(field for field in fields.values() if field.required))


def read_call(fact: _CallFact) -> Call:
    """Turn one entry of a facts file into its table."""
    body = [field for field in fact["fields"] if "body" in _place(field)]
    return Call(
        name=fact["name"],
        path=fact["path"],
        method=fact["method"],
        credential=Credential(fact["credential"]),
        query=_read_shape([field for field in fact["fields"] if "query" in _place(field)]),
        shapes={action: _read_shape(body, action) for action in fact.get("actions", [None])},
        raw=fact.get("body") == "raw",
        most=fact.get("most", MOST),
        authorizer=fact.get("authorizer", False),
        errcodes=frozenset(fact["errcodes"]),
    )


def _read_group(group: str) -> list[Call]:
    text = resources.files("wxtcb.sandbox").joinpath("facts", f"{group}.json").read_bytes()
    return [read_call(fact) for fact in cast("list[_CallFact]", orjson.loads(text))]


CALLS: Final[dict[str, Call]] = {call.path: call for group in _GROUPS for call in _read_group(group)}


def _secret_names(shape: Shape) -> Iterator[str]:
    for field in shape.fields.values():
        if field.secret:
            yield field.name
        if field.shape is not None:
            yield from _secret_names(field.shape)


SECRETS: Final = frozenset(
    name for call in CALLS.values() for shape in call.shapes.values() for name in _secret_names(shape)
)
