"""Invocation of functions: the event, the result, and that it runs once."""

from __future__ import annotations

import traceback
from collections import UserDict, UserList
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import functions
from wxtcb.api.functions import InvocationResult

pytestmark = pytest.mark.virtual_time

THEIRS = "T0KEN-of-an-authoriser"
PATH = functions.INVOKE_CLOUD_FUNCTION.path
EVENTS = [
    (None, b"{}"),
    (b"", b"{}"),
    ("", b"{}"),
    ({}, b"{}"),
    ([], b"[]"),
    (b"\x00\xff raw", b"\x00\xff raw"),
    ("caf\u00e9", "caf\u00e9".encode()),
    ({"a": None, "b": [1, 2.5, True]}, b'{"a":null,"b":[1,2.5,true]}'),
    ((1, {"a": "\u00e9"}), '[1,{"a":"\u00e9"}]'.encode()),
    (MappingProxyType({"a": UserDict(b=UserList([1]))}), b'{"a":{"b":[1]}}'),
]
NO_EVENTS = [{1, 2}, object, wxtcb.Secret("hunter2"), {"a": wxtcb.Secret("hunter2")}, {"a": {1}}]
NO_EVENTS += [{5: 1}, [b"x"], bytearray(b"x"), "\udcff", {"a": "\udcff"}]
NO_EVENTS += [{"a": float("nan")}, [None, "", ({"a": UserList([float("-inf")])},)]]


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.mark.parametrize(("event", "sent"), EVENTS, ids=repr)
async def test_event_is_the_body(session, wechat, event, sent):
    """Bytes are sent unchanged, strings as UTF-8, everything else as JSON; the body is never empty."""
    await functions.invoke_cloud_function(session, "e-1", "my function", event)
    [request] = wechat.sent_to(PATH)
    assert (request.body.data, request.query) == (sent, {"env": "e-1", "name": "my function"})


@pytest.mark.parametrize("event", NO_EVENTS, ids=repr)
async def test_event_that_is_not_json_is_rejected(session, wechat, event):
    """It is rejected by name before a request is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^event ") as caught:
        await functions.invoke_cloud_function(session, "e-1", "f", event)
    assert "hunter2" not in str(caught.value)
    assert wechat.requests == []


@pytest.mark.parametrize(
    ("text", "result", "is_json"),
    [
        ('{"a": 1}', {"a": 1}, True),
        ("[1]", [1], True),
        ('"text"', "text", True),
        ("null", None, True),
        ("5", 5, True),
        ("text", "text", False),
        ("", "", False),
        ("{", "{", False),
        (None, None, False),
    ],
    ids=repr,
)
async def test_result_is_parsed_from_the_text(session, wechat, text, result, is_json):
    """JSON becomes its value, any other text is returned itself, and `is_json` says which."""
    wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", "resp_data": text}
    invoked = await functions.invoke_cloud_function(session, "e-1", "f")
    assert (invoked.resp_data, invoked.result, invoked.is_json) == (text, result, is_json)


@given(st.text())
def test_every_text_has_a_result(text):
    """No return value of a function makes reading it fail."""
    invoked = InvocationResult(text)
    assert invoked.is_json or invoked.result == text


@pytest.mark.parametrize(
    "step", [-1, -1000, SendFailure("lost", sent=True), SendFailure("late", sent=True, timeout=True)]
)
async def test_ambiguous_invocation_is_never_repeated(session, wechat, step):
    """Not even -1 under a policy that repeats busy creates: a function may do anything."""
    wechat.play(PATH, step)
    with pytest.raises(wxtcb.OutcomeUnknown) as caught:
        await functions.invoke_cloud_function(session, "e-1", "f")
    assert len(wechat.sent_to(PATH)) == 1
    assert caught.value.maybe_acted == 1


@pytest.mark.parametrize("step", [42001, 45011, SendFailure("refused", sent=False)])
async def test_invocation_that_did_not_run_is_repeated(session, wechat, step):
    """An invalid token, the rate limit and a request that was not sent are repeated."""
    wechat.play(PATH, step)
    assert (await functions.invoke_cloud_function(session, "e-1", "f")).maybe_acted == 0
    assert len(wechat.sent_to(PATH)) == 2


@pytest.mark.parametrize(
    "token", ["T0KEN-of-an-authoriser", wxtcb.Secret("T0KEN-of-an-authoriser")], ids=["text", "secret"]
)
async def test_token_of_an_authoriser_is_used_unchanged(session, wechat, token):
    """No token is fetched or refreshed, and no frame of the error shows it."""
    wechat.play(PATH, 42001)
    with pytest.raises(wxtcb.ApiError) as caught:
        await functions.invoke_cloud_function(session, "e-1", "f", token=token)
    [request] = wechat.requests
    assert request.token.reveal() == THEIRS
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = [frame for frame in trace.stack if "/wxtcb/" in frame.filename and "/tests/" not in frame.filename]
    assert inside
    assert not any("T0KEN" in str(frame.locals) for frame in inside)


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (functions.invoke_cloud_function, ("e-1", "f")),
        (wxtcb.Session.call, (functions.INVOKE_CLOUD_FUNCTION, b"{}")),
    ],
    ids=["invoke", "call"],
)
async def test_token_that_cannot_be_sent_is_not_shown(session, call, args):
    """A token of the environment may contain bytes that are not valid Unicode."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^token must be") as caught:
        await call(session, *args, token="T0KEN\udcff")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = [frame for frame in trace.stack if "/wxtcb/" in frame.filename and "/tests/" not in frame.filename]
    assert inside
    assert not any("T0KEN" in str(frame.locals) for frame in inside)


@pytest.mark.parametrize("token", ["", 5, b"T0KEN", wxtcb.Secret("")], ids=repr)
async def test_invalid_token_argument_is_rejected(session, wechat, token):
    """It must be a non-empty string or a `Secret`."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^token must be"):
        await functions.invoke_cloud_function(session, "e-1", "f", token=token)
    assert wechat.requests == []
