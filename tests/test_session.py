"""One session: what it refuses, how it opens and ends, and that it shows no secret."""

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

from wxtcb._http.aiohttp_connector import ConnectorTransport
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
    WrongLoop,
    WxtcbError,
)
from wxtcb.events import CallFinished, CallStarted, TokenRefreshed
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens.providers import ReadOnly
from wxtcb.tokens.refresh import TOKEN_PATH
from wxtcb.tokens.stores import MemoryStore

pytestmark = pytest.mark.virtual_time

READ = Endpoint("/tcb/read", Done, Repeat.READ)
SECRET, TICKET, TOKEN, OWN = "S3CRET-of-the-app", "ticket@@@T1CKET", "T0KEN-", "0WN-token-of-a-caller"
LISTED = {"info_list": []}
NO_RETRY = RetryPolicy(attempts=1, once_attempts=1)


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def whole_story(error):
    """Return all that a reader may see of *error*: frames with their locals, the whole chain, repr and str."""
    texts, seen = [], set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        texts += [f"{frame.name} {frame.locals}" for frame in told.stack if frame.filename != __file__]
        texts += [repr(error), str(error), repr(error.args), repr(vars(error))]
        waiting += [error.__cause__, error.__context__]
    return "\n".join(texts)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"component_appid": ""}, "component_appid"),
        ({"component_appid": None}, "component_appid"),
        ({"component_appsecret": ""}, "component_appsecret"),
        ({"component_appsecret": None}, "component_appsecret"),
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
        ({"base_url": ""}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"base_url": "http://api.weixin.qq.com"}, "allow_http"),
        ({"base_url": "http://localhost.evil.example"}, "allow_http"),
        ({"base_url": "https://user:word@api.weixin.qq.com"}, "base_url"),
        ({"base_url": "https://api.weixin.qq.com?access_token=x"}, "base_url"),
        ({"base_url": "https://api.weixin.qq.com:99999"}, "base_url"),
    ],
)
def test_session_refuses_what_cannot_work(new_session, options, name):
    """A wrong option is InvalidArgument when the session is built, names the option, and quotes no secret."""
    with pytest.raises(InvalidArgument, match=name) as caught:
        new_session(**options)
    assert SECRET not in str(caught.value)


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
        "proxy",
        "another kind of ssl",
        "no ceiling",
    ],
)
def test_session_accepts_what_works_outside_of_a_loop(new_session, options):
    """A session may be built anywhere, before any loop runs."""
    new_session(**options)


async def test_call_returns_the_typed_reply(new_session, wechat):
    """The plain case: a token is bought with secret and ticket, and the call is made with it."""
    async with new_session() as session:
        assert await session.call(READ, {"a": None, "b": 1}, query={"action": "x"}) == Done()
    token, call = wechat.requests
    assert SECRET.encode() in token.body.data
    assert TICKET.encode() in token.body.data
    assert (call.body.data, call.token, call.query) == (b'{"b":1}', Secret("T0KEN-1"), {"action": "x"})


async def test_call_sends_bytes_as_they_are(new_session, wechat):
    """A body of bytes is not touched."""
    async with new_session() as session:
        await session.call(READ, b"\x00raw")
    assert wechat.requests[1].body.data == b"\x00raw"


async def test_ticket_is_asked_for_at_each_fetch(new_session, wechat):
    """A ticket source gives the newest ticket when a token is bought, not before."""
    asked = []

    async def newest():
        asked.append(1)
        return f"ticket@@@{len(asked)}"

    async with new_session(ticket=newest) as session:
        assert asked == []
        wechat.play(READ.path, 42001)
        await session.call(READ, {})
    assert b"ticket@@@2" in wechat.sent_to(TOKEN_PATH)[1].body.data


async def test_call_without_a_ticket_says_how_to_get_one(new_session, wechat):
    """A session without a ticket works until a token is needed."""
    async with new_session(ticket=None) as session:
        await session.call(Endpoint("/cgi-bin/x", Done, Repeat.SET, Credential.NONE), {})
        with pytest.raises(TicketError, match="api_start_push_ticket"):
            await session.call(READ, {})
    assert len(wechat.requests) == 1


async def test_own_token_is_used_and_never_renewed(new_session, wechat):
    """With a token of the caller's nothing is fetched, and a dead one is raised."""
    async with new_session() as session:
        for token in (OWN, Secret(OWN)):
            wechat.play(READ.path, 42001)
            with pytest.raises(InvalidToken):
                await session.call(READ, {}, token=token)
    assert [request.token for request in wechat.requests] == [Secret(OWN)] * 2


@pytest.mark.parametrize("body", ["text", None, {"a": object()}, {"a": float("nan")}, {1: 2}])
async def test_body_that_is_no_json_is_refused_before_anything_is_sent(new_session, wechat, body):
    """What has no place in JSON is InvalidArgument."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument):
            await session.call(READ, body)
    assert wechat.requests == []


@pytest.mark.parametrize("query", [{"a": 1}, {"a": None}, "a=1"])
async def test_query_that_is_no_text_is_refused_before_anything_is_sent(new_session, wechat, query):
    """A query is a mapping from texts to texts."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument):
            await session.call(READ, {}, query=query)
    assert wechat.requests == []


async def test_session_must_be_open(new_session):
    """Before it is entered and after it was closed: SessionClosed, with the difference told."""
    session = new_session()
    with pytest.raises(SessionClosed, match="not open yet"):
        await session.call(READ, {})
    with pytest.raises(SessionClosed, match="not open yet"):
        session.shared_poller(DESCRIBE_ENVS)
    async with session:
        pass
    with pytest.raises(SessionClosed, match="is closed"):
        await session.call(READ, {})


async def test_session_is_entered_once(new_session):
    """Entering twice is refused, while it is open and after."""
    session = new_session()
    async with session:
        with pytest.raises(SessionClosed, match="once"):
            await session.__aenter__()
        await session.call(READ, {})
    with pytest.raises(SessionClosed, match="once"):
        await session.__aenter__()


async def test_aclose_may_be_called_again_and_before_entering(new_session, wechat):
    """Closing what is not open does nothing."""
    session = new_session()
    await session.aclose()
    async with session:
        await session.aclose()
        assert wechat.closed
        await session.aclose()


@pytest.mark.parametrize("use", ["call", "sweep", "aclose"])
def test_session_of_another_loop_is_refused_with_a_hint(new_session, use):
    """Used from another loop than the one that entered it: WrongLoop, naming pytest-asyncio's loop_scope."""
    session = new_session()

    async def use_it():
        if use == "sweep":
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


async def test_forgotten_session_warns():
    """A session that is dropped while open is a ResourceWarning, from the garbage collector."""

    async def forget(new):
        session = new()
        await session.__aenter__()
        session._lifecycle.resources.transport.owned = False

    def build():
        http = unittest.mock.create_autospec(aiohttp.ClientSession, instance=True)
        return Session(component_appid="wx0", component_appsecret="s", http=http)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await forget(build)
        gc.collect()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == [
        "a wxtcb.Session was never closed"
    ]


async def test_closed_session_does_not_warn(new_session):
    """Neither a closed session nor one that was never entered is reported."""
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
    """A view has its own retry policy; token, gate and transport are the session's."""
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
async def test_only_a_read_is_made_again_and_again(new_session, changes):
    """A look that opened an environment would open one per second."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="describeenvs: only a read"):
            session.shared_poller(attrs.evolve(DESCRIBE_ENVS, **changes))


async def test_view_cannot_be_entered_or_closed(new_session, wechat):
    """Only the session itself opens and ends; its views end with it."""
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


def test_view_keeps_the_options_that_it_is_not_given(new_session):
    """Each option of with_options replaces only itself; wrong ones are refused."""
    session = new_session(retry=NO_RETRY, partial="return")
    assert session.with_options().retry is NO_RETRY
    assert session.with_options(retry=RetryPolicy()).partial == "return"
    with pytest.raises(InvalidArgument):
        session.with_options(retry=5)
    with pytest.raises(InvalidArgument):
        session.with_options(partial="ignore")


async def test_partial_failure_is_raised_or_returned_as_asked(new_session, wechat):
    """A batch that failed in part is PartialFailure with the reply attached, or the reply itself."""
    wechat.usual[BATCH_SHARE_ENV.path] = {
        "err_list": [{"env": "e1", "appid": "wx1", "errmsg": "no"}],
        "msg_info_list": [],
    }
    async with new_session() as session:
        shares = [environment.Share(env="e1", appids=["wx1"])]
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
    ids=["slot", "back-off", "minute limit", "token", "pause of the token"],
)
async def test_aclose_ends_every_wait(new_session, wechat, prepare, calls):
    """Calls that wait for a slot, in a back-off, for a path or for a token get SessionClosed at once."""
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


async def test_aclose_ends_a_wait_whose_token_fetch_has_not_begun(new_session):
    """Closed in the very moment a call asks for the first token, the call does not hang."""
    session = new_session()
    await session.__aenter__()
    call = asyncio.create_task(session.call(READ, {}))
    await asyncio.sleep(0)
    await session.aclose()
    with pytest.raises(SessionClosed):
        await call


async def test_aclose_ends_sweeps_and_leaves_no_task(new_session, wechat):
    """A shared look under way is ended too."""
    wechat.usual[DESCRIBE_ENVS.path] = wechat.after(1000, LISTED)
    session = new_session()
    await session.__aenter__()
    look = asyncio.create_task(session.shared_poller(DESCRIBE_ENVS).poll(clock()))
    await asyncio.sleep(1)
    await session.aclose()
    with pytest.raises(SessionClosed):
        await look
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_connections_bound_the_calls_under_way(new_session, wechat):
    """At most `connections` calls are sent at a time."""
    wechat.usual[READ.path] = wechat.after(1)
    async with new_session(connections=7) as session:
        await asyncio.gather(*(session.call(READ, {}) for _ in range(50)))
    assert wechat.most_under_way == 7


async def test_two_sessions_with_one_store_share_the_token(new_session, wechat):
    """The second session adopts what the first bought."""
    store = MemoryStore(asyncio.get_running_loop().time)
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        await one.call(READ, {})
        await two.call(READ, {})
    assert wechat.fetches == 1


async def test_hooks_get_every_event(new_session):
    """A call's start, the token and the call's end, in order, none of them with a secret."""
    events = []
    async with new_session(hooks=[events.append]) as session:
        await session.call(READ, {})
    assert [type(event) for event in events] == [CallStarted, TokenRefreshed, CallFinished]
    assert TOKEN not in repr(events)


def reachable(start):
    """Yield every object of wxtcb's that hangs together with *start*."""
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
    """The session and all that hangs on it (token, cache, source, store, request) are safe to print."""
    wechat.play(READ.path, 42001)
    async with new_session(proxy="http://user:PR0XYWORD@proxy.internal:1") as session:
        await session.call(READ, {})
        things = [*reachable(session), *wechat.requests, *reachable(session._lifecycle.resources)]
        shown = "\n".join(f"{each!r} {each} {each:}" for each in things)
    assert len({type(each).__name__ for each in things}) >= 9
    for secret in (SECRET, TICKET, TOKEN, "PR0XYWORD"):
        assert secret not in shown


ENDINGS = {
    "refusal": 40097,
    "busy": -1,
    "fault": -1000,
    "dead": 42001,
    "echo": {"errcode": 40097, "errmsg": "you sent {}"},
    "page": Response(502, b"<h1>you sent {}</h1>"),
    "odd reply": Response(200, f'{{"errcode": 0, "x": "{TOKEN}1"'.encode()),
    "too large": ResponseTooLarge(200),
    "lost": SendFailure("the connection was lost", sent=True),
    "not sent": SendFailure("no connection", sent=False),
    "redirect": Response(307, b""),
}


def echo(step, text):
    """Let the platform quote *text*, where *step* quotes."""
    if isinstance(step, dict):
        return {key: value.format(text) if isinstance(value, str) else value for key, value in step.items()}
    if isinstance(step, Response):
        return Response(step.status, step.body.replace(b"{}", text.encode()))
    return step


@pytest.mark.parametrize("own", [None, OWN], ids=["fetched token", "own token"])
@pytest.mark.parametrize("endpoint", [CREATE_ENV, READ], ids=["once", "read"])
@pytest.mark.parametrize("step", ENDINGS.values(), ids=ENDINGS.keys())
async def test_no_secret_shows_in_what_a_call_raises(new_session, wechat, step, endpoint, own):
    """Frames with their locals, the whole chain, messages: neither token nor secret nor ticket."""
    wechat.usual[endpoint.path] = echo(step, own or f"{TOKEN}1")
    async with new_session(retry=NO_RETRY) as session:
        with pytest.raises(WxtcbError) as caught:
            await session.call(endpoint, {"alias": "a"}, token=own)
    story = whole_story(caught.value)
    assert "_execute" in story
    for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
        assert secret not in story


@pytest.mark.parametrize("step", ENDINGS.values(), ids=ENDINGS.keys())
async def test_no_secret_shows_in_what_a_token_fetch_raises(new_session, wechat, step):
    """A failed fetch shows neither what it sent nor what it got."""
    wechat.usual[TOKEN_PATH] = echo(step, f"{TICKET} and {SECRET}")
    async with new_session() as session:
        with pytest.raises(WxtcbError) as caught:
            await session.call(READ, {})
    story = whole_story(caught.value)
    for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
        assert secret not in story


@pytest.mark.parametrize(
    ("body", "query"), [({"a": object()}, None), ({}, {"a": 1}), ("text", None)], ids=["body", "query", "no mapping"]
)
async def test_no_secret_shows_when_a_call_is_refused_before_it_is_sent(new_session, body, query):
    """A caller's own token is in no frame of ours when another argument is wrong."""
    async with new_session() as session:
        with pytest.raises(InvalidArgument) as caught:
            await session.call(READ, body, query=query, token=OWN)
    assert OWN not in whole_story(caught.value)


async def test_no_secret_shows_when_the_session_is_not_open(new_session):
    """A caller's own token is in no frame of ours when the session is closed."""
    with pytest.raises(SessionClosed) as caught:
        await new_session().call(READ, {}, token=OWN)
    assert OWN not in whole_story(caught.value)


async def test_no_secret_shows_in_a_cancellation(new_session, wechat):
    """The CancelledError of a call under way, or of a wait for the token, brings no secret along."""
    wechat.usual[READ.path] = wechat.after(1000)
    async with new_session() as session:
        for own in (None, OWN):
            call = asyncio.create_task(session.call(READ, {}, token=own))
            await asyncio.sleep(1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            story = whole_story(caught.value)
            for secret in (SECRET, TICKET, f"{TOKEN}1", OWN):
                assert secret not in story


@pytest.mark.parametrize("options", [{"base_url": "x"}, {"connections": 0}, {"partial": "x"}, {"component_appid": ""}])
def test_no_secret_shows_when_a_session_is_refused(new_session, options):
    """An InvalidArgument of the constructor shows neither secret nor ticket in the frames of wxtcb."""
    with pytest.raises(InvalidArgument) as caught:
        Session(**{"component_appid": "wx0", "component_appsecret": SECRET, "ticket": TICKET, **options})
    story = whole_story(caught.value)
    assert SECRET not in story
    assert TICKET not in story


async def test_unknown_outcome_names_its_cause(new_session, wechat):
    """Through the whole session a lost create is OutcomeUnknown with the error that hid the answer."""
    wechat.usual[CREATE_ENV.path] = SendFailure("no reply in time", sent=True, timeout=True)
    async with new_session() as session:
        with pytest.raises(OutcomeUnknown) as caught:
            await environment.create_env(session, alias="abc")
    assert caught.value.cause.timeout
    assert len(wechat.sent_to(CREATE_ENV.path)) == 1


async def test_session_opens_a_real_transport():
    """Without a stand-in the transport is aiohttp's, with the session's own limits, and is closed with it."""
    async with Session(component_appid="wx0", component_appsecret="s", timeout=Timeout(connect=1, reply=2)) as session:
        transport = session._lifecycle.resources.transport
        assert transport.timeout == Timeout(connect=1, reply=2)
        assert isinstance(transport, ConnectorTransport)
    assert transport._connector.closed


@pytest.mark.parametrize(
    "options",
    [{"tokn_store": None}, {"component_appid": ...}, {"hooks": map(int, "x")}, {"base_url": "http://a b"}],
    ids=["misspelt", "wrong type", "iterable that raises", "space"],
)
def test_no_secret_shows_when_the_constructor_raises_anything(options):
    """A TypeError of Python's own is no exception: Sentry and others read the locals of its frames."""
    with pytest.raises((TypeError, ValueError, ZeroDivisionError)) as caught:
        Session(**{"component_appid": "wx0", "component_appsecret": SECRET, "ticket": TICKET, **options})
    story = whole_story(caught.value)
    assert SECRET not in story
    assert TICKET not in story


async def test_hooks_of_a_view_hear_the_calls_of_the_view_alone(new_session, wechat):
    """The session's hooks hear everything, a view's own hooks the calls made through it."""
    all_told, some_told = [], []
    async with new_session(hooks=[all_told.append]) as session:
        view = session.with_options(hooks=[some_told.append])
        await session.call(READ, {})
        assert some_told == []
        await view.call(READ, {})
    assert [type(event) for event in some_told] == [CallStarted, CallFinished]
    assert sum(isinstance(event, CallFinished) for event in all_told) == 2


async def test_view_with_may_send_withholds_its_own_calls_alone(new_session, wechat):
    """A view, and the views made of it, ask before they send; the session and the token fetch do not."""
    async with new_session() as session:
        view = session.with_options(may_send=lambda: False)
        for each in (view, view.with_options(retry=NO_RETRY), view.with_options(may_send=lambda: True)):
            with pytest.raises(SendVetoed):
                await each.call(READ, {})
        assert await session.call(READ, {}) == Done()
    assert (len(wechat.sent_to(READ.path)), wechat.fetches) == (1, 1)


@pytest.mark.parametrize(
    ("says", "asked"),
    [((True, True), ["outer", "inner"]), ((True, "no"), ["outer", "inner"]), (("yes", True), ["outer"])],
)
async def test_view_of_a_view_asks_both(new_session, wechat, says, asked):
    """The outer view is asked first; the call is sent when both say True, and nothing else will do."""
    heard = []

    def say(name, word):
        return lambda: heard.append(name) or word

    async with new_session() as session:
        outer = session.with_options(may_send=say("outer", says[0]))
        view = outer.with_options(may_send=say("inner", says[1]))
        if says == (True, True):
            assert await view.call(READ, {}) == Done()
        else:
            with pytest.raises(SendVetoed):
                await view.call(READ, {})
    assert heard == asked


class Empty:
    """A callable that is as false as an empty list."""

    def __len__(self):
        return 0

    def __call__(self):
        return False


async def test_may_send_that_looks_empty_is_asked(new_session):
    """What an object is worth as a truth is not what it answers."""
    async with new_session() as session:
        view = session.with_options(may_send=Empty())
        with pytest.raises(SendVetoed):
            await view.with_options(may_send=lambda: True).call(READ, {})


class Awaited:
    """An object whose call must be awaited."""

    async def __call__(self, *_):
        return False


def test_hook_that_must_be_awaited_is_refused_as_an_object_too(new_session):
    """Nobody would await it."""
    with pytest.raises(InvalidArgument, match="hooks"):
        new_session(hooks=[Awaited()])


@pytest.mark.parametrize("may_send", [True, "yes", asyncio.sleep, Awaited()])
def test_may_send_must_be_a_plain_callable(new_session, may_send):
    """What would always be true without being asked is refused."""
    with pytest.raises(InvalidArgument, match="may_send"):
        new_session().with_options(may_send=may_send)


async def test_cancelled_aclose_has_ended_what_was_under_way(new_session, wechat, settle):
    """Cancelling `aclose` leaves no renewal behind, and its waiters hear of the end."""

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
    """Only `with_options` makes views: what `attrs.evolve` gives shares nothing."""
    async with new_session() as session:
        other = attrs.evolve(session, connections=5)
        with pytest.raises(SessionClosed):
            await other.call(READ, {})


async def test_sessions_that_share_a_store_come_to_share_its_newest_token(new_session, wechat):
    """Two that mint at the same moment settle on one token, whichever of theirs the platform kept."""
    living = []

    def mint(request):
        living[:] = [f"T0KEN-{wechat.minted + 1}"]
        return wechat.after(0.1, wechat.mint(request))

    wechat.usual[TOKEN_PATH] = mint
    wechat.usual[READ.path] = lambda request: 0 if request.token.reveal() in living else 40001
    store = MemoryStore(asyncio.get_running_loop().time)
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        for _ in range(20):
            await asyncio.gather(one.call(READ, {}), two.call(READ, {}))
    assert wechat.fetches <= 4


async def test_reply_class_that_cannot_be_read_is_refused_before_anything_is_sent(new_session, wechat):
    """A create with such a reply would act, and nobody could read what it made."""

    @attrs.frozen
    class Odd(Reply):
        when: complex

    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="Odd"):
            await session.call(Endpoint("/tcb/odd", Odd, Repeat.ONCE), {})
    assert wechat.sent_to("/tcb/odd") == []


async def test_an_action_goes_out_in_query_and_body(new_session, wechat):
    """Beside what the call sends there itself; the caller's mappings stay as they are."""
    endpoint = Endpoint("/tcb/db", Done, Repeat.READ, name="db_get", action="get")
    body, query = {"env": "e-1"}, {"name": "n"}
    async with new_session() as session:
        await session.call(endpoint, body, query=query)
        await session.call(endpoint, {})
    first, second = wechat.sent_to("/tcb/db")
    assert (first.query, orjson.loads(first.body.data)) == (query | {"action": "get"}, body | {"action": "get"})
    assert (second.query, orjson.loads(second.body.data)) == ({"action": "get"}, {"action": "get"})
    assert (body, query) == ({"env": "e-1"}, {"name": "n"})


async def test_another_action_in_body_or_query_sends_nothing(new_session, wechat):
    """A read must not become a create."""
    endpoint = Endpoint("/tcb/db", Done, Repeat.READ, action="get")
    async with new_session() as session:
        with pytest.raises(InvalidArgument, match="action must be 'get'"):
            await session.call(endpoint, {"action": "insert"})
        with pytest.raises(InvalidArgument, match="the query's action must be 'get', not 'insert'"):
            await session.call(endpoint, {}, query={"action": "insert"})
    assert wechat.sent_to("/tcb/db") == []
