"""Tests of token providers: requests, rejections, ticket sources, ticket pushes, and external services."""

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
    InvalidArgument,
    InvalidTicket,
    IPNotAllowed,
    OutcomeUnknown,
    PermissionDenied,
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
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

pytestmark = pytest.mark.virtual_time

PATH = API_COMPONENT_TOKEN.path


class ProviderHarness:
    """A provider with a scripted platform; `ticket` may be changed, or be an exception."""

    def __init__(self, wechat):
        time = asyncio.get_running_loop().time
        self.platform = wechat
        self.ticket = "ticket@@@1"
        self.exchange = RequestExecutor(wechat, RequestLimiter(1, time, time), time)
        self.source = TicketTokenProvider(self.exchange, "wx0", Secret("S3CRET"), self.newest, time)

    async def fetch(self):
        """Prepare and fetch, as a refresh does."""
        order = await self.source.prepare()
        return await order(lambda: True)

    async def newest(self):
        if isinstance(self.ticket, BaseException):
            raise self.ticket
        return self.ticket

    async def failure(self, *steps):
        """Return the error of a fetch for which the platform answers *steps*."""
        self.platform.play(PATH, *steps)
        with pytest.raises(WxtcbError) as caught:
            await self.fetch()
        return caught.value


@pytest.fixture
async def harness(wechat):
    """Return a provider with the scripted platform."""
    return ProviderHarness(wechat)


async def test_fetch_sends_appid_secret_and_ticket_without_a_token(harness):
    """The request has the documented body and no query, and the reply is typed."""
    token = await harness.fetch()
    (request,) = harness.platform.requests
    assert request.body.data == (
        b'{"component_appid":"wx0","component_appsecret":"S3CRET","component_verify_ticket":"ticket@@@1"}'
    )
    assert (request.path, request.token, request.query) == (PATH, None, None)
    assert (token.component_access_token, token.expires_in) == (Secret("T0KEN-1"), 7200)


async def test_fetch_needs_no_slot_of_the_limiter(harness):
    """Calls that wait for a token occupy the slots, so the fetch does not need one."""
    assert harness.exchange.limiter.try_acquire("/x")
    await harness.fetch()


async def test_reply_keeps_no_raw_json(harness):
    """The raw JSON, which contains the token, is not stored."""
    token = await harness.fetch()
    with pytest.raises(WxtcbError):
        raw(token)
    assert "T0KEN" not in repr(token)


@pytest.mark.parametrize("ticket", [None, ""])
async def test_missing_ticket_sends_no_request(harness, ticket):
    """Without a ticket a TicketError is raised at once, with the way to get one."""
    harness.ticket = ticket
    error = await harness.failure()
    assert isinstance(error, TicketError)
    assert "api_start_push_ticket" in str(error)
    assert harness.platform.requests == []


async def test_failing_ticket_source_is_a_ticket_error(harness):
    """The error names the class and location of the ticket source's exception, without quoting or chaining it."""
    harness.ticket = LookupError("S3CRET")
    error = await harness.failure()
    assert isinstance(error, TicketError)
    assert "LookupError" in str(error)
    assert "S3CRET" not in str(error)
    assert f"{Path(__file__).name}, line" in str(error)
    assert error.__cause__ is None
    assert harness.platform.requests == []


async def test_cancellation_inside_a_ticket_source_is_a_ticket_error(harness):
    """A CancelledError that does not come from the caller is a failure of the ticket source."""
    harness.ticket = asyncio.CancelledError()
    assert isinstance(await harness.failure(), TicketError)


async def test_fetch_cancelled_in_the_ticket_source_is_cancelled(harness):
    """A caller that is cancelled during the ticket source gets CancelledError."""

    async def never():
        await asyncio.get_running_loop().create_future()

    harness.source.ticket_source = never
    fetch = asyncio.create_task(harness.fetch())
    await asyncio.sleep(0)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch


async def test_wxtcb_error_of_a_ticket_source_is_raised_unchanged(harness):
    """A ticket source may raise a WxtcbError."""
    harness.ticket = TicketError("mine")
    error = await harness.failure()
    assert (type(error), str(error), error.transient) == (TicketError, "mine", False)


@pytest.mark.parametrize(
    ("errcode", "kind"), [(40001, InvalidAppSecret), (40125, InvalidAppSecret), (61005, InvalidTicket)]
)
async def test_rejections_have_specific_classes(harness, errcode, kind):
    """40001 and 40125 of the token call mean the secret, 61005 the ticket."""
    assert isinstance(await harness.failure(errcode), kind)


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
        (48001, PermissionDenied),
    ],
)
async def test_transient_failures_are_raised_and_not_remembered(harness, step, kind):
    """A transient failure is raised after one request, without the token, and the next fetch sends again."""
    error = await harness.failure(step)
    assert isinstance(error, kind)
    assert not isinstance(error, OutcomeUnknown)
    assert "T0KEN" not in str(error)
    assert len(harness.platform.requests) == 1
    await harness.fetch()


@pytest.mark.parametrize("errcode", [40125, 40001, 61004, 61005, 61006, 61011])
async def test_permanent_rejection_is_remembered_for_a_minute(harness, errcode):
    """For 60 s the same ticket gets the same rejection without a request, as a separate object."""
    first = await harness.failure(errcode)
    await asyncio.sleep(10)
    again = await harness.failure()
    assert (type(again), str(again)) == (type(first), str(first))
    assert again is not first
    assert again.retry_after == pytest.approx(50)
    assert len(harness.platform.requests) == 1
    await asyncio.sleep(50)
    await harness.fetch()
    assert len(harness.platform.requests) == 2


async def test_new_ticket_clears_a_rejection(harness):
    """A newer ticket is tried at once."""
    await harness.failure(61005)
    harness.ticket = "ticket@@@2"
    await harness.fetch()
    assert len(harness.platform.requests) == 2


async def test_cancelled_fetch_is_a_cancellation_with_the_same_args(harness):
    """A fetch that is cancelled during its request raises CancelledError."""
    harness.platform.play(PATH, SendCancelled(("closing",), sent=True))
    with pytest.raises(asyncio.CancelledError) as caught:
        await harness.fetch()
    assert caught.value.args == ("closing",)


@pytest.mark.parametrize("errcode", [-1, -1000, 45011, 48001])
def test_transient_errors(errcode):
    """Busy, cloud unavailable, the rate limit, and "api unauthorized" of the token call are transient."""
    assert is_transient(api_error(errcode, "", endpoint=PATH))


@pytest.mark.parametrize(
    "error",
    [
        TicketError("none"),
        TokenFetchLimit(30, 9),
        *(api_error(code, "", endpoint=PATH) for code in (40125, 61004, 45009)),
        api_error(48001, "", endpoint=API_START_PUSH_TICKET.path),
    ],
)
def test_permanent_errors(error):
    """A missing ticket, the hourly limit, and rejections of credentials, IP or quota are permanent."""
    assert not is_transient(error)


def test_transport_errors_are_transient():
    """An error without a reply of the platform is transient."""
    assert is_transient(TransportError("no", endpoint=PATH, sent=False))
    assert not is_transient(TransportError("KeyError", endpoint=PATH, sent=False, permanent=True))
    assert is_transient(BadReply("no", endpoint=PATH, status=502))


async def test_repr_shows_neither_secret_nor_ticket(harness):
    """The reprs of the provider, after a rejection, and of the request show no secret."""
    error = await harness.failure(61004)
    shown = f"{harness.source!r} {harness.platform.requests!r} {error!r}"
    assert isinstance(error, IPNotAllowed)
    assert isinstance(error, ApiError)
    assert "S3CRET" not in shown
    assert "ticket@@@" not in shown


async def test_ticket_source_that_hangs_is_a_ticket_error(harness):
    """A ticket source has as long as one request may take."""

    async def never():
        await asyncio.get_running_loop().create_future()

    harness.source.ticket_source = never
    error = await harness.failure()
    assert isinstance(error, TicketError)
    assert "within 35 s" in str(error)


async def test_ticket_may_come_as_a_secret(harness):
    """A ticket source may return a Secret."""
    harness.ticket = Secret("ticket@@@1")
    await harness.fetch()
    assert b"ticket@@@1" in harness.platform.requests[0].body.data


@pytest.mark.parametrize("ticket", [b"ticket@@@1", 5, ["ticket@@@1"]])
async def test_ticket_of_another_type_is_a_ticket_error(harness, ticket):
    """The error names the type of the value and does not quote it."""
    harness.ticket = ticket
    error = await harness.failure()
    assert isinstance(error, TicketError)
    assert type(ticket).__name__ in str(error)
    assert "@@@" not in str(error)


async def test_timeout_error_of_the_source_is_its_failure(harness):
    """Only a ticket source that exceeded its time is reported as slow."""
    harness.ticket = TimeoutError("redis")
    assert "failed (TimeoutError in " in str(await harness.failure())


async def test_ticket_with_invalid_unicode_is_a_ticket_error(harness):
    """Environment variables that are not UTF-8 have lone surrogates."""
    harness.ticket = "ticket@@@\udcff"
    error = await harness.failure()
    assert isinstance(error, TicketError)
    assert "Unicode" in str(error)


async def test_failing_ticket_source_is_transient(harness):
    """An exception of the ticket source is transient; a missing ticket is not."""
    harness.ticket = ConnectionError()
    assert is_transient(await harness.failure())
    assert classify(await harness.failure()) is FailureKind.NOT_SENT
    harness.ticket = None
    assert not is_transient(await harness.failure())


class DelayedTicket:
    """A ticket source that has a ticket from a moment on."""

    def __init__(self, at, ticket="ticket@@@pushed"):
        self.at, self.ticket = at, ticket

    async def __call__(self):
        return self.ticket if asyncio.get_running_loop().time() >= self.at else None


def provider_with_push(harness, source, within):
    """Return a provider that requests the push."""
    return TicketTokenProvider(
        harness.exchange,
        "wx0",
        Secret("S3CRET"),
        source,
        harness.exchange.now,
        ticket_timeout=within,
    )


async def prepare_or_request_push(origin):
    """Prepare as a refresh does, and request a push if the ticket is missing."""
    while True:
        try:
            return await origin.prepare()
        except TicketError as lacking:
            await origin.request_ticket_push(lacking)
        await asyncio.sleep(0.5)


async def test_push_is_requested_once_and_awaited(harness):
    """Without a ticket the push is requested, and its ticket is used for the token."""
    order = await prepare_or_request_push(provider_with_push(harness, DelayedTicket(1007), 60))
    await order(lambda: True)
    paths = [request.path for request in harness.platform.requests]
    assert paths == [API_START_PUSH_TICKET.path, PATH]
    started, bought = (request.body.data for request in harness.platform.requests)
    assert started == b'{"component_appid":"wx0","component_secret":"S3CRET"}'
    assert b"ticket@@@pushed" in bought
    assert harness.exchange.now() == pytest.approx(1007, abs=0.6)


async def test_push_without_a_ticket_times_out(harness):
    """The error says that a push was requested."""
    with pytest.raises(TicketMissing, match=r"no ticket arrived within 30 s") as caught:
        await prepare_or_request_push(provider_with_push(harness, DelayedTicket(9999), 30))
    assert harness.exchange.now() == pytest.approx(1030)
    assert caught.value.transient is False


async def test_failed_push_request_is_raised(harness):
    """A wrong secret is raised at once, and for a minute without another request."""
    harness.platform.usual[API_START_PUSH_TICKET.path] = 40125
    origin = provider_with_push(harness, DelayedTicket(9999), 30)
    for _ in range(20):
        with pytest.raises(InvalidAppSecret):
            await prepare_or_request_push(origin)
    assert harness.exchange.now() == 1000
    assert len(harness.platform.requests) == 1
    await asyncio.sleep(60)
    with pytest.raises(InvalidAppSecret):
        await prepare_or_request_push(origin)
    assert len(harness.platform.requests) == 2


async def test_push_is_requested_once_a_minute(harness):
    """A missing ticket requests at most one push a minute."""
    origin = provider_with_push(harness, DelayedTicket(9999), 1)
    for _ in range(10):
        with pytest.raises(TicketMissing):
            await prepare_or_request_push(origin)
        await asyncio.sleep(6)
    assert len(harness.platform.requests) == 1


async def test_push_is_not_requested_for_a_rejected_ticket(harness):
    """No push is requested if the option is off, or if WeChat rejected the ticket."""
    with pytest.raises(TicketMissing):
        await prepare_or_request_push(provider_with_push(harness, DelayedTicket(9999), None))
    harness.platform.usual[PATH] = 61006
    origin = provider_with_push(harness, DelayedTicket(0), 30)
    order = await origin.prepare()
    with pytest.raises(InvalidTicket):
        await order(lambda: True)
    with pytest.raises(InvalidTicket):
        await prepare_or_request_push(origin)
    assert len(harness.platform.requests) == 1


async def test_push_is_not_requested_if_the_ticket_source_fails(harness):
    """An exception of the ticket source is not a missing ticket."""

    async def broken():
        raise OSError

    with pytest.raises(TicketError):
        await prepare_or_request_push(provider_with_push(harness, broken, 30))
    assert harness.platform.requests == []


async def test_push_request_can_be_cancelled(harness):
    """A cancelled push request leaves nothing running."""
    harness.platform.play(API_START_PUSH_TICKET.path, harness.platform.after(60))
    preparing = asyncio.create_task(prepare_or_request_push(provider_with_push(harness, DelayedTicket(9999), 30)))
    await asyncio.sleep(1)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing


@pytest.fixture
async def state_repository():
    """Return the shared state in a store in memory."""
    return StateRepository(MemoryStore(asyncio.get_running_loop().time), "wx0")


async def test_stored_ticket_is_the_newest(state_repository):
    """The stored ticket with the latest CreateTime is returned; None before the first."""
    source = StoredTicketSource(state_repository)
    assert await source() is None
    await state_repository.update(lambda record, now: record.with_ticket(Secret("new"), 20, now))
    assert await state_repository.update(lambda record, now: record.with_ticket(Secret("old"), 10, now)) is None
    assert await source() == Secret("new")


async def test_stored_ticket_over_twelve_hours_old_is_rejected(state_repository):
    """TicketExpired is raised without a request, with the age of the ticket."""
    await state_repository.update(lambda record, now: record.with_ticket(Secret("t"), 20, now))
    source = StoredTicketSource(state_repository)
    await asyncio.sleep(12 * 3600 - 1)
    assert await source() == Secret("t")
    await asyncio.sleep(2)
    with pytest.raises(TicketExpired, match=r"12\.0 hours old") as caught:
        await source()
    assert caught.value.age == pytest.approx(12 * 3600 + 1)


async def test_last_stored_ticket_is_used_while_the_store_is_down(state_repository):
    """A process that has never read the store gets TokenStoreError."""
    await state_repository.update(lambda record, now: record.with_ticket(Secret("t"), 20, now))

    async def fail(appid):
        raise ConnectionError

    down = StateRepository(SimpleNamespace(load=fail), "wx0")
    with pytest.raises(TokenStoreError):
        await StoredTicketSource(down)()
    down.last_snapshot = await state_repository.read()
    assert await StoredTicketSource(down)() == Secret("t")


async def fetch_from_service(answer):
    """Fetch from an external service that answers *answer*."""

    async def source():
        if isinstance(answer, BaseException):
            raise answer
        return answer

    order = await ExternalTokenProvider(source).prepare()
    return await order(lambda: True)


async def test_external_service_returns_its_token():
    """A fetch from the service invalidates nothing, and a token given as a string becomes a Secret."""
    token = ComponentToken(component_access_token="T0KEN", expires_in=600)
    assert token.component_access_token == Secret("T0KEN")
    assert await fetch_from_service(token) is token
    assert ExternalTokenProvider(None).invalidates_previous is False


@pytest.mark.parametrize("value", [None, b"T0KEN"])
def test_token_of_another_type_is_rejected_and_not_quoted(value):
    """A token must be a string or a Secret; the message names only the type."""
    with pytest.raises(InvalidArgument, match=f"must be Secret, not {type(value).__name__}") as caught:
        ComponentToken(value, 7200)
    assert "T0KEN" not in str(caught.value)


async def test_external_service_requests_no_push():
    """A ticket error is raised unchanged."""
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
async def test_failing_external_service_is_not_quoted(answer, kind, words):
    """The error of the service is the failure of the refresh, without its message."""
    with pytest.raises(kind) as caught:
        await fetch_from_service(answer)
    assert words in str(caught.value)
    assert "S3CRET" not in str(caught.value)
    assert "T0KEN" not in str(caught.value)


async def test_swallowed_cancellation_takes_effect(harness):
    """A caller that was cancelled stops, although the ticket source swallowed the CancelledError."""

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return "ticket@@@1"

    async def hasty():
        asyncio.current_task().cancel()
        return "ticket@@@1"

    for source in (stubborn, hasty):
        harness.source.ticket_source = source
        fetch = asyncio.create_task(harness.fetch())
        await asyncio.sleep(0)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
    assert harness.platform.requests == []
