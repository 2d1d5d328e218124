"""The one strict judge of request bodies: what the facts do not name is refused, with its JSON path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import CREDENTIAL
from wxtcb.sandbox.schema import Call, Credential, Field, Kind, Shape

__all__ = ["check_action", "check_body", "check_keys", "check_query"]

# `type(value) is`, not isinstance: a JSON true is no integer although a Python bool is one.
_ACCEPTED: Final[dict[Kind, tuple[type, ...]]] = {
    Kind.TEXT: (str,),
    Kind.INTEGER: (int,),
    Kind.NUMBER: (int, float),
    Kind.FLAG: (bool,),
    Kind.OBJECT: (dict,),
}


def check_query(call: Call, query: Mapping[str, str]) -> None:
    """Judge the query as strictly as the body: stray parameters hide misspelt ones. The token is judged elsewhere."""
    _refuse_doubles(query.items(), "?")
    own = {name: value for name, value in query.items() if name != CREDENTIAL or call.credential is Credential.NONE}
    _check_object(call.query, own, "?")


def check_keys(raw: bytes) -> None:
    """Refuse a body in which an object has a key twice, of which readers of JSON keep one in silence."""
    try:
        _KEYS.decode(raw.decode())
    except RecursionError:
        raise refuse(47001, "$ is nested too deep") from None


def check_action(query: Mapping[str, str], body: Mapping[str, object]) -> None:
    """Refuse a request whose query and body name different actions."""
    if query.get("action", body.get("action")) != body.get("action"):
        raise refuse(40097, "?action is not that of the body")


def check_body(call: Call, body: Mapping[str, object]) -> None:
    """Pass in silence, or raise `Refused` for the first key that is unknown, null, mistyped, missing or empty.

    A path that does several things has a shape for each, by the action in its body.
    """
    _check_object(_shape_of(call, body), body, "")


def _shape_of(call: Call, body: Mapping[str, object]) -> Shape:
    if None in call.shapes:
        return call.shapes[None]
    action = body.get("action")
    if action is None:
        raise refuse(40101, "action")
    if not isinstance(action, str) or action not in call.shapes:
        raise refuse(40097, "action is none of this path's")
    return call.shapes[action]


def _check_object(shape: Shape, value: Mapping[str, object], path: str) -> None:
    for name, inner in value.items():
        field = shape.fields.get(name)
        if field is None:
            raise refuse(40097, f"unknown field {path}{name}")
        _check_field(field, inner, f"{path}{name}")
    for field in shape.required:
        if field.name not in value:
            raise refuse(field.absent, f"{path}{field.name}")


def _check_field(field: Field, value: object, path: str) -> None:
    if field.many:
        _check_list(field, value, path)
    else:
        _check_value(field, value, path)
    if field.required and value in ("", []):
        raise refuse(field.empty, f"{path} is empty")


def _check_list(field: Field, value: object, path: str) -> None:
    _refuse_null(value, path)
    if type(value) is not list:
        raise refuse(47001, f"{path} must be array")
    for index, item in enumerate(cast("list[object]", value)):
        _check_value(field, item, f"{path}[{index}]")


def _check_value(field: Field, value: object, path: str) -> None:
    _refuse_null(value, path)
    if type(value) not in _ACCEPTED[field.kind]:
        raise refuse(47001, f"{path} must be {field.kind.value}")
    if field.shape is not None:
        _check_object(field.shape, cast("dict[str, object]", value), f"{path}.")


def _refuse_doubles(pairs: Iterable[tuple[str, object]], path: str = "") -> None:
    known: set[str] = set()
    for name, _ in pairs:
        if name in known:
            raise refuse(40097, f"{path}{name} is there twice")
        known.add(name)


_KEYS: Final = json.JSONDecoder(object_pairs_hook=_refuse_doubles, parse_int=str, parse_float=str)


def _refuse_null(value: object, path: str) -> None:
    if value is None:
        raise refuse(40097, f"{path} is null")
