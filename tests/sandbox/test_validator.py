"""The strict judge of bodies, and the facts it judges by."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, FieldSchema, JsonType, ObjectSchema, parse_endpoint
from wxtcb.sandbox.validator import check_action_matches, check_body, check_duplicate_keys, check_query

from .sandbox_harness import CREATE, ESTABLISH, SHARE, TOKEN

SERVICE = {"env_id": "e-1", "service_name": "s", "is_public": True}
VALUES = {
    JsonType.STRING: st.text(min_size=1, max_size=5),
    JsonType.INTEGER: st.integers(-5, 5),
    JsonType.NUMBER: st.floats(allow_nan=False),
    JsonType.BOOLEAN: st.booleans(),
}


def bodies(shape: ObjectSchema) -> st.SearchStrategy[dict[str, Any]]:
    """Generate bodies that the facts allow."""
    must = {field.name: values(field) for field in shape.required}
    may = {name: values(field) for name, field in shape.fields.items() if not field.required}
    return st.fixed_dictionaries(must, optional=may)


def values(field: FieldSchema) -> st.SearchStrategy[Any]:
    """Generate values that a field may have."""
    one = bodies(field.object_schema) if field.object_schema else VALUES[field.json_type]
    return st.lists(one, min_size=1, max_size=3) if field.is_array else one


def keys(node: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Walk every key of a body as the steps that lead to it."""
    if isinstance(node, dict | list):
        for step, inner in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(node, dict):
                yield (*steps, step)
            yield from keys(inner, (*steps, step))


def holder(body: Any, steps: tuple[Any, ...]) -> Any:
    """Return the object in which the last step is a key."""
    for step in steps[:-1]:
        body = body[step]
    return body


@given(st.data())
def test_a_body_made_from_the_facts_is_accepted_and_one_broken_key_is_not(data: st.DataObject) -> None:
    """What the facts allow passes; with any one key renamed, or made null, it is refused with that key's name."""
    call = ENDPOINT_SCHEMAS[data.draw(st.sampled_from(sorted(ENDPOINT_SCHEMAS)))]
    action = data.draw(st.sampled_from(sorted(call.body_schemas, key=str)))
    named = {} if action is None else {"action": action}
    body = data.draw(bodies(call.body_schemas[action])) | named
    check_body(call, body)
    places = [steps for steps in keys(body) if steps != ("action",)]
    if places:
        steps = data.draw(st.sampled_from(places))
        renamed, nulled = copy.deepcopy(body), copy.deepcopy(body)
        holder(renamed, steps)[f"{steps[-1]}_"] = holder(renamed, steps).pop(steps[-1])
        holder(nulled, steps)[steps[-1]] = None
        for broken in (renamed, nulled):
            with pytest.raises(PlatformError, match=steps[-1]) as refused:
                check_body(call, broken)
            assert refused.value.errcode == 40097


@pytest.mark.parametrize(
    ("path", "body", "errcode", "words"),
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
def test_a_wrong_body_is_refused_with_its_path(path: str, body: dict[str, object], errcode: int, words: str) -> None:
    """Each way of being wrong has its errcode, and the message names the JSON path."""
    with pytest.raises(PlatformError, match=words) as refused:
        check_body(ENDPOINT_SCHEMAS[path], body)
    assert refused.value.errcode == errcode


@pytest.mark.parametrize(
    ("body", "errcode", "words"),
    [
        ({"env": "e"}, 40101, "missing parameter: action"),
        ({"env": "e", "action": None}, 40101, "missing parameter: action"),
        ({"env": "e", "action": "drop"}, 40097, "action is none of this path's"),
        ({"env": "e", "action": ["add"]}, 40097, "action is none of this path's"),
        ({"env": "e", "action": "add"}, 40101, "missing parameter: collection_name"),
        ({"env": "e", "action": "add", "collection_name": "c", "limit": 1}, 40097, "unknown field limit"),
    ],
)
def test_the_action_says_what_a_body_may_hold(body: dict[str, object], errcode: int, words: str) -> None:
    """It is one of the path's, and a field of another action is unknown."""
    with pytest.raises(PlatformError, match=words) as refused:
        check_body(ENDPOINT_SCHEMAS["/componenttcb/dbcollection"], body)
    assert refused.value.errcode == errcode


def test_query_and_body_name_one_action() -> None:
    """Where the query names none, the body's counts."""
    check_action_matches({"action": "get"}, {"action": "get"})
    check_action_matches({}, {"action": "get"})
    with pytest.raises(PlatformError, match=r"\?action is not that of the body"):
        check_action_matches({"action": "get"}, {"action": "add"})


@pytest.mark.parametrize("raw", [b"{}", b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}', b'{"a": 1' + b"0" * 5000 + b"}"])
def test_a_key_may_stand_in_many_objects(raw: bytes) -> None:
    """Only within one object a key must not come again; long numbers do not matter."""
    check_duplicate_keys(raw)


def test_a_body_that_is_nested_too_deep_is_refused() -> None:
    """It is a flaw of the body, not a failure of the sandbox."""
    with pytest.raises(PlatformError, match="nested too deep") as refused:
        check_duplicate_keys(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    assert refused.value.errcode == 47001


def test_a_number_may_be_whole_or_not() -> None:
    """A field of type number takes both, an integer field only whole ones."""
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


def test_a_field_can_have_its_place_in_the_query() -> None:
    """There it is judged as strictly as in the body; one of both places is asked for in both."""
    call = parse_endpoint(
        {
            "name": "x",
            "path": "/x",
            "method": "POST",
            "credential": "component",
            "fields": [
                {"name": "env", "type": "string", "required": True, "place": "query"},
                {"name": "action", "type": "string", "required": True, "place": "query+body"},
            ],
            "errcodes": [],
        }
    )
    check_query(call, {"access_token": "", "env": "e", "action": "get"})
    check_body(call, {"action": "get"})
    for query, errcode in (({"env": "e"}, 40101), ({"env": "", "action": "get"}, 40097), ({"envs": "e"}, 40097)):
        with pytest.raises(PlatformError, match=r"\?") as refused:
            check_query(call, query)
        assert refused.value.errcode == errcode
    with pytest.raises(PlatformError, match="unknown field env"):
        check_body(call, {"action": "get", "env": "e"})


def test_facts_and_handlers_name_the_same_paths() -> None:
    """No call is described without being simulated, and none simulated without being described."""
    assert ENDPOINT_SCHEMAS.keys() == HANDLERS.keys()
