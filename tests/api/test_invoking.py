"""Calling functions: the event that goes out, the result that comes back, and that it happens once."""

from __future__ import annotations

import traceback
from collections import UserDict, UserList
from types import MappingProxyType

import pytest
from hypothesis import given, strategies as st

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
NO_EVENTS = [5, True, 1.5, {1, 2}, object, wxtcb.Secret("hunter2"), {"a": wxtcb.Secret("hunter2")}, {"a": {1}}]
NO_EVENTS += [{5: 1}, [b"x"], bytearray(b"x"), "\udcff", {"a": "\udcff"}]
NO_EVENTS += [{"a": float("nan")}, [None, "", ({"a": UserList([float("-inf")])},)]]


@pytest.fixture
async def session(new_session):
    """Open a session before the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.mark.parametrize(("event", "sent"), EVENTS, ids=repr)
async def test_the_event_is_the_body_and_the_rest_the_query(session, wechat, event, sent):
    """Bytes go out as they are, texts as UTF-8, all else as JSON, with its nulls; a body is never empty."""
    await functions.invoke_cloud_function(session, "e-1", "my function", event)
    [request] = wechat.sent_to(PATH)
    assert (request.body.data, request.query) == (sent, {"env": "e-1", "name": "my function"})


@pytest.mark.parametrize("event", NO_EVENTS, ids=repr)
async def test_what_is_no_event_is_refused(session, wechat, event):
    """What JSON has no place for is refused by name before anything is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^event ") as refused:
        await functions.invoke_cloud_function(session, "e-1", "f", event)
    assert "hunter2" not in str(refused.value)
    assert wechat.requests == []


@pytest.mark.parametrize("name", ["env", "function_name"])
@pytest.mark.parametrize("value", [None, "", " ", 5, b"f"], ids=repr)
async def test_what_names_no_function_is_refused(session, wechat, name, value):
    """Both are texts."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name} must be a text"):
        await functions.invoke_cloud_function(session, **{"env": "e-1", "function_name": "f", name: value})
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
async def test_the_result_is_read_from_the_text(session, wechat, text, result, is_json):
    """JSON becomes its value, any other text itself; `is_json` tells, and the text stays."""
    wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", "resp_data": text}
    invoked = await functions.invoke_cloud_function(session, "e-1", "f")
    assert (invoked.resp_data, invoked.result, invoked.is_json) == (text, result, is_json)


@given(st.text())
def test_any_text_has_a_result(text):
    """Nothing that a function gives back makes reading it fail."""
    invoked = InvocationResult(text)
    assert invoked.is_json or invoked.result == text


@pytest.mark.parametrize(
    "step", [-1, -1000, SendFailure("lost", sent=True), SendFailure("late", sent=True, timeout=True)]
)
async def test_a_call_that_may_have_run_is_never_repeated(session, wechat, step):
    """Not even at -1, under a policy that lets busy creates be repeated: a function may do anything."""
    wechat.play(PATH, step)
    with pytest.raises(wxtcb.OutcomeUnknown) as caught:
        await functions.invoke_cloud_function(session, "e-1", "f")
    assert len(wechat.sent_to(PATH)) == 1
    assert caught.value.maybe_acted == 1


@pytest.mark.parametrize("step", [42001, 45011, SendFailure("refused", sent=False)])
async def test_a_call_that_cannot_have_run_is_sent_again(session, wechat, step):
    """A dead token, the minute limit and what never left are no runs."""
    wechat.play(PATH, step)
    assert (await functions.invoke_cloud_function(session, "e-1", "f")).maybe_acted == 0
    assert len(wechat.sent_to(PATH)) == 2


@pytest.mark.parametrize(
    "token", ["T0KEN-of-an-authoriser", wxtcb.Secret("T0KEN-of-an-authoriser")], ids=["text", "secret"]
)
async def test_an_authorisers_token_is_used_as_it_is(session, wechat, token):
    """None is bought, a dead one is not renewed, and no frame of the error shows it."""
    wechat.play(PATH, 42001)
    with pytest.raises(wxtcb.ApiError) as caught:
        await functions.invoke_cloud_function(session, "e-1", "f", token=token)
    [request] = wechat.requests
    assert request.token.reveal() == THEIRS
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = [frame for frame in told.stack if "/wxtcb/" in frame.filename and "/tests/" not in frame.filename]
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
async def test_a_token_that_cannot_be_sent_is_not_shown(session, call, args):
    """One out of the environment may hold bytes that are no text."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^token must be") as caught:
        await call(session, *args, token="T0KEN\udcff")
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = [frame for frame in told.stack if "/wxtcb/" in frame.filename and "/tests/" not in frame.filename]
    assert inside
    assert not any("T0KEN" in str(frame.locals) for frame in inside)


@pytest.mark.parametrize("token", ["", 5, b"T0KEN", wxtcb.Secret("")], ids=repr)
async def test_what_is_no_token_is_refused(session, wechat, token):
    """It is a text or a Secret that is not empty."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^token must be"):
        await functions.invoke_cloud_function(session, "e-1", "f", token=token)
    assert wechat.requests == []
