"""Buying a token with the ticket: what is sent, what is refused, and what is remembered."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.executor import RequestExecutor
from wxtcb._http.retry import FailureKind, classify
from wxtcb._http.transport import Response, ResponseTooLarge, SendCancelled, SendFailure
from wxtcb._protocol.codec import raw
from wxtcb._protocol.errcodes import api_error
from wxtcb.errors import (
    ApiError,
    BadReply,
    CloudUnavailable,
    InvalidAppSecret,
    InvalidTicket,
    IPNotAllowed,
    OutcomeUnknown,
    PlatformBusy,
    RateLimited,
    TicketError,
    TicketExpired,
    TicketMissing,
    TokenFetchLimit,
    TokenStoreError,
    TransportError,
    WxtcbError,
)
from wxtcb.secret import Secret
from wxtcb.tokens.providers import (
    API_COMPONENT_TOKEN,
    API_START_PUSH_TICKET,
    ComponentToken,
    ExternalTokenProvider,
    StoredTicketSource,
    TicketTokenProvider,
    is_transient,
)
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.stores import MemoryStore

pytestmark = pytest.mark.virtual_time

PATH = API_COMPONENT_TOKEN.path


class Desk:
    """A source before a scripted platform; `ticket` may be changed, or be an exception."""

    def __init__(self, wechat):
        time = asyncio.get_running_loop().time
        self.platform = wechat
        self.ticket = "ticket@@@1"
        self.exchange = RequestExecutor(wechat, RequestLimiter(1, time, time), time)
        self.source = TicketTokenProvider(self.exchange, "wx0", Secret("S3CRET"), self.newest, time)

    async def fetch(self):
        """Prepare and fetch, as a renewal does."""
        order = await self.source.prepare()
        return await order(lambda: True)

    async def newest(self):
        if isinstance(self.ticket, BaseException):
            raise self.ticket
        return self.ticket

    async def failure(self, *steps):
        """Return what a fetch that meets *steps* raises."""
        self.platform.play(PATH, *steps)
        with pytest.raises(WxtcbError) as caught:
            await self.fetch()
        return caught.value


@pytest.fixture
async def desk(wechat):
    """Give a source before the scripted platform."""
    return Desk(wechat)


async def test_fetch_sends_appid_secret_and_ticket_without_a_token(desk):
    """The documented body, nothing in the query, and the typed reply."""
    token = await desk.fetch()
    (request,) = desk.platform.requests
    assert request.body.data == (
        b'{"component_appid":"wx0","component_appsecret":"S3CRET","component_verify_ticket":"ticket@@@1"}'
    )
    assert (request.path, request.token, request.query) == (PATH, None, None)
    assert (token.component_access_token, token.expires_in) == (Secret("T0KEN-1"), 7200)


async def test_fetch_needs_no_slot_of_the_gate(desk):
    """Calls that wait for a token hold the slots; the fetch goes past them."""
    assert desk.exchange.limiter.try_acquire("/x")
    await desk.fetch()


async def test_reply_keeps_no_raw_json(desk):
    """The JSON with the token in clear is not kept."""
    token = await desk.fetch()
    with pytest.raises(WxtcbError):
        raw(token)
    assert "T0KEN" not in repr(token)


@pytest.mark.parametrize("ticket", [None, ""])
async def test_nothing_is_sent_when_there_is_no_ticket(desk, ticket):
    """Without a ticket there is a TicketError at once that says how to get one."""
    desk.ticket = ticket
    error = await desk.failure()
    assert isinstance(error, TicketError)
    assert "api_start_push_ticket" in str(error)
    assert desk.platform.requests == []


async def test_failing_ticket_source_is_a_ticket_error(desk):
    """What the caller's ticket source raises is named with its place, but neither quoted nor chained."""
    desk.ticket = LookupError("S3CRET")
    error = await desk.failure()
    assert isinstance(error, TicketError)
    assert "LookupError" in str(error)
    assert "S3CRET" not in str(error)
    assert f"{Path(__file__).name}, line" in str(error)
    assert error.__cause__ is None
    assert desk.platform.requests == []


async def test_ticket_source_in_which_something_was_cancelled_is_a_ticket_error(desk):
    """A CancelledError that nobody sent to the fetch is a failure of the ticket source."""
    desk.ticket = asyncio.CancelledError()
    assert isinstance(await desk.failure(), TicketError)


async def test_fetch_cancelled_while_it_asks_for_the_ticket_is_cancelled(desk):
    """A fetch that is cancelled in the ticket source ends in CancelledError."""

    async def never():
        await asyncio.get_running_loop().create_future()

    desk.source.ticket_source = never
    fetch = asyncio.create_task(desk.fetch())
    await asyncio.sleep(0)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch


async def test_own_error_of_a_ticket_source_passes_as_it_is(desk):
    """A ticket source may raise a WxtcbError of its choice."""
    desk.ticket = TicketError("mine")
    error = await desk.failure()
    assert (type(error), str(error), error.transient) == (TicketError, "mine", False)


@pytest.mark.parametrize(
    ("errcode", "kind"), [(40001, InvalidAppSecret), (40125, InvalidAppSecret), (61005, InvalidTicket)]
)
async def test_refusals_of_the_token_call_name_what_was_refused(desk, errcode, kind):
    """40001 and 40125 mean the secret, 61005 the ticket."""
    assert isinstance(await desk.failure(errcode), kind)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (SendFailure("the connection was lost", sent=True), TransportError),
        (SendFailure("no reply in time", sent=True, timeout=True), TransportError),
        (Response(502, b"<h1>no</h1>"), BadReply),
        (Response(307, b""), BadReply),
        (ResponseTooLarge(200), BadReply),
        ({"component_access_token": "T0KEN"}, BadReply),
        ({"component_access_token": "", "expires_in": 7200}, BadReply),
        ({"component_access_token": "T0KEN", "expires_in": "7200"}, BadReply),
        (-1, PlatformBusy),
        (-1000, CloudUnavailable),
        (45011, RateLimited),
    ],
)
async def test_failures_are_never_outcome_unknown_and_never_remembered(desk, step, kind):
    """What may pass is raised as it is after one request, without the token, and asked again the next time."""
    error = await desk.failure(step)
    assert isinstance(error, kind)
    assert not isinstance(error, OutcomeUnknown)
    assert "T0KEN" not in str(error)
    assert len(desk.platform.requests) == 1
    await desk.fetch()


@pytest.mark.parametrize("errcode", [40125, 40001, 61004, 61005, 61006, 61011])
async def test_permanent_refusal_is_remembered_for_a_minute(desk, errcode):
    """For 60 s the same ticket gets the same refusal without a request, as an object of its own."""
    first = await desk.failure(errcode)
    await asyncio.sleep(10)
    again = await desk.failure()
    assert (type(again), str(again)) == (type(first), str(first))
    assert again is not first
    assert again.retry_after == pytest.approx(50)
    assert len(desk.platform.requests) == 1
    await asyncio.sleep(50)
    await desk.fetch()
    assert len(desk.platform.requests) == 2


async def test_permanent_refusal_is_forgotten_when_the_ticket_changes(desk):
    """A newer ticket is tried at once."""
    await desk.failure(61005)
    desk.ticket = "ticket@@@2"
    await desk.fetch()
    assert len(desk.platform.requests) == 2


async def test_cancelled_fetch_is_a_cancellation_with_the_same_args(desk):
    """A fetch that is cancelled under way ends in CancelledError."""
    desk.platform.play(PATH, SendCancelled(("closing",), sent=True))
    with pytest.raises(asyncio.CancelledError) as caught:
        await desk.fetch()
    assert caught.value.args == ("closing",)


@pytest.mark.parametrize("errcode", [-1, -1000, 45011])
def test_transient_refusals_may_pass(errcode):
    """Busy, a passing fault and the minute limit are worth another try soon."""
    assert is_transient(api_error(errcode, "", endpoint=PATH))


@pytest.mark.parametrize(
    "error",
    [
        TicketError("none"),
        TokenFetchLimit(30, 9),
        *(api_error(code, "", endpoint=PATH) for code in (40125, 61004, 45009)),
    ],
)
def test_permanent_refusals_do_not_pass(error):
    """Neither a missing ticket, nor the ceiling, nor a refusal of credentials, address or quota."""
    assert not is_transient(error)


def test_lost_connections_may_pass():
    """What is no answer of the platform may go better the next time."""
    assert is_transient(TransportError("no", endpoint=PATH, sent=False))
    assert is_transient(BadReply("no", endpoint=PATH, status=502))


async def test_repr_shows_neither_secret_nor_ticket(desk):
    """The source, after a remembered refusal, is safe to print, and so is the request."""
    error = await desk.failure(61004)
    shown = f"{desk.source!r} {desk.platform.requests!r} {error!r}"
    assert isinstance(error, IPNotAllowed)
    assert isinstance(error, ApiError)
    assert "S3CRET" not in shown
    assert "ticket@@@" not in shown


async def test_ticket_source_that_hangs_is_a_ticket_error(desk):
    """It is given as long as an attempt may take, so that what waits for the token ends."""

    async def never():
        await asyncio.get_running_loop().create_future()

    desk.source.ticket_source = never
    error = await desk.failure()
    assert isinstance(error, TicketError)
    assert "within 35 s" in str(error)


async def test_ticket_may_come_as_a_secret(desk):
    """A ticket source need not unwrap what it keeps wrapped."""
    desk.ticket = Secret("ticket@@@1")
    await desk.fetch()
    assert b"ticket@@@1" in desk.platform.requests[0].body.data


@pytest.mark.parametrize("ticket", [b"ticket@@@1", 5, ["ticket@@@1"]])
async def test_ticket_that_is_no_text_is_a_ticket_error(desk, ticket):
    """What the source gave is named by its type, not quoted."""
    desk.ticket = ticket
    error = await desk.failure()
    assert isinstance(error, TicketError)
    assert type(ticket).__name__ in str(error)
    assert "@@@" not in str(error)


async def test_timeout_of_the_source_itself_is_told_as_its_failure(desk):
    """Only what took as long as is allowed is said to have taken that long."""
    desk.ticket = TimeoutError("redis")
    assert "failed (TimeoutError in " in str(await desk.failure())


async def test_ticket_that_is_no_proper_text_is_a_ticket_error(desk):
    """Bytes of the environment that are no UTF-8 arrive as lone surrogates."""
    desk.ticket = "ticket@@@\udcff"
    error = await desk.failure()
    assert isinstance(error, TicketError)
    assert "Unicode" in str(error)


async def test_failing_ticket_source_may_do_better_the_next_time(desk):
    """A hiccup of it is no reason to give up; no ticket at all is."""
    desk.ticket = ConnectionError()
    assert is_transient(await desk.failure())
    assert classify(await desk.failure()) is FailureKind.NOT_SENT
    desk.ticket = None
    assert not is_transient(await desk.failure())


class Push:
    """A ticket source that has a ticket from a moment on."""

    def __init__(self, at, ticket="ticket@@@pushed"):
        self.at, self.ticket = at, ticket

    async def __call__(self):
        return self.ticket if asyncio.get_running_loop().time() >= self.at else None


def with_push(desk, source, within):
    """Make an origin that asks for the push."""
    return TicketTokenProvider(
        desk.exchange,
        "wx0",
        Secret("S3CRET"),
        source,
        desk.exchange.now,
        push_timeout=within,
    )


async def hope(origin):
    """Prepare as a renewal does: what is lacking may come with a push."""
    while True:
        try:
            return await origin.prepare()
        except TicketError as lacking:
            await origin.request_ticket_push(lacking)
        await asyncio.sleep(0.5)


async def test_push_is_asked_for_once_and_awaited_where_the_policy_says_so(desk):
    """Without a ticket: startPushTicket, the ticket that the push brings, and the token for it."""
    order = await hope(with_push(desk, Push(1007), 60))
    await order(lambda: True)
    paths = [request.path for request in desk.platform.requests]
    assert paths == [API_START_PUSH_TICKET.path, PATH]
    started, bought = (request.body.data for request in desk.platform.requests)
    assert started == b'{"component_appid":"wx0","component_secret":"S3CRET"}'
    assert b"ticket@@@pushed" in bought
    assert desk.exchange.now() == pytest.approx(1007, abs=0.6)


async def test_push_that_brings_nothing_is_given_up_within_its_bound(desk):
    """The error says that the push was asked for."""
    with pytest.raises(TicketMissing, match=r"no ticket arrived within 30 s") as caught:
        await hope(with_push(desk, Push(9999), 30))
    assert desk.exchange.now() == pytest.approx(1030)
    assert caught.value.transient is False


async def test_push_that_cannot_be_started_is_the_failure(desk):
    """A wrong secret is told at once, and for a minute without asking again."""
    desk.platform.usual[API_START_PUSH_TICKET.path] = 40125
    origin = with_push(desk, Push(9999), 30)
    for _ in range(20):
        with pytest.raises(InvalidAppSecret):
            await hope(origin)
    assert desk.exchange.now() == 1000
    assert len(desk.platform.requests) == 1
    await asyncio.sleep(60)
    with pytest.raises(InvalidAppSecret):
        await hope(origin)
    assert len(desk.platform.requests) == 2


async def test_push_is_asked_for_once_a_minute(desk):
    """However often a ticket is missed."""
    origin = with_push(desk, Push(9999), 1)
    for _ in range(10):
        with pytest.raises(TicketMissing):
            await hope(origin)
        await asyncio.sleep(6)
    assert len(desk.platform.requests) == 1


async def test_push_is_not_asked_for_without_the_policy_or_for_a_refused_ticket(desk):
    """A ticket that WeChat refuses is followed by the next push anyway."""
    with pytest.raises(TicketMissing):
        await hope(with_push(desk, Push(9999), 0))
    desk.platform.usual[PATH] = 61006
    origin = with_push(desk, Push(0), 30)
    order = await origin.prepare()
    with pytest.raises(InvalidTicket):
        await order(lambda: True)
    with pytest.raises(InvalidTicket):
        await hope(origin)
    assert len(desk.platform.requests) == 1


async def test_push_is_not_asked_for_when_the_ticket_source_fails(desk):
    """What is wrong there is no missing ticket."""

    async def broken():
        raise OSError

    with pytest.raises(TicketError):
        await hope(with_push(desk, broken, 30))
    assert desk.platform.requests == []


async def test_push_cancelled_while_it_is_asked_for_is_cancelled(desk):
    """Nothing goes on behind the caller's back."""
    desk.platform.play(API_START_PUSH_TICKET.path, desk.platform.after(60))
    preparing = asyncio.create_task(hope(with_push(desk, Push(9999), 30)))
    await asyncio.sleep(1)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing


@pytest.fixture
async def shared():
    """Give the record of a store in memory."""
    return SharedState(MemoryStore(asyncio.get_running_loop().time), "wx0")


async def test_kept_ticket_is_the_newest_in_the_store(shared):
    """What the receiver kept last, by CreateTime; None before."""
    source = StoredTicketSource(shared)
    assert await source() is None
    await shared.update(lambda record, now: record.with_ticket(Secret("new"), 20, now))
    assert await shared.update(lambda record, now: record.with_ticket(Secret("old"), 10, now)) is None
    assert await source() == Secret("new")


async def test_kept_ticket_over_twelve_hours_old_is_refused_without_a_request(shared):
    """It would be refused with 61005; the error says how old it is."""
    await shared.update(lambda record, now: record.with_ticket(Secret("t"), 20, now))
    source = StoredTicketSource(shared)
    await asyncio.sleep(12 * 3600 - 1)
    assert await source() == Secret("t")
    await asyncio.sleep(2)
    with pytest.raises(TicketExpired, match=r"12\.0 hours old") as caught:
        await source()
    assert caught.value.age == pytest.approx(12 * 3600 + 1)


async def test_kept_ticket_seen_last_is_given_while_the_store_is_down(shared):
    """A process that has never seen the store says that it is down."""
    await shared.update(lambda record, now: record.with_ticket(Secret("t"), 20, now))

    async def fail(appid):
        raise ConnectionError

    down = SharedState(SimpleNamespace(load=fail), "wx0")
    with pytest.raises(TokenStoreError):
        await StoredTicketSource(down)()
    down.last_snapshot = await shared.read()
    assert await StoredTicketSource(down)() == Secret("t")


async def central(answer):
    """Fetch from a central service that answers so."""

    async def source():
        if isinstance(answer, BaseException):
            raise answer
        return answer

    order = await ExternalTokenProvider(source).prepare()
    return await order(lambda: True)


async def test_central_service_gives_its_token():
    """It is asked as it is, and voids nothing; a token given as a text is a secret from then on."""
    token = ComponentToken(component_access_token="T0KEN", expires_in=600)
    assert token.component_access_token == Secret("T0KEN")
    assert await central(token) is token
    assert ExternalTokenProvider(None).invalidates_previous is False


async def test_central_service_has_no_push_to_ask_for():
    """What it lacks is raised as it is."""
    with pytest.raises(TicketError, match="mine"):
        await ExternalTokenProvider(None).request_ticket_push(TicketError("mine"))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (None, TransportError, "returned a NoneType; it must return a wxtcb.tokens.ComponentToken"),
        ("T0KEN", TransportError, "returned a str"),
        (OSError("S3CRET"), TransportError, "the token source failed (OSError in "),
        (asyncio.CancelledError(), TransportError, "the token source was cancelled internally"),
        (TicketError("mine"), TicketError, "mine"),
        (ComponentToken("T0KEN", "7200"), TransportError, "must be a number, not str"),
        (ComponentToken("T0KEN", None), TransportError, "not NoneType"),
        (ComponentToken("T0KEN", True), TransportError, "not bool"),
        (ComponentToken("", 7200), TransportError, "non-empty"),
        (ComponentToken("T0KEN\udcff", 7200), TransportError, "valid Unicode"),
    ],
)
async def test_central_service_that_fails_is_told_without_its_words(answer, kind, words):
    """Its failure is the failure of the renewal."""
    with pytest.raises(kind) as caught:
        await central(answer)
    assert words in str(caught.value)
    assert "S3CRET" not in str(caught.value)
    assert "T0KEN" not in str(caught.value)


async def test_cancellation_that_a_ticket_source_swallows_takes_effect_all_the_same(desk):
    """Who was cancelled meanwhile goes no further, whatever the source made of it."""

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return "ticket@@@1"

    async def hasty():
        asyncio.current_task().cancel()
        return "ticket@@@1"

    for source in (stubborn, hasty):
        desk.source.ticket_source = source
        fetch = asyncio.create_task(desk.fetch())
        await asyncio.sleep(0)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
    assert desk.platform.requests == []
