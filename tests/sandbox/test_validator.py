"""Strict validation of bodies, and the facts it is based on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.routes import HANDLERS
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, FieldSchema, JsonType, ObjectSchema, parse_endpoint
from wxtcb.sandbox.validator import check_body, check_duplicate_keys, check_query, merge_action

from .sandbox_harness import CREATE, ESTABLISH, SHARE, TOKEN

SERVICE = {"env_id": "e-1", "service_name": "s", "is_public": True}
VALUES = {
    JsonType.STRING: st.text(min_size=1, max_size=5),
    JsonType.INTEGER: st.integers(-5, 5),
    JsonType.NUMBER: st.floats(allow_nan=False),
    JsonType.BOOLEAN: st.booleans(),
}


def bodies(schema: ObjectSchema) -> st.SearchStrategy[dict[str, Any]]:
    """Generate bodies that the facts allow."""
    required = {field.name: values(field) for field in schema.required}
    optional = {name: values(field) for name, field in schema.fields.items() if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


def values(field: FieldSchema) -> st.SearchStrategy[Any]:
    """Generate values that a field may have."""
    one = bodies(field.object_schema) if field.object_schema else VALUES[field.json_type]
    return st.lists(one, min_size=1, max_size=3) if field.is_array else one


def keys(node: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key of a body."""
    if isinstance(node, dict | list):
        for step, inner in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(node, dict):
                yield (*steps, step)
            yield from keys(inner, (*steps, step))


def parent_of(body: Any, steps: tuple[Any, ...]) -> Any:
    """Return the object that contains the last key of a path."""
    for step in steps[:-1]:
        body = body[step]
    return body


@given(st.data())
def test_generated_body_is_valid_until_one_key_is_changed(data: st.DataObject) -> None:
    """A body that the facts allow is accepted; with one key renamed or null it is rejected by the name of the key."""
    call = ENDPOINT_SCHEMAS[data.draw(st.sampled_from(sorted(ENDPOINT_SCHEMAS)))]
    action = data.draw(st.sampled_from(sorted(call.body_schemas, key=str)))
    selected = {} if action is None else {"action": action}
    body = data.draw(bodies(call.body_schemas[action])) | selected
    check_body(call, body)
    paths = [steps for steps in keys(body) if steps != ("action",)]
    if paths:
        steps = data.draw(st.sampled_from(paths))
        renamed, nulled = copy.deepcopy(body), copy.deepcopy(body)
        parent_of(renamed, steps)[f"{steps[-1]}_"] = parent_of(renamed, steps).pop(steps[-1])
        parent_of(nulled, steps)[steps[-1]] = None
        for broken in (renamed, nulled):
            with pytest.raises(PlatformError, match=steps[-1]) as caught:
                check_body(call, broken)
            assert caught.value.errcode == 40097


@pytest.mark.parametrize(
    ("path", "body", "errcode", "pattern"),
    [
        (CREATE, {}, 40101, "missing parameter: alias"),
        (CREATE, {"alias": ""}, 40097, "alias is empty"),
        (CREATE, {"alias": 1}, 47001, "alias must be string"),
        (SHARE, {"data": []}, 40097, "data is empty"),
        (SHARE, {"data": {}}, 47001, "data must be array"),
        (SHARE, {"data": None}, 40097, "data is null"),
        (SHARE, {"data": [{"env": "e"}]}, 40101, r"data\[0\].appids"),
        (SHARE, {"data": [{"env": "e", "appids": [None]}]}, 40097, r"data\[0\].appids\[0\] is null"),
        (SHARE, {"data": [{"env": "e", "appids": ["a"], "x": 1}]}, 40097, r"unknown field data\[0\].x"),
        (ESTABLISH, {**SERVICE, "public_access": True}, 47001, "public_access must be integer"),
        (ESTABLISH, {**SERVICE, "is_public": 1}, 47001, "is_public must be boolean"),
        (ESTABLISH, {**SERVICE, "es_info": {"Ip": "1"}}, 40097, "unknown field es_info.Ip"),
        (ESTABLISH, {**SERVICE, "vpc_info": []}, 47001, "vpc_info must be object"),
        (TOKEN, {"component_appsecret": "s", "component_verify_ticket": "t"}, 41018, "component_appid"),
        (TOKEN, {"component_appid": "a", "component_appsecret": "", "component_verify_ticket": "t"}, 41004, "secret"),
    ],
)
def test_invalid_body_is_rejected_with_its_path(path: str, body: dict[str, object], errcode: int, pattern: str) -> None:
    """Each kind of error has its errcode, and the message has the JSON path."""
    with pytest.raises(PlatformError, match=pattern) as caught:
        check_body(ENDPOINT_SCHEMAS[path], body)
    assert caught.value.errcode == errcode


@pytest.mark.parametrize(
    ("body", "errcode", "pattern"),
    [
        ({"env": "e"}, 40101, "missing parameter: action"),
        ({"env": "e", "action": None}, 40101, "missing parameter: action"),
        ({"env": "e", "action": "drop"}, 40097, "action is not supported"),
        ({"env": "e", "action": ["add"]}, 40097, "action is not supported"),
        ({"env": "e", "action": "add"}, 40101, "missing parameter: collection_name"),
        ({"env": "e", "action": "add", "collection_name": "c", "limit": 1}, 40097, "unknown field limit"),
    ],
)
def test_action_selects_the_allowed_fields(body: dict[str, object], errcode: int, pattern: str) -> None:
    """The action must be one of the path, and a field of another action is unknown."""
    with pytest.raises(PlatformError, match=pattern) as caught:
        check_body(ENDPOINT_SCHEMAS["/componenttcb/dbcollection"], body)
    assert caught.value.errcode == errcode


@pytest.mark.parametrize(
    ("query", "body"), [({"action": "get"}, {}), ({}, {"action": "get"}), ({"action": "get"},) * 2]
)
def test_action_may_be_in_query_or_body(query: dict[str, str], body: dict[str, object]) -> None:
    """The action is taken from query or body, or from both if they are equal."""
    assert merge_action(query, body) == {"action": "get"}


@pytest.mark.parametrize("other", ["add", None, 1])
def test_different_actions_in_query_and_body_are_rejected(other: object) -> None:
    """An action in the body that differs from the one in the query is rejected."""
    with pytest.raises(PlatformError, match=r"\?action differs"):
        merge_action({"action": "get"}, {"action": other})


@pytest.mark.parametrize("raw", [b"{}", b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}', b'{"a": 1' + b"0" * 5000 + b"}"])
def test_same_key_in_other_objects_is_allowed(raw: bytes) -> None:
    """Only keys within one object must differ; long numbers are allowed."""
    check_duplicate_keys(raw)


def test_too_deeply_nested_body_is_rejected() -> None:
    """Too deep nesting is an error of the body, not a failure of the sandbox."""
    with pytest.raises(PlatformError, match="nested too deep") as caught:
        check_duplicate_keys(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    assert caught.value.errcode == 47001


def test_number_field_accepts_integers() -> None:
    """A field of type number accepts integers and fractions, an integer field integers only."""
    call = parse_endpoint(
        {
            "name": "x",
            "path": "/x",
            "method": "POST",
            "credential": "none",
            "fields": [{"name": "n", "type": "number"}, {"name": "i", "type": "integer"}],
            "errcodes": [],
        }
    )
    check_body(call, {"n": 1.5, "i": 2})
    check_body(call, {"n": 1})
    with pytest.raises(PlatformError, match="i must be integer"):
        check_body(call, {"i": 2.0})


def test_field_can_be_in_the_query() -> None:
    """A field in the query is validated like one in the body; one that may be in either place is optional there."""
    call = parse_endpoint(
        {
            "name": "x",
            "path": "/x",
            "method": "POST",
            "credential": "component",
            "fields": [
                {"name": "env", "type": "string", "required": True, "place": "query"},
                {"name": "action", "type": "string", "required": True, "place": "query or body"},
            ],
            "errcodes": [],
        }
    )
    check_query(call, {"access_token": "", "env": "e", "action": "get"})
    check_query(call, {"env": "e"})
    check_body(call, {"action": "get"})
    for query, errcode in (({"action": "get"}, 40101), ({"env": "", "action": "get"}, 40097), ({"envs": "e"}, 40097)):
        with pytest.raises(PlatformError, match=r"\?") as caught:
            check_query(call, query)
        assert caught.value.errcode == errcode
    with pytest.raises(PlatformError, match="unknown field env"):
        check_body(call, {"action": "get", "env": "e"})


def test_facts_and_handlers_have_the_same_paths() -> None:
    """Every described call is simulated, and every simulated call is described."""
    assert ENDPOINT_SCHEMAS.keys() == HANDLERS.keys()
