"""Random replies: each answer of the platform becomes typed values or an error of wxtcb."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from hypothesis import given, settings

from tests.random_json import untyped_parts
from wxtcb.api import environment

from .random_replies import ENDPOINTS, REPLIES, check_reply, replies


def test_documented_replies_are_read():
    """Each endpoint has a sample, and all samples are replies."""
    assert all(REPLIES.values())
    results = {check_reply(name, orjson.dumps(sample)) for name in ENDPOINTS for sample in REPLIES[name]}
    assert results == {"reply"}


def test_value_of_another_type_is_found():
    """The check of types looks into tuples, mappings and nested classes."""
    info = environment.EnvInfo(env="e", alias=1, status="NORMAL", create_time="", update_time="")
    assert untyped_parts(environment.EnvList((info,)), environment.EnvList) == ["alias: 1"]
    assert untyped_parts({"a": ("x", 2)}, Mapping[str, tuple[str, ...]]) == ["['a'][1]: 2"]


@settings(max_examples=300)
@given(replies())
def test_any_reply_is_typed_or_an_error(reply):
    """No reply raises an exception, and each field has the type of its annotation."""
    check_reply(*reply)


def test_replies_of_every_endpoint_with_every_value_replaced():
    """Null, a list, an object, a string and a number in place of each field are read or refused."""
    for name in ENDPOINTS:
        for sample in REPLIES[name]:
            for field in sample:
                for value in (b"null", b"[]", b"{}", b'"x"', b"1", b"[null]", b"[1]", b"[{}]"):
                    check_reply(name, b'{"%s":%s}' % (field.encode(), value))
