"""Session: its options, opening and closing, calls, views, and that no secret is visible."""

from __future__ import annotations

import asyncio
import gc
import ssl
import traceback
import unittest.mock
import warnings

import aiohttp
import attrs
import orjson
import pytest

from wxtcb._http import tls
from wxtcb._http.connector_transport import ConnectorTransport
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Response, ResponseTooLarge, SendFailure, Timeout
from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb.api import environment
from wxtcb.api.environment import BATCH_SHARE_ENV, CREATE_ENV, DESCRIBE_ENVS
from wxtcb.errors import (
    InvalidArgument,
    InvalidToken,
    OutcomeUnknown,
    PartialFailure,
    PlatformBusy,
    SendVetoed,
    SessionClosed,
    TicketError,
    TransportError,
    WrongLoop,
    WxtcbError,
)
from wxtcb.events import CallFinished, CallStarted, TokenRefreshed
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens.providers import ReadOnly
from wxtcb.tokens.refresh import TOKEN_PATH
from wxtcb.tokens.stores import MemoryStore, SqliteStore

pytestmark = pytest.mark.virtual_time

READ = Endpoint("/tcb/read", Done, Repeat.READ)
SECRET, TICKET, TOKEN, OWN = "S3CRET-of-the-app", "ticket@@@T1CKET", "T0KEN-", "0WN-token-of-a-caller"
LISTED = {"info_list": []}
NO_RETRY = RetryPolicy(attempts=1, once_attempts=1)


def unverified_context():
    """Return a context that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def everything_of(error):
    """Return all texts of an exception: the locals of every frame, the whole chain, repr and str."""
    texts, seen = [], set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        formatted = traceback.TracebackException.from_exception(error, capture_locals=True)
        texts += [f"{frame.name} {frame.locals}" for frame in formatted.stack if frame.filename != __file__]
        texts += [repr(error), str(error), repr(error.args), repr(vars(error))]
        waiting += [error.__cause__, error.__context__]
    return "\n".join(texts)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"component_appid": ""}, "component_appid"),
        ({"component_appid": None}, "component_appid"),
        ({"component_appid": TICKET}, "component_appid"),
        ({"component_appsecret": ""}, "component_appsecret"),
        ({"component_appsecret": None}, "component_appsecret"),
        ({"component_appsecret": Secret("")}, "component_appsecret"),
        ({"component_appsecret": 5}, "component_appsecret"),
        ({"ticket": ""}, "ticket"),
        ({"ticket": 5}, "ticket"),
        ({"ticket": Secret("")}, "ticket"),
        ({"token_store": "mysql://user:S3CRET-of-the-app@host"}, "token_store"),
        ({"token_store": "redis"}, "token_store"),
        ({"token_store": object()}, "token_store"),
        ({"token_source": "central"}, "token_source"),
        ({"token_source": ReadOnly(), "ticket": None}, "token_source"),
        ({"token_source": ReadOnly(), "token_store": MemoryStore()}, "ticket"),
        ({"ticket_timeout": 0}, "ticket_timeout"),
        ({"ticket_timeout": True}, "ticket_timeout"),
        ({"retry": 5}, "retry"),
        ({"retry": None}, "retry"),
        ({"timeout": 30}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"connections": 0}, "connections"),
        ({"connections": True}, "connections"),
        ({"connections": 1.5}, "connections"),
        ({"max_fetches_per_hour": 0}, "max_fetches_per_hour"),
        ({"max_fetches_per_hour": "30"}, "max_fetches_per_hour"),
        ({"ssl": False}, "ssl"),
        ({"ssl": True}, "ssl"),
        ({"ssl": unverified_context()}, "allow_unverified"),
        ({"ssl": tls.default_context(), "allow_unverified": "no"}, "allow_unverified"),
        ({"partial": "ignore"}, "partial"),
        ({"proxy": "no-url"}, "proxy"),
        ({"base_url": "api.weixin.qq.com"}, "base_url"),
        ({"base_url": "ftp://api.weixin.qq.com"}, "base_url"),
        ({"base_url": "https://"}, "base_url"),
        ({"base_url": "https://api.weixin.qq.com "}, "base_url"),
        ({"base_url": "https://api.weixin\n.qq.com"}, "base_url"),
        ({"http": object()}, "http"),
        ({"hooks": (asyncio.sleep,)}, "hooks"),
        ({"hooks": 5}, "hooks"),
        ({"hooks": (5,)}, "hooks"),
        ({"allow_http": "no"}, "allow_http"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"base_url": "http://api.weixin.qq.com"}, "allow_http"),
        ({"base_url": "http://localhost.evil.example"}, "allow_http"),
        ({"base_url": "https://user:word@api.weixin.qq.com"}, "base_url"),
        ({"base_url": "https://api.weixin.qq.com?access_token=x"}, "base_url"),
        ({"base_url": "https://api.weixin.qq.com:99999"}, "base_url"),
    ],
)
def test_invalid_option_is_rejected(new_session, options, name):
    """Building a session raises InvalidArgument, which names the option and quotes no secret."""
    with pytest.raises(InvalidArgument, match=name) as caught:
        new_session(**options)
    assert SECRET not in str(caught.value)
    assert TICKET not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://127.0.0.1:8080"},
        {"base_url": "http://localhost"},
        {"base_url": "http://[::1]:80"},
        {"base_url": "http://gateway.internal", "allow_http": True},
        {"base_url": "https://gateway.internal/prefix/"},
        {"ticket": None},
        {"ticket": Secret("t")},
        {"component_appsecret": Secret("s")},
        {"ssl": ssl.create_default_context()},
        {"ssl": unverified_context(), "allow_unverified": True},
        {"proxy": "http://user:word@proxy.internal:3128"},
        {"ssl": type("Truststore", (ssl.SSLContext,), {})(ssl.PROTOCOL_TLS_CLIENT)},
        {"max_fetches_per_hour": None},
    ],
    ids=[
        "127.0.0.1",
        "localhost",
        "::1",
        "allow_http",
        "prefix",
        "no ticket",
        "secret ticket",
        "secret appsecret",
        "ssl",
        "unverified ssl",
        "proxy",
        "another kind of ssl",
        "no limit",
    ],
)
def test_valid_option_is_accepted_without_a_loop(new_session, options):
    """A session may be built before an event loop runs."""
    new_session(**options)


@pytest.mark.parametrize("setting", [False, unverified_context()], ids=["False", "CERT_NONE"])
async def test_connector_that_does_not_verify_the_server_must_be_allowed(new_session, setting):
    """This is checked for a connector and for that of an aiohttp session."""
    async with aiohttp.TCPConnector(ssl=setting) as connector, aiohttp.ClientSession(connector=connector) as http:
        for option in (connector, http):
            with pytest.raises(InvalidArgument, match="allow_unverified"):
                new_session(http=option)
            new_session(http=option, allow_unverified=True)
            # The TLS settings of the session replace those of the connector.
            new_session(http=option, ssl=ssl.create_default_context())


async def test_call_returns_the_typed_reply(new_session, wechat):
    """A token is fetched with app secret and ticket, and the call is made with it."""
    async with new_session() as session:
        assert await session.call(READ, {"a": None, "b": 1}, query={"action": "x"}) == Done()
    token, call = wechat.requests
    assert SECRET.encode() in token.body.data
    assert TICKET.encode() in token.body.data
    assert (call.body.data, call.token, call.query) == (b'{"b":1}', Secret("T0KEN-1"), {"action": "x"})


async def test_call_sends_bytes_unchanged(new_session, wechat):
    """A body of bytes is not parsed or written again."""
    async with new_session() as session:
        await session.call(READ, b"\x00raw")
    assert wechat.requests[1].body.data == b"\x00raw"


async def test_ticket_source_is_called_for_each_fetch(new_session, wechat):
    """A ticket source is called when a token is fetched, not before."""
    calls = []

    async def newest():
        calls.append(1)
        return f"ticket@@@{len(calls)}"

    async with new_session(ticket=newest) as session:
        assert calls == []
        wechat.play(READ.path, 42001)
        await session.call(READ, {})
    assert b"ticket@@@2" in wechat.sent_to(TOKEN_PATH)[1].body.data


async def test_platform_that_returns_a_rejected_token_is_an_error(new_session, wechat):
    """The error names the rejected token, and mentions no token source, because there is none."""
    wechat.usual[TOKEN_PATH] = {"component_access_token": "T0KEN-of-always", "expires_in": 7200}
    wechat.play(READ.path, 42001)
    async with new_session() as session:
        with pytest.raises(WxtcbError, match="already rejected") as caught:
            await session.call(READ, {})
    assert "source" not in str(caught.value)


async def test_call_without_a_ticket_says_how_to_get_one(new_session, wechat):
    """A session without a ticket makes calls that need no token."""
    async with new_session(ticket=None) as session:
        await session.call(Endpoint("/cgi-bin/x", Done, Repeat.SET, Credential.NONE), {})
        with pytest.raises(TicketError, match="api_start_push_ticket"):
            await session.call(READ, {})
    assert len(wechat.requests) == 1


async def test_own_token_is_used_and_never_refreshed(new_session, wechat):
    """With a token of the caller no token is fetched, and a rejected one is an error."""
    async with new_session() as session:
        for token in (OWN, Secret(OWN)):
            wechat.play(READ.path, 42001)
            with pytest.raises(InvalidToken):
                await session.call(READ, {}, token=token)
    assert [request.token for request in wechat.requests] == [Secret(OWN)] * 2


@pytest.mark.parametrize("body", ["text", None, {"a": object()}, {"a": float("nan")}, {1: 2}])
async def test_body_that_json_cannot_represent_is_rejected(new_session, wechat, body):
    """No request is sent."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument):
            await session.call(READ, body)
    assert wechat.requests == []


@pytest.mark.parametrize("query", [{"a": 1}, {"a": None}, "a=1"])
async def test_query_must_be_a_mapping_of_strings(new_session, wechat, query):
    """No request is sent."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument):
            await session.call(READ, {}, query=query)
    assert wechat.requests == []


async def test_call_outside_of_async_with_is_rejected(new_session):
    """The message of SessionClosed distinguishes a session that is not open yet from a closed one."""
    session = new_session()
    with pytest.raises(SessionClosed, match="not open yet"):
        await session.call(READ, {})
    with pytest.raises(SessionClosed, match="not open yet"):
        session.shared_poller(DESCRIBE_ENVS)
    async with session:
        pass
    with pytest.raises(SessionClosed, match="is closed"):
        await session.call(READ, {})


async def test_session_can_be_entered_once(new_session):
    """A second time is rejected, while it is open and afterwards."""
    session = new_session()
    async with session:
        with pytest.raises(SessionClosed, match="once"):
            await session.__aenter__()
        await session.call(READ, {})
    with pytest.raises(SessionClosed, match="once"):
        await session.__aenter__()


async def test_aclose_of_a_session_that_is_not_open_does_nothing(new_session, wechat):
    """`aclose` may be called before entering, and twice."""
    session = new_session()
    await session.aclose()
    async with session:
        await session.aclose()
        assert wechat.closed
        await session.aclose()


@pytest.mark.parametrize("use", ["call", "poller", "aclose"])
def test_session_of_another_loop_is_rejected_with_a_hint(new_session, use):
    """WrongLoop mentions the loop_scope of pytest-asyncio."""
    session = new_session()

    async def use_it():
        if use == "poller":
            session.shared_poller(DESCRIBE_ENVS)
        else:
            await (session.call(READ, {}) if use == "call" else session.aclose())

    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(session.__aenter__())
        with pytest.raises(WrongLoop, match="loop_scope"):
            asyncio.run(use_it())
        first.run_until_complete(session.aclose())
    finally:
        first.close()


async def test_unclosed_session_is_a_resource_warning():
    """The warning comes when the session is collected."""

    async def enter_and_drop():
        session = build()
        await session.__aenter__()
        session._lifecycle.resources.executor.transport.owns_session = False

    def build():
        http = unittest.mock.create_autospec(aiohttp.ClientSession, instance=True)
        return Session(component_appid="wx0", component_appsecret="s", http=http)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await enter_and_drop()
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == [
        "a wxtcb.Session was never closed"
    ]


async def test_closed_session_is_no_resource_warning(new_session):
    """Neither is a session that was never entered."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = new_session()
        async with session:
            pass
        del session
        new_session()
        gc.collect()
    assert caught == []


async def test_view_shares_the_token_and_the_connections(new_session, wechat):
    """A view has its own retry policy; token, limiter and transport are those of the session."""
    async with new_session() as session:
        view = session.with_options(retry=NO_RETRY)
        await session.call(READ, {})
        await view.call(READ, {})
        assert wechat.fetches == 1
        wechat.play(READ.path, -1)
        with pytest.raises(PlatformBusy):
            await view.call(READ, {})
        wechat.play(READ.path, -1)
        await session.call(READ, {})
        assert view.shared_poller(DESCRIBE_ENVS) is session.shared_poller(DESCRIBE_ENVS)


@pytest.mark.parametrize("changes", [{"repeat": Repeat.ONCE}, {"repeat": Repeat.SET}, {"action": "get"}], ids=str)
async def test_only_a_read_can_be_polled(new_session, changes):
    """Polling a create would open an environment per second."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="describeenvs: only a read"):
            session.shared_poller(attrs.evolve(DESCRIBE_ENVS, **changes))


async def test_view_cannot_be_entered_or_closed(new_session, wechat):
    """Only the session itself can be entered and closed; its views end with it."""
    session = new_session()
    view = session.with_options(partial="return")
    with pytest.raises(InvalidArgument, match="entered"):
        await view.__aenter__()
    async with session:
        with pytest.raises(InvalidArgument, match="closed"):
            await view.aclose()
        await view.call(READ, {})
    with pytest.raises(SessionClosed):
        await view.call(READ, {})


def test_view_has_the_session_options_that_are_not_given(new_session):
    """Each option of with_options replaces only itself; an invalid one is rejected."""
    session = new_session(retry=NO_RETRY, partial="return")
    assert session.with_options().retry is NO_RETRY
    assert session.with_options(retry=RetryPolicy()).partial == "return"
    with pytest.raises(InvalidArgument):
        session.with_options(retry=5)
    with pytest.raises(InvalidArgument):
        session.with_options(partial="ignore")


async def test_partial_failure_is_raised_or_returned(new_session, wechat):
    """A batch that failed in part raises PartialFailure with the reply, or returns the reply."""
    wechat.usual[BATCH_SHARE_ENV.path] = {
        "err_list": [{"env": "e1", "appid": "wx1", "errmsg": "no"}],
        "msg_info_list": [],
    }
    async with new_session() as session:
        shares = [environment.Share(env="e1", appids=["wx0000000000000001"])]
        with pytest.raises(PartialFailure) as caught:
            await environment.batch_share_env(session, shares)
        returned = await environment.batch_share_env(session.with_options(partial="return"), shares)
        assert returned == caught.value.reply
        assert len(returned.failed) == 1


@pytest.mark.parametrize(
    ("prepare", "calls"),
    [
        (lambda wechat: wechat.usual.update({READ.path: wechat.after(1000)}), 3),
        (lambda wechat: wechat.usual.update({READ.path: -1}), 1),
        (lambda wechat: wechat.usual.update({READ.path: 45011}), 2),
        (lambda wechat: wechat.usual.update({TOKEN_PATH: wechat.after(1000)}), 3),
        (lambda wechat: wechat.usual.update({TOKEN_PATH: SendFailure("no connection", sent=False)}), 3),
    ],
    ids=["slot", "backoff", "rate limit", "token", "backoff of the token"],
)
async def test_aclose_ends_every_wait(new_session, wechat, prepare, calls):
    """Calls that wait for a slot, a backoff, a rate limit or a token raise SessionClosed immediately."""
    prepare(wechat)
    session = new_session(connections=1, retry=RetryPolicy(base=8, cap=8, attempts=1000, window=9999))
    await session.__aenter__()
    session._lifecycle.resources.executor.uniform = lambda low, high: high
    tasks = [asyncio.create_task(session.call(READ, {})) for _ in range(calls)]
    await asyncio.sleep(2.5)
    await session.aclose()
    waiting = tasks[1:] if wechat.under_way else tasks
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert clock() == pytest.approx(1002.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_aclose_ends_a_wait_for_a_fetch_that_has_not_started(new_session):
    """A call does not hang if the session closes at the moment it requests the first token."""
    session = new_session()
    await session.__aenter__()
    call = asyncio.create_task(session.call(READ, {}))
    await asyncio.sleep(0)
    await session.aclose()
    with pytest.raises(SessionClosed):
        await call


async def test_aclose_ends_shared_polls_and_leaves_no_task(new_session, wechat):
    """A running shared poll is ended too."""
    wechat.usual[DESCRIBE_ENVS.path] = wechat.after(1000, LISTED)
    session = new_session()
    await session.__aenter__()
    poll = asyncio.create_task(session.shared_poller(DESCRIBE_ENVS).poll(clock()))
    await asyncio.sleep(1)
    await session.aclose()
    with pytest.raises(SessionClosed):
        await poll
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_connections_limits_concurrent_calls(new_session, wechat):
    """At most `connections` requests are sent at a time."""
    wechat.usual[READ.path] = wechat.after(1)
    async with new_session(connections=7) as session:
        await asyncio.gather(*(session.call(READ, {}) for _ in range(50)))
    assert wechat.most_under_way == 7


async def test_two_sessions_with_one_store_share_the_token(new_session, wechat):
    """The second session uses the token that the first one fetched."""
    store = MemoryStore(asyncio.get_running_loop().time)
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        await one.call(READ, {})
        await two.call(READ, {})
    assert wechat.fetches == 1


async def test_hooks_receive_every_event(new_session):
    """Start of the call, token, end of the call; no event contains a secret."""
    events = []
    async with new_session(hooks=[events.append]) as session:
        await session.call(READ, {})
    assert [type(event) for event in events] == [CallStarted, TokenRefreshed, CallFinished]
    assert TOKEN not in repr(events)


def reachable(start):
    """Yield every object of wxtcb that can be reached from *start*."""
    seen, waiting = set(), [start]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            waiting += each
        elif type(each).__module__.startswith("wxtcb") and not isinstance(each, Secret):
            yield each
            if attrs.has(type(each)):
                waiting += [getattr(each, field.name, None) for field in attrs.fields(type(each))]


async def test_no_repr_or_str_shows_a_secret(new_session, wechat):
    """The session and everything reachable from it (token, cache, source, store, request) can be printed."""
    wechat.play(READ.path, 42001)
    async with new_session(proxy="http://user:PR0XYWORD@proxy.internal:1") as session:
        await session.call(READ, {})
        things = [*reachable(session), *wechat.requests, *reachable(session._lifecycle.resources)]
        shown = "\n".join(f"{each!r} {each} {each:}" for each in things)
    assert len({type(each).__name__ for each in things}) >= 9
    for secret in (SECRET, TICKET, TOKEN, "PR0XYWORD"):
        assert secret not in shown


OUTCOMES = {
    "rejected": 40097,
    "busy": -1,
    "cloud unavailable": -1000,
    "invalid token": 42001,
    "echo": {"errcode": 40097, "errmsg": "you sent {}"},
    "page": Response(502, b"<h1>you sent {}</h1>"),
    "malformed reply": Response(200, f'{{"errcode": 0, "x": "{TOKEN}1"'.encode()),
    "too large": ResponseTooLarge(200),
    "lost": SendFailure("the connection was lost", sent=True),
    "not sent": SendFailure("no connection", sent=False),
    "redirect": Response(307, b""),
}


def echo(step, text):
    """Return *step* with *text* in it, if it quotes the request."""
    if isinstance(step, dict):
        return {key: value.format(text) if isinstance(value, str) else value for key, value in step.items()}
    if isinstance(step, Response):
        return Response(step.status, step.body.replace(b"{}", text.encode()))
    return step


@pytest.mark.parametrize("own", [None, OWN], ids=["fetched token", "own token"])
@pytest.mark.parametrize("endpoint", [CREATE_ENV, READ], ids=["once", "read"])
@pytest.mark.parametrize("step", OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_error_of_a_call_shows_no_secret(new_session, wechat, step, endpoint, own):
    """Frames with their locals, the whole chain and messages contain neither token nor app secret nor ticket."""
    wechat.usual[endpoint.path] = echo(step, own or f"{TOKEN}1")
    async with new_session(retry=NO_RETRY) as session:
        with pytest.raises(WxtcbError) as caught:
            await session.call(endpoint, {"alias": "a"}, token=own)
    text = everything_of(caught.value)
    assert "_execute" in text
    for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
        assert secret not in text


@pytest.mark.parametrize("step", OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_error_of_a_token_fetch_shows_no_secret(new_session, wechat, step):
    """A failed fetch shows neither its request nor its response."""
    wechat.usual[TOKEN_PATH] = echo(step, f"{TICKET} and {SECRET}")
    async with new_session() as session:
        with pytest.raises(WxtcbError) as caught:
            await session.call(READ, {})
    text = everything_of(caught.value)
    for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
        assert secret not in text


@pytest.mark.parametrize(
    ("body", "query"), [({"a": object()}, None), ({}, {"a": 1}), ("text", None)], ids=["body", "query", "no mapping"]
)
async def test_error_of_a_rejected_argument_shows_no_token(new_session, body, query):
    """A caller's own token is in no frame of wxtcb if another argument is invalid."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument) as caught:
            await session.call(READ, body, query=query, token=OWN)
    assert OWN not in everything_of(caught.value)


async def test_error_of_a_closed_session_shows_no_token(new_session):
    """A caller's own token is in no frame of wxtcb if the session is closed."""
    with pytest.raises(SessionClosed) as caught:
        await new_session().call(READ, {}, token=OWN)
    assert OWN not in everything_of(caught.value)


async def test_cancellation_shows_no_secret(new_session, wechat):
    """The CancelledError of a running call contains no secret, with either kind of token."""
    wechat.usual[READ.path] = wechat.after(1000)
    async with new_session() as session:
        for own in (None, OWN):
            call = asyncio.create_task(session.call(READ, {}, token=own))
            await asyncio.sleep(1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            text = everything_of(caught.value)
            for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
                assert secret not in text


@pytest.mark.parametrize("options", [{"base_url": "x"}, {"connections": 0}, {"partial": "x"}, {"component_appid": ""}])
def test_error_of_the_constructor_shows_no_secret(new_session, options):
    """InvalidArgument shows neither app secret nor ticket in the frames of wxtcb."""
    with pytest.raises(InvalidArgument) as caught:
        Session(**{"component_appid": "wx0", "component_appsecret": SECRET, "ticket": TICKET, **options})
    text = everything_of(caught.value)
    assert SECRET not in text
    assert TICKET not in text


async def test_unknown_outcome_has_its_cause(new_session, wechat):
    """A create without a response is OutcomeUnknown, with the error that replaced the response."""
    wechat.usual[CREATE_ENV.path] = SendFailure("no reply in time", sent=True, timeout=True)
    async with new_session() as session:
        with pytest.raises(OutcomeUnknown) as caught:
            await environment.create_env(session, alias="abc")
    assert caught.value.cause.timeout
    assert len(wechat.sent_to(CREATE_ENV.path)) == 1


async def raise_key_error(*_args, **_options):
    """Raise an exception as a tracing callback or a mock of the caller may."""
    raise KeyError(SECRET)


def session_with(http):
    """Return a session on the aiohttp session *http*."""
    return Session(
        component_appid="wx1", component_appsecret=SECRET, ticket=TICKET, base_url="http://127.0.0.1:9", http=http
    )


async def test_exception_of_a_trace_ends_the_call_at_once():
    """The token fetch is not repeated, and the error names the line that raised, without secrets."""
    calls, trace, started = [], aiohttp.TraceConfig(), clock()
    trace.on_request_start.append(lambda *_: calls.append(1) or raise_key_error())
    async with aiohttp.ClientSession(trace_configs=[trace]) as http, session_with(http) as session:
        with pytest.raises(TransportError, match="KeyError") as caught:
            await session.call(READ, {})
    assert f"({__file__}, line {raise_key_error.__code__.co_firstlineno + 2}). No request was sent" in str(caught.value)
    assert (len(calls), clock()) == (1, started)
    assert SECRET not in everything_of(caught.value)


async def test_failure_of_a_mock_of_aiohttp_ends_the_call_at_once(monkeypatch):
    """A mock that does not fit aiohttp's version raises a TypeError, which a retry would not fix."""
    started = clock()
    async with aiohttp.ClientSession() as http, session_with(http) as session:
        monkeypatch.setattr(aiohttp.ClientSession, "_request", lambda self: None)
        with pytest.raises(TransportError, match=r"TypeError; fix the code .* No request was sent") as caught:
            await session.call(READ, {})
    assert caught.value.permanent
    assert clock() == started


async def test_session_opens_a_real_transport():
    """The default transport uses aiohttp with the timeout of the session, and is closed with the session."""
    async with Session(component_appid="wx0", component_appsecret="s", timeout=Timeout(connect=1, reply=2)) as session:
        transport = session._lifecycle.resources.executor.transport
        assert transport.timeout == Timeout(connect=1, reply=2)
        assert isinstance(transport, ConnectorTransport)
    assert transport._connector.closed


@pytest.mark.parametrize(
    "options",
    [{"tokn_store": None}, {"component_appid": ...}, {"hooks": map(int, "x")}, {"base_url": "http://a b"}],
    ids=["misspelt", "wrong type", "iterable that raises", "space"],
)
def test_any_exception_of_the_constructor_shows_no_secret(options):
    """A TypeError of Python is no exception: Sentry and others read the locals of its frames."""
    with pytest.raises((TypeError, ValueError, ZeroDivisionError)) as caught:
        Session(**{"component_appid": "wx0", "component_appsecret": SECRET, "ticket": TICKET, **options})
    text = everything_of(caught.value)
    assert SECRET not in text
    assert TICKET not in text


async def test_hooks_of_a_view_receive_the_calls_of_the_view(new_session, wechat):
    """The hooks of the session receive all events, those of a view only the calls made through it."""
    all_events, view_events = [], []
    async with new_session(hooks=[all_events.append]) as session:
        view = session.with_options(hooks=[view_events.append])
        await session.call(READ, {})
        assert view_events == []
        await view.call(READ, {})
    assert [type(event) for event in view_events] == [CallStarted, CallFinished]
    assert sum(isinstance(event, CallFinished) for event in all_events) == 2


async def test_may_send_applies_to_the_calls_of_the_view(new_session, wechat):
    """It is called for the view and the views made of it, not for the session or a token fetch."""
    async with new_session() as session:
        view = session.with_options(_may_send=lambda: False)
        for each in (view, view.with_options(retry=NO_RETRY), view.with_options(_may_send=lambda: True)):
            with pytest.raises(SendVetoed):
                await each.call(READ, {})
        assert await session.call(READ, {}) == Done()
    assert (len(wechat.sent_to(READ.path)), wechat.fetches) == (1, 1)


@pytest.mark.parametrize(
    ("results", "called"),
    [((True, True), ["parent", "added"]), ((True, "no"), ["parent", "added"]), (("yes", True), ["parent"])],
)
async def test_view_of_a_view_calls_both_may_send(new_session, wechat, results, called):
    """That of the parent view is called first; the call is sent only if both return True itself."""
    calls = []

    def may_send(name, result):
        return lambda: calls.append(name) or result

    async with new_session() as session:
        parent = session.with_options(_may_send=may_send("parent", results[0]))
        view = parent.with_options(_may_send=may_send("added", results[1]))
        if results == (True, True):
            assert await view.call(READ, {}) == Done()
        else:
            with pytest.raises(SendVetoed):
                await view.call(READ, {})
    assert calls == called


class Empty:
    """A callable object that is false."""

    def __len__(self):
        return 0

    def __call__(self):
        return False


async def test_may_send_that_is_a_false_object_is_called(new_session):
    """The truth value of the object itself does not matter."""
    async with new_session() as session:
        view = session.with_options(_may_send=Empty())
        with pytest.raises(SendVetoed):
            await view.with_options(_may_send=lambda: True).call(READ, {})


class AsyncCallable:
    """An object with an asynchronous `__call__`."""

    async def __call__(self, *_):
        return False


def test_object_with_an_async_call_is_rejected_as_a_hook(new_session):
    """Its result would never be awaited."""
    with pytest.raises(InvalidArgument, match="hooks"):
        new_session(hooks=[AsyncCallable()])


async def test_cancelled_aclose_leaves_no_task(new_session, wechat, settle):
    """A running refresh is ended, and its waiters raise SessionClosed."""

    async def never():
        await asyncio.get_running_loop().create_future()

    session = new_session(ticket=never)
    await session.__aenter__()
    call = asyncio.create_task(session.call(READ, {}))
    await settle()
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(SessionClosed):
        await call
    await asyncio.gather(closing, return_exceptions=True)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_evolved_session_is_a_session_of_its_own(new_session, wechat):
    """Only `with_options` makes views; the result of `attrs.evolve` shares nothing."""
    async with new_session() as session:
        other = attrs.evolve(session, connections=5)
        with pytest.raises(SessionClosed):
            await other.call(READ, {})


def test_evolve_accepts_the_converted_options(tmp_path):
    """`attrs.evolve` passes the stored values again: a store URL, no app secret, a ticket source."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    reader = Session(component_appid="wx0", token_store=url, token_source=ReadOnly())
    fetcher = Session(component_appid="wx0", component_appsecret=SECRET, ticket=TICKET, proxy="http://proxy:1")
    assert attrs.evolve(reader, connections=5).token_store == reader.token_store
    assert attrs.evolve(fetcher, connections=5).proxy == fetcher.proxy


def record_closed_stores(monkeypatch):
    """Return a list to which each SqliteStore is added when it is closed."""
    closed = []

    async def aclose(store):
        closed.append(store)

    monkeypatch.setattr(SqliteStore, "aclose", aclose)
    return closed


async def test_failure_while_opening_closes_what_was_opened(new_session, wechat, monkeypatch, tmp_path):
    """The session is not open afterwards, and can be entered again."""
    closed = record_closed_stores(monkeypatch)
    session = new_session(token_store=f"sqlite:///{tmp_path}/tokens.db", store_required=False)
    with monkeypatch.context() as patch:
        patch.setattr("wxtcb.tokens.cache.create_token_cache", unittest.mock.Mock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await session.__aenter__()
    assert (wechat.closed, len(closed)) == (True, 1)
    with pytest.raises(SessionClosed, match="not open yet"):
        await session.call(READ, {})
    async with session:
        assert session.stats().calls_in_flight == 0


async def test_sessions_with_one_store_agree_on_the_newest_token(new_session, wechat):
    """Two sessions that fetch at the same moment end with one token, although each fetch invalidates the other."""
    valid = []

    def issue(request):
        valid[:] = [f"T0KEN-{wechat.minted + 1}"]
        return wechat.after(0.1, wechat.mint(request))

    wechat.usual[TOKEN_PATH] = issue
    wechat.usual[READ.path] = lambda request: 0 if request.token.reveal() in valid else 40001
    store = MemoryStore(asyncio.get_running_loop().time)
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        for _ in range(20):
            await asyncio.gather(one.call(READ, {}), two.call(READ, {}))
    assert wechat.fetches <= 4


async def test_reply_class_that_cannot_be_read_is_rejected(new_session, wechat):
    """No request is sent: a create would take effect, and its reply would be lost."""

    @attrs.frozen
    class Unreadable(Reply):
        when: complex

    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="Unreadable"):
            await session.call(Endpoint("/tcb/odd", Unreadable, Repeat.ONCE), {})
    assert wechat.sent_to("/tcb/odd") == []


async def test_action_is_sent_in_query_and_body(new_session, wechat):
    """It is added to the fields of the caller, whose mappings do not change."""
    endpoint = Endpoint("/tcb/db", Done, Repeat.READ, name="db_get", action="get")
    body, query = {"env": "e-1"}, {"name": "n"}
    async with new_session() as session:
        await session.call(endpoint, body, query=query)
        await session.call(endpoint, {})
    first, second = wechat.sent_to("/tcb/db")
    assert (first.query, orjson.loads(first.body.data)) == (query | {"action": "get"}, body | {"action": "get"})
    assert (second.query, orjson.loads(second.body.data)) == ({"action": "get"}, {"action": "get"})
    assert (body, query) == ({"env": "e-1"}, {"name": "n"})


async def test_another_action_in_body_or_query_is_rejected(new_session, wechat):
    """A read must not become an insert; no request is sent."""
    endpoint = Endpoint("/tcb/db", Done, Repeat.READ, action="get")
    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="action must be 'get'"):
            await session.call(endpoint, {"action": "insert"})
        with pytest.raises(InvalidArgument, match="the query's action must be 'get', not 'insert'"):
            await session.call(endpoint, {}, query={"action": "insert"})
    assert wechat.sent_to("/tcb/db") == []


async def test_token_returns_the_token_of_the_calls(new_session, wechat):
    """It is fetched once, and cached like that of a call."""
    async with new_session() as session:
        assert await session.token() == Secret("T0KEN-1")
        assert await session.token() == Secret("T0KEN-1")
    assert wechat.fetches == 1


async def test_stats_count_calls_and_the_age_of_the_token(new_session, wechat):
    """Before the first call there is no token."""
    wechat.usual[READ.path] = wechat.after(10)
    async with new_session(connections=1) as session:
        assert (session.stats().token_age, session.stats().token_expires_in) == (None, None)
        calls = [asyncio.create_task(session.call(READ, {})) for _ in range(3)]
        await asyncio.sleep(4)
        stats = session.stats()
        assert (stats.calls_in_flight, stats.calls_waiting, stats.retry_quota) == (1, 2, 500)
        assert (stats.token_age, stats.token_expires_in) == pytest.approx((4, 7196))
        await asyncio.gather(*calls)


async def test_health_reads_the_state_of_the_token(new_session):
    """It needs no call, and sends nothing to the platform."""
    async with new_session() as session:
        assert (await session.health()).token_age is None
        await session.token()
        assert (await session.health()).token_age == pytest.approx(0)


async def test_poller_calls_its_function_for_each_poll(new_session):
    """A poller of one waiter shares nothing."""
    results = iter("ab")

    async def fetch():
        return next(results)

    async with new_session() as session:
        poller = session.poller(fetch)
        assert [(await poller.poll(clock())).value for _ in range(2)] == ["a", "b"]


async def test_storage_client_is_closed_with_the_session(new_session):
    """Outside of ``async with`` there is none."""
    session = new_session()
    async with session:
        assert session.storage_client is session.storage_client
    with pytest.raises(SessionClosed):
        _ = session.storage_client


async def test_store_of_a_url_is_closed_by_the_session(new_session, tmp_path, monkeypatch):
    """The URL is in no repr, because it may contain a password. A store of the caller stays open."""
    closed = record_closed_stores(monkeypatch)
    session = new_session(token_store=f"sqlite:///{tmp_path}/tokens.db", store_required=False)
    assert "tokens.db" not in repr(session)
    async with session, new_session(token_store=SqliteStore(tmp_path / "tokens.db"), store_required=False):
        opened = session._lifecycle.resources.token_cache.refresher.state_repository.store
    assert closed == [opened]
