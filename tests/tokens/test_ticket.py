"""Tests of TicketReceiver as an ASGI app and an aiohttp.web handler: answers, stored tickets, notifications, events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import functools
import json
import logging
import random
import subprocess
import sys
import traceback
from unittest import mock
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings, strategies as st

from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.events import (
    NotificationDropped,
    NotificationFailed,
    PushMalformed,
    PushRefused,
    PushUndecryptable,
    TicketReceived,
    TicketWriteFailed,
)
from wxtcb.secret import Secret
from wxtcb.tokens import ticket as ticket_package
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore, SqliteStore
from wxtcb.tokens.ticket import MAX_CONCURRENT_NOTIFICATIONS, TicketReceiver
from wxtcb.tokens.ticket.asgi import BODY_TIMEOUT, MAX_BODY, to_address
from wxtcb.tokens.ticket.crypto import MessageCrypto
from wxtcb.tokens.ticket.message import Notification

from .push_messages import APPID, KEY, TOKEN, encrypted_message, pushed

pytestmark = pytest.mark.virtual_time
OLD_KEY = "Z" * 43
PUBLIC = "1.2.3.4"
# Near the times of the pushes of these tests.
NOW = 300.0
TICKET = "component_verify_ticket"


def message(info_type=TICKET, created=100, **texts):
    """Return a message in WeChat's format."""
    texts = {"AppId": APPID, "CreateTime": created, "InfoType": info_type, **texts}
    inside = "".join(f"<{name}><![CDATA[{text}]]></{name}>" for name, text in texts.items())
    return f"<xml>{inside}</xml>"


def ticket(value="ticket@@@1", created=100, **how):
    """Return a push of a ticket."""
    return pushed(message(created=created, ComponentVerifyTicket=value), **how)


def notification(info_type="authorized"):
    """Return a push of another type."""
    return pushed(message(info_type, AuthorizationCode="c0de"))


async def run_until_cancelled(notification):
    """Run until cancelled."""
    await asyncio.Event().wait()


class BrokenStore:
    """A store that is down."""

    asked = 0

    async def load(self, appid):
        self.asked += 1
        raise OSError

    async def compare_and_set(self, appid, document, *, version):
        raise OSError

    async def wait_for_change(self, appid, *, version, timeout):
        raise OSError


@pytest.fixture
def events():
    """Return a list that collects the events."""
    return []


@pytest.fixture
def store():
    """Return the store of the platform."""
    return MemoryStore()


@pytest.fixture
def new_receiver(store, events):
    """Return a function that creates receivers."""

    def build(**options):
        usual = {"component_appid": APPID, "message_token": TOKEN, "encoding_aes_key": KEY, "token_store": store}
        return TicketReceiver(**{**usual, "hooks": (events.append,), "clock": lambda: NOW, **options})

    return build


@pytest_asyncio.fixture
async def receiver(new_receiver):
    """Return an open receiver."""
    async with new_receiver() as receiver:
        yield receiver


async def asgi(receiver, query, *pieces, method="POST", http_version="1.1", every=0.0, peer=None, path="/push"):
    """Serve one request as an ASGI server would; a chunk of None is a disconnect."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces if piece is not None]
    if None in pieces:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1] = {"type": "http.request", "body": pieces[-1]}
    sent = []

    async def receive():
        await asyncio.sleep(every)
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "query_string": query, "http_version": http_version, "path": path}
    if peer is not None:
        scope["client"] = (peer, 1)
    await receiver(scope, receive, send)
    return sent


async def post(receiver, push, **how):
    """Return status and body of the answer to a push."""
    start, end = await asgi(receiver, *push, **how)
    return start["status"], end["body"]


class Content:
    """The body of an aiohttp request in chunks; an exception is raised."""

    def __init__(self, *pieces):
        self.pieces = [*pieces]

    async def readany(self):
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


async def handle_with_aiohttp(receiver, query, *pieces, method="POST", path="/wechat/push"):
    """Serve one request as aiohttp.web would."""
    path = f"{path}?" + query.decode("utf-8", "surrogateescape")
    response = await receiver.handle(make_mocked_request(method, path, payload=Content(*pieces)))
    return response.status, response.body


async def stored_in(store):
    """Return the ticket in the store."""
    stored = (await StateRepository(store, APPID).read()).state.ticket
    return stored and (stored.value.reveal(), stored.create_time)


async def test_ticket_is_answered_with_success(receiver, store, events):
    """The answer is 200 with the plain text "success"; the ticket is in the store, and an event reports it."""
    start, end = await asgi(receiver, *ticket())
    assert start == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"7")],
    }
    assert end == {"type": "http.response.body", "body": b"success"}
    assert await stored_in(store) == ("ticket@@@1", 100)
    assert events == [TicketReceived(100, is_newest=True)]


async def test_aiohttp_handler_answers_the_same(receiver, store):
    """The handler of aiohttp.web returns the same answer."""
    query, body = ticket()
    assert await handle_with_aiohttp(receiver, query, body[:10], body[10:]) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@1", 100)


async def test_newest_ticket_is_a_ticket_source(receiver):
    """It is None before the first push, and a Secret from then on."""
    assert await receiver.newest_ticket() is None
    await post(receiver, ticket("ticket@@@2", 200))
    await post(receiver, ticket("ticket@@@1", 100))
    newest = await receiver.newest_ticket()
    assert (newest.reveal(), repr(newest)) == ("ticket@@@2", "***")


@pytest.mark.parametrize("created", [100, 99])
async def test_repeated_or_older_ticket_is_not_stored(receiver, store, events, created):
    """A ticket that is not newer is answered with success and changes nothing."""
    await post(receiver, ticket())
    assert await post(receiver, ticket("ticket@@@2", created)) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@1", 100)
    assert events[1:] == [TicketReceived(created, is_newest=False)]


async def test_previous_key_decrypts(new_receiver, store):
    """While the key is being changed, both keys are in use."""
    receiver = new_receiver(encoding_aes_key=KEY, previous_encoding_aes_key=Secret(OLD_KEY))
    assert await post(receiver, ticket("ticket@@@1", 100, key=OLD_KEY)) == (200, b"success")
    assert await post(receiver, ticket("ticket@@@2", 200, key=KEY)) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@2", 200)


@pytest.mark.parametrize(
    ("push", "status"),
    [
        ((ticket()[0] + b"0", ticket()[1]), 403),
        (ticket(at=-1), 403),
        (ticket(at=int(NOW) + 601), 403),
        ((ticket()[0], b"<xml/>"), 400),
        ((b"", ticket()[1]), 400),
        ((ticket()[0], b"x" * (MAX_BODY + 1)), 413),
    ],
)
async def test_invalid_push_is_rejected(receiver, store, events, push, status):
    """Both adapters answer with the status and a short text that quotes nothing, and emit an event."""
    code, body = await post(receiver, push)
    assert (code, body) == await handle_with_aiohttp(receiver, *push)
    assert code == status
    assert events == [PushRefused(body.decode(), status)] * 2
    assert 0 < len(body) < 60
    assert not any(word in body for word in (b"ticket@@@", b"wx", TOKEN.encode(), KEY.encode()))
    assert await stored_in(store) is None


@pytest.mark.parametrize(
    "push",
    [
        pushed(""),
        pushed("hello"),
        pushed(message(ComponentVerifyTicket="t").replace(APPID, "wx1")),
        pushed(f"<xml>{'<a/>' * 201}</xml>"),
        ticket(value=""),
        ticket(created=""),
        ticket(created=1413192605000),
    ],
)
async def test_unreadable_push_of_the_platform_is_answered_with_success(receiver, store, events, push):
    """Both adapters answer with success, emit an event, and change nothing."""
    assert await post(receiver, push) == await handle_with_aiohttp(receiver, *push) == (200, b"success")
    assert [type(event) for event in events] == [PushMalformed] * 2
    assert await stored_in(store) is None


async def test_ticket_from_the_future_blocks_no_later_one(new_receiver, store, events):
    """By the given clock, a ticket from the future is ignored, and the next one is the newest."""
    async with new_receiver(clock=lambda: 1000.0) as receiver:
        assert await post(receiver, ticket("ticket@@@9", 1000 + 301, at=1000)) == (200, b"success")
        assert await stored_in(store) is None
        assert await post(receiver, ticket("ticket@@@1", 1000, at=1000)) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@1", 1000)
    assert [type(event) for event in events] == [PushMalformed, TicketReceived]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "post"])
async def test_another_method_is_not_allowed(receiver, method):
    """The answer names the allowed method."""
    start, _ = await asgi(receiver, *ticket(), method=method)
    assert (start["status"], dict(start["headers"])[b"allow"]) == (405, b"POST")


async def test_body_may_arrive_in_any_chunks(receiver):
    """One byte at a time, and empty chunks, are accepted."""
    query, body = ticket()
    pieces = [each for byte in body for each in (bytes([byte]), b"")]
    assert (await asgi(receiver, query, *pieces))[0]["status"] == 200


async def test_body_is_limited_while_it_arrives(receiver):
    """Reading stops after 64 KiB."""
    query = ticket()[0]
    assert (await asgi(receiver, query, b"x" * MAX_BODY))[0]["status"] == 400
    start, _ = await asgi(receiver, query, b"x" * MAX_BODY, b"x", RuntimeError("is not read"))
    assert start["status"] == 413


@pytest.mark.parametrize(("http_version", "headers"), [("1.1", 3), ("2", 2)])
async def test_unread_body_closes_the_connection(receiver, http_version, headers):
    """HTTP/1.1 gets "Connection: close"; HTTP/2 has no such header."""
    start, _ = await asgi(receiver, b"", b"x" * 99999, http_version=http_version)
    assert len(start["headers"]) == headers
    assert ((b"connection", b"close") in start["headers"]) is (http_version == "1.1")
    request = make_mocked_request("POST", "/", payload=Content(b"x" * 99999))
    assert (await receiver.handle(request)).keep_alive is False


async def test_slow_body_is_rejected(receiver, events):
    """The whole body has five seconds, however it arrives."""
    started = asyncio.get_running_loop().time()
    query, body = ticket()
    start, _ = await asgi(receiver, query, *(bytes([byte]) for byte in body), every=0.3)
    assert start["status"] == 408
    assert asyncio.get_running_loop().time() == started + BODY_TIMEOUT
    assert [event.status for event in events] == [408]


async def test_disconnected_sender_is_not_answered(receiver, events, store):
    """An event reports it, and nothing is stored."""
    query, body = ticket()
    assert await asgi(receiver, query, body[:50], None) == []
    assert events == [PushRefused("the body is incomplete", 400)]
    assert await stored_in(store) is None


@pytest.mark.parametrize("error", [web.RequestPayloadError(), ConnectionResetError()])
async def test_unreadable_body_of_aiohttp_is_incomplete(receiver, error):
    """A disconnect, or an invalid chunked or compressed body, is rejected."""
    query, body = ticket()
    assert await handle_with_aiohttp(receiver, query, body[:50], error) == (400, b"the body is incomplete")


async def test_websocket_is_closed(receiver):
    """A WebSocket is closed before it is accepted."""
    sent = []

    async def send(message):
        sent.append(message)

    await receiver({"type": "websocket"}, None, send)
    assert sent == [{"type": "websocket.close"}]


async def test_lifespan_opens_and_closes_the_receiver(new_receiver):
    """The lifespan of an ASGI server opens and closes it, more than once."""
    receiver = new_receiver()
    for _ in range(2):
        messages, sent = asyncio.Queue(), asyncio.Queue()
        life = asyncio.create_task(receiver({"type": "lifespan"}, messages.get, sent.put))
        messages.put_nowait({"type": "lifespan.startup"})
        assert (await sent.get()) == {"type": "lifespan.startup.complete"}
        assert (await post(receiver, ticket()))[0] == 200
        messages.put_nowait({"type": "lifespan.shutdown"})
        assert (await sent.get()) == {"type": "lifespan.shutdown.complete"}
        await life
        assert await post(receiver, ticket()) == (503, b"the receiver is closed")


async def test_receiver_works_without_async_with(new_receiver, store):
    """It works from the first request on, and can be closed."""
    receiver = new_receiver()
    assert await post(receiver, ticket()) == (200, b"success")
    assert (await receiver.newest_ticket()).reveal() == "ticket@@@1"
    await receiver.aclose()
    await receiver.aclose()
    with pytest.raises(SessionClosed, match="receiver is closed"):
        await receiver.newest_ticket()


def test_receiver_works_in_successive_event_loops(new_receiver, virtual_run):
    """Test clients run each request in a loop of its own, and may never enter the receiver."""
    receiver = new_receiver(token_store=(store := BrokenStore()))

    async def once(created):
        assert await post(receiver, ticket(created=created)) == (200, b"success")
        await asyncio.sleep(3.5)

    for created in (100, 200, 300):
        virtual_run(once(created))
    virtual_run(receiver.aclose())
    assert store.asked == 10


def test_receiver_can_be_closed_in_a_later_event_loop(new_receiver, virtual_run):
    """Tasks of a closed loop do not delay closing, and the ticket gets its last attempt."""
    receiver = new_receiver(token_store=(store := BrokenStore()), on_notification=run_until_cancelled)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(post(receiver, ticket()))
    loop.run_until_complete(post(receiver, notification()))
    left = asyncio.all_tasks(loop)
    loop.close()
    assert len(left) == 2
    virtual_run(receiver.aclose())
    assert store.asked == 2
    for task in left:
        task.get_coro().close()
        task._log_destroy_pending = False


@pytest.mark.parametrize("is_secret", [False, True])
def test_receiver_opens_and_closes_a_store_given_by_url(new_receiver, tmp_path, is_secret, monkeypatch):
    """The store is opened again if the receiver is."""
    closed = []

    class Watched(SqliteStore):
        async def aclose(self):
            closed.append(self)
            await super().aclose()

    monkeypatch.setattr("wxtcb.tokens.store_urls.SqliteStore", Watched)
    url = f"sqlite:///{tmp_path}/tokens.db"
    receiver = new_receiver(token_store=Secret(url) if is_secret else url)

    async def twice():
        for created in (100, 200):
            async with receiver:
                await post(receiver, ticket(created=created))
                assert len(closed) == (created == 200)
        return await stored_in(store)

    store = SqliteStore(tmp_path / "tokens.db")
    with asyncio.Runner() as runner:
        assert runner.run(twice()) == ("ticket@@@1", 200)
        runner.run(store.aclose())
    assert len(set(closed)) == 2


async def test_ticket_is_available_while_the_store_is_down(new_receiver, events):
    """Pushes are answered with success and events report the failures; closing ends the attempts."""
    async with new_receiver(token_store=BrokenStore(), store_required=False) as receiver:
        assert await post(receiver, ticket()) == (200, b"success")
        assert (await receiver.newest_ticket()).reveal() == "ticket@@@1"
    assert [type(event) for event in events] == [TicketWriteFailed, TicketReceived, TicketWriteFailed]
    assert events[1] == TicketReceived(100, is_newest=True, in_memory_only=True)


async def test_notification_is_dispatched_after_the_answer(new_receiver, settle):
    """The callback runs in a task of its own, and the answer does not wait for it."""
    began, done = [], []

    async def slow(notification):
        began.append(notification)
        await asyncio.sleep(3)
        done.append(notification)

    async with new_receiver(on_notification=slow) as receiver:
        assert await post(receiver, notification()) == (200, b"success")
        await settle()
        assert (len(began), done) == (1, [])
    assert done == began
    assert isinstance(done[0], Notification)
    assert (done[0].info_type, done[0].fields["AuthorizationCode"]) == ("authorized", "c0de")


async def test_notifications_need_no_callback(receiver, events):
    """Without a callback every notification is answered with success."""
    assert await post(receiver, notification("authorized")) == (200, b"success")
    assert await post(receiver, notification("of_tomorrow")) == (200, b"success")
    assert events == []


async def test_exception_of_the_callback_goes_to_the_event_loop(new_receiver, settle):
    """The answer is success; the report names the receiver and shows no code."""

    async def careless(notification):
        raise RuntimeError("careless")

    async with new_receiver(on_notification=careless) as receiver:
        assert await post(receiver, notification()) == (200, b"success")
        await settle()
    [context] = asyncio.get_running_loop().reported
    asyncio.get_running_loop().reported.clear()
    assert (str(context["exception"]), "TicketReceiver" in context["message"]) == ("careless", True)
    assert "c0de" not in repr(context)


async def test_failed_notification_is_reported_and_passed_on_again(new_receiver, events, settle):
    """An event names its type; if WeChat repeats it, the callback runs again."""
    runs = []
    variable = contextvars.ContextVar("variable", default="empty")

    async def fail_once(notification):
        runs.append(notification.info_type)
        if len(runs) == 1:
            raise OSError("c0de")

    contexts = []
    async with new_receiver(
        on_notification=fail_once, hooks=(events.append, lambda _: contexts.append(variable.get()))
    ) as receiver:
        variable.set("of the request")
        for _ in range(3):
            assert await post(receiver, notification()) == (200, b"success")
            await settle()
    asyncio.get_running_loop().reported.clear()
    assert runs == ["authorized"] * 2
    assert events == [NotificationFailed("authorized", "OSError")]
    assert contexts == ["empty"]


@pytest.mark.parametrize("started", [True, False])
async def test_notification_that_closing_cancels_is_reported_and_passed_on_again(new_receiver, events, settle, started):
    """An event names its type, even if its task has not started; a receiver that is opened again passes it on."""
    got = []

    async def slow(notification):
        await asyncio.sleep(8)
        got.append(notification.info_type)

    receiver = new_receiver(on_notification=slow)
    await post(receiver, notification())
    if not started:
        # As `asyncio.run` does if its main coroutine returns now.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    await receiver.aclose()
    assert (got, events) == ([], [NotificationFailed("authorized", "CancelledError")])
    receiver.open()
    assert await post(receiver, notification()) == (200, b"success")
    await asyncio.sleep(9)
    assert got == ["authorized"]
    await receiver.aclose()


async def test_at_most_a_hundred_callbacks_run_at_once(new_receiver, events, settle):
    """One more is answered with 503; when WeChat repeats it after another one has ended, it is passed on."""
    going = asyncio.Event()
    got = []

    async def stuck(notification):
        await going.wait()
        got.append(notification.create_time)

    pushes = [pushed(message("authorized", created)) for created in range(MAX_CONCURRENT_NOTIFICATIONS + 1)]
    async with new_receiver(on_notification=stuck) as receiver:
        answers = [await post(receiver, push) for push in pushes]
        assert answers == [(200, b"success")] * MAX_CONCURRENT_NOTIFICATIONS + [
            (503, b"too many notifications are being processed")
        ]
        assert events == [
            NotificationDropped("authorized", MAX_CONCURRENT_NOTIFICATIONS),
            PushRefused("too many notifications are being processed", 503),
        ]
        going.set()
        await settle()
        assert await post(receiver, pushes[-1]) == (200, b"success")
    assert got == [*range(MAX_CONCURRENT_NOTIFICATIONS + 1)]


@pytest.mark.parametrize("again", [{}, {"at": 2}, {"random": b"b" * 16}])
async def test_repeated_notification_is_passed_on_once(new_receiver, settle, again):
    """So is one that is signed or encrypted anew; another one with the same type is passed on."""
    got = []

    async def collect(notification):
        got.append(notification.create_time)

    async with new_receiver(on_notification=collect) as receiver:
        for push in (
            notification(),
            pushed(message("authorized", AuthorizationCode="c0de"), **again),
            pushed(message("authorized", created=101, AuthorizationCode="c0de")),
        ):
            assert await post(receiver, push) == (200, b"success")
    assert got == [100, 101]


async def test_only_the_newest_notifications_are_remembered(new_receiver, monkeypatch):
    """So their memory is bounded."""
    monkeypatch.setattr(ticket_package, "MAX_REMEMBERED_NOTIFICATIONS", 2)
    got = []

    async def collect(notification):
        got.append(notification.create_time)

    async with new_receiver(on_notification=collect) as receiver:
        for created in (1, 2, 2, 3, 1, 3):
            await post(receiver, pushed(message("authorized", created)))
    assert got == [1, 2, 3, 1]


def altered_pushes(count, random):
    """Return pushes of a sender who knows the message token, but not the key: a captured one, altered and signed.

    Half of them are those of the padding oracle attack, which puts an altered block in front of one to decrypt.
    """
    crypto = MessageCrypto(APPID, Secret(TOKEN), ())
    captured = base64.b64decode(encrypted_message(message(ComponentVerifyTicket="ticket@@@1").encode()))
    blocks = [captured[at : at + 16] for at in range(0, len(captured), 16)]
    for number in range(count):
        if number % 2:
            altered = bytearray(captured)
            altered[random.randrange(len(altered))] ^= random.randrange(1, 256)
        else:
            altered = random.randbytes(15) + bytes([number // 2 % 256]) + random.choice(blocks)
        encrypted, nonce = base64.b64encode(altered), str(number).encode()
        signature = crypto.sign(b"1", nonce, encrypted)
        query = urlencode({"timestamp": b"1", "nonce": nonce, "msg_signature": signature}).encode()
        yield query, b"<xml><Encrypt>%b</Encrypt></xml>" % encrypted


async def test_answer_to_altered_pushes_says_nothing(new_receiver, events, store):
    """The sender of pushes from a public address gets one answer to all of them, and therefore learns nothing."""
    got = []

    async def collect(notification):
        got.append(notification.info_type)

    async with new_receiver(on_notification=collect) as receiver:
        answers = {await post(receiver, push, peer=PUBLIC) for push in altered_pushes(600, random.Random(1))}
        assert await stored_in(store) is None
        assert {type(event) for event in events} == {PushUndecryptable, PushMalformed}
        answers |= {await post(receiver, push, peer=PUBLIC) for push in (ticket(), ticket(), notification())}
    assert answers == {(200, b"success")}
    assert (await stored_in(store), got) == (("ticket@@@1", 100), ["authorized"])


async def test_answer_says_nothing_while_a_hundred_callbacks_run(new_receiver, events, store):
    """Every signed push gets 503, even a repeated notification and a ticket, which is stored nevertheless."""
    async with new_receiver(on_notification=run_until_cancelled) as receiver:
        for created in range(MAX_CONCURRENT_NOTIFICATIONS):
            await post(receiver, pushed(message("authorized", created)))
        pushes = [*altered_pushes(50, random.Random(1)), notification(), pushed(message("authorized", 0)), ticket()]
        answers = {await post(receiver, push, peer=PUBLIC) for push in pushes}
        dropped = [event for event in events if isinstance(event, NotificationDropped)]
    assert answers == {(503, b"too many notifications are being processed")}
    assert await stored_in(store) == ("ticket@@@1", 100)
    assert dropped == [NotificationDropped("authorized", MAX_CONCURRENT_NOTIFICATIONS)]


@pytest.mark.parametrize("push", [ticket(key=OLD_KEY), ticket(appid="wx1")])
async def test_push_that_cannot_be_decrypted_is_reported_with_the_address(receiver, events, push):
    """The answer is that of every signed push; the event names the sender."""
    assert await post(receiver, push, peer="192.0.2.7") == (200, b"success")
    assert events == [PushUndecryptable("192.0.2.7")]


async def test_closing_waits_five_seconds_for_callbacks_then_cancels(new_receiver, settle):
    """After closing no callback runs."""
    ended = []

    async def endless(notification):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(asyncio.get_running_loop().time())

    async with new_receiver(on_notification=endless) as receiver:
        await post(receiver, notification())
        await settle()
        closing = asyncio.get_running_loop().time()
    assert ended == [closing + 5]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_callbacks_run_in_an_empty_context(new_receiver, settle):
    """Callbacks see no context variable of the server's request."""
    variable = contextvars.ContextVar("variable")
    seen = []

    async def look(notification):
        seen.append(variable.get(None))

    variable.set("of the request")
    async with new_receiver(on_notification=look) as receiver:
        await post(receiver, notification())
    assert seen == [None]


async def test_push_under_way_is_finished_when_closing(new_receiver, store):
    """Its ticket is stored; a push that begins later is answered with 503."""
    receiver = new_receiver()
    query, body = ticket()
    answer = asyncio.create_task(asgi(receiver, query, body[:5], body[5:], every=1))
    await asyncio.sleep(1.5)
    closing = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    start, _ = await asgi(receiver, query, RuntimeError("is not read"), every=99)
    assert (start["status"], (b"connection", b"close") in start["headers"]) == (503, True)
    await closing
    assert (await answer)[0]["status"] == 200
    assert await stored_in(store) == ("ticket@@@1", 100)


async def test_notification_under_way_is_dispatched_when_closing(new_receiver):
    """Its callback has five seconds like the others."""
    got = []

    async def take(notification):
        await asyncio.sleep(4)
        got.append(notification.info_type)

    receiver = new_receiver(on_notification=take)
    query, body = notification()
    answer = asyncio.create_task(asgi(receiver, query, body[:5], body[5:], every=1))
    await asyncio.sleep(1.5)
    await receiver.aclose()
    assert ((await answer)[0]["status"], got) == (200, ["authorized"])


async def test_slow_push_delays_closing_by_six_seconds_at_most(new_receiver):
    """Its body has five seconds."""
    receiver = new_receiver()
    answer = asyncio.create_task(asgi(receiver, *ticket(), every=99))
    await asyncio.sleep(0)
    started = asyncio.get_running_loop().time()
    await receiver.aclose()
    assert asyncio.get_running_loop().time() == started + BODY_TIMEOUT
    assert (await answer)[0]["status"] == 408


async def test_cancelled_close_leaves_no_task(new_receiver, settle):
    """Neither a callback nor the writing of a ticket goes on."""
    receiver = new_receiver(token_store=BrokenStore(), on_notification=run_until_cancelled)
    await post(receiver, ticket())
    await post(receiver, notification())
    answer = asyncio.create_task(asgi(receiver, *ticket(created=200), every=4))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await receiver.aclose()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task(), answer}
    answer.cancel()


async def test_callback_that_ignores_cancellation_is_abandoned(new_receiver, settle):
    """Closing waits one second for it after its cancellation."""
    going = asyncio.Event()

    async def stubborn(notification):
        while not going.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await going.wait()

    receiver = new_receiver(on_notification=stubborn)
    await post(receiver, notification())
    await settle()
    started = asyncio.get_running_loop().time()
    await receiver.aclose()
    assert asyncio.get_running_loop().time() == started + 6
    going.set()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class CallableNotification:
    """A callback that is an object, with a method."""

    async def __call__(self, notification):
        """Accept a notification."""

    async def take(self, notification):
        """Accept a notification, as a method."""


@pytest.mark.parametrize(
    "on_notification",
    [
        run_until_cancelled,
        CallableNotification(),
        CallableNotification().take,
        functools.partial(run_until_cancelled),
        functools.partial(functools.partial(CallableNotification())),
        mock.AsyncMock(),
    ],
)
def test_every_async_callable_is_accepted(new_receiver, on_notification):
    """A function, a method, an object and a partial of them are accepted."""
    assert new_receiver(on_notification=on_notification).on_notification is on_notification


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"component_appid": ""}, "component_appid must be the platform's appid"),
        ({"component_appid": "gh 1"}, "component_appid must be the platform's appid"),
        ({"component_appid": None}, "component_appid must be the platform's appid"),
        ({"component_appid": "ticket@@@S3CRET"}, "component_appid must be the platform's appid"),
        ({"message_token": ""}, "message_token must be"),
        ({"message_token": 5}, "message_token must be"),
        ({"message_token": "1"}, "message_token must be .* 3 to 32 letters and digits"),
        ({"message_token": "a" * 33}, "message_token must be"),
        ({"message_token": "S3CRET-of-the-shop"}, "message_token must be"),
        ({"message_token": "令牌令牌"}, "message_token must be"),
        ({"plain_push_key": ""}, "plain_push_key must be 32 to 128 letters"),
        ({"plain_push_key": 5}, "plain_push_key must be"),
        ({"plain_push_key": "S3CRET" * 5}, "plain_push_key must be"),
        ({"plain_push_key": "S3CRET/" * 6}, "plain_push_key must be"),
        ({"replay_window": 0}, "replay_window must be a positive number"),
        ({"replay_window": None}, "replay_window must be a positive number"),
        ({"encoding_aes_key": ""}, "encoding_aes_key must be the EncodingAESKey"),
        ({"encoding_aes_key": None}, "encoding_aes_key must be the EncodingAESKey"),
        ({"encoding_aes_key": KEY + "="}, "encoding_aes_key must be the EncodingAESKey"),
        ({"previous_encoding_aes_key": ""}, "previous_encoding_aes_key must be the EncodingAESKey"),
        ({"token_store": None}, "token_store must be"),
        ({"token_store": b"S3CRET"}, "token_store must be"),
        ({"token_store": "nonsense://S3CRET"}, "URL of a token store"),
        ({"on_notification": 5}, "on_notification must be an async callable"),
        ({"on_notification": lambda notification: None}, "on_notification must be an async callable"),
        ({"on_notification": functools.partial(print)}, "on_notification must be an async callable"),
        ({"clock": 5}, "clock must be a function"),
        ({"clock": run_until_cancelled}, "clock must be a function"),
        ({"hooks": 5}, "hooks must be a list"),
        ({"hooks": [5]}, "hooks must be a list"),
    ],
)
def test_invalid_option_is_rejected(new_receiver, options, words):
    """The error names the option, and no frame of it shows a secret."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        new_receiver(**options)
    assert not any(text in str(caught.value) for text in (KEY, TOKEN, "S3CRET"))
    frames = [
        frame for frame, _ in traceback.walk_tb(caught.value.__traceback__) if frame.f_code.co_filename != __file__
    ]
    assert frames
    assert not any(text in repr(frame.f_locals) for frame in frames for text in (KEY, TOKEN, "S3CRET"))


def test_repr_shows_no_secret(new_receiver):
    """The repr of a receiver shows neither token, key nor the URL of a store."""
    options = {"previous_encoding_aes_key": KEY, "token_store": "sqlite:///S3CRET.db", "plain_push_key": PLAIN_KEY}
    receiver = new_receiver(**options)
    assert not any(word in repr(receiver) for word in (TOKEN, KEY, "S3CRET", PLAIN_KEY))
    assert APPID in repr(receiver)


@pytest.mark.parametrize(("token", "warned"), [("a1b", True), ("x" * 15, True), ("x" * 16, False)])
def test_short_message_token_is_logged_as_a_warning(new_receiver, caplog, token, warned):
    """The console accepts 3 characters, but fewer than 16 can be guessed from one captured push."""
    caplog.set_level(logging.WARNING)
    new_receiver(message_token=token)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.startswith(f"message_token has only {len(token)} characters") for line in lines] == [True] * warned
    assert token not in caplog.text


PLAIN_KEY = "plain-Push_key0123456789abcdefghij"


def plain_ticket(**changes):
    """Return the fields of a ticket as WeChat's cloud hosting pushes them."""
    fields = {"AppId": APPID, "CreateTime": 100, "InfoType": TICKET, "ComponentVerifyTicket": "ticket@@@1"}
    return json.dumps({**fields, **changes}).encode()


async def test_plain_push_is_accepted_at_the_path_with_the_key(new_receiver, store, events):
    """Both adapters accept JSON without signature, and report malformed JSON."""
    receiver = new_receiver(plain_push_key=PLAIN_KEY)
    path = f"/wechat/push/{PLAIN_KEY}"
    assert await post(receiver, (b"", plain_ticket()), path=path) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@1", 100)
    body = plain_ticket(ComponentVerifyTicket="ticket@@@2", CreateTime=200)
    assert await handle_with_aiohttp(receiver, b"", body, path=path) == (200, b"success")
    assert await stored_in(store) == ("ticket@@@2", 200)
    assert await post(receiver, (b"", b"{"), path=path) == (200, b"success")
    assert events[-1] == PushMalformed("the body is not a JSON object")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (None, f"/wechat/push/{PLAIN_KEY}"),
        (None, "/wechat/push/None"),
        (PLAIN_KEY, "/wechat/push"),
        (PLAIN_KEY, ""),
        (PLAIN_KEY, f"/wechat/push/{PLAIN_KEY}/"),
        (PLAIN_KEY, f"/wechat/push/{PLAIN_KEY[:-1]}"),
        (PLAIN_KEY, f"/wechat/push/{PLAIN_KEY.upper()}"),
        (PLAIN_KEY, "/wechat/push/\udcff"),
    ],
)
async def test_plain_push_without_the_key_is_rejected(new_receiver, store, key, path):
    """Without a key in the options or in the path, only signed pushes are accepted."""
    receiver = new_receiver(plain_push_key=key)
    assert (await post(receiver, (b"", plain_ticket()), path=path))[0] == 400
    assert await stored_in(store) is None
    assert await post(receiver, ticket(), path=path) == (200, b"success")


def test_peers_are_addresses():
    """Anything else becomes "": a server may take it from a header."""
    assert [to_address(peer) for peer in ("192.0.2.1", "::FFFF:192.0.2.1", "2001:DB8::1", "fe80::1%\x1b[31m")] == [
        "192.0.2.1",
        "192.0.2.1",
        "2001:db8::1",
        "fe80::1",
    ]
    assert [to_address(peer) for peer in (None, "", "unix", "1.2.3", "1.2.3.4\x1b", "localhost")] == [""] * 6


@pytest.mark.usefixtures("measured")
def test_without_the_extra_the_error_says_what_to_install():
    """The import error names the extra."""
    code = "import sys; sys.modules['cryptography'] = None; import wxtcb.tokens.ticket"
    stderr = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    assert stderr.splitlines()[-1].endswith("needs cryptography and defusedxml: pip install 'wxtcb[ticket]'")


texts = st.text(max_size=30) | st.sampled_from([TICKET, "</xml>", "<a/>", "-1", "9" * 11])
messages = st.builds(
    lambda kind, created, value: message(kind, created, ComponentVerifyTicket=value), texts, texts, texts
)
queries = st.binary(max_size=60) | st.dictionaries(texts, texts).map(
    lambda each: urlencode(each, errors="replace").encode()
)
pushes = st.tuples(queries, st.binary()) | (messages | st.text()).map(
    lambda text: pushed(text.encode("utf-8", "replace").decode())
)


@pytest.mark.unmeasured
@settings(max_examples=150, deadline=None)
@given(pushes, st.sampled_from(["POST", "GET"]))
def test_both_adapters_answer_any_request_alike(virtual_run, push, method):
    """Neither raises, and every answer is success or a documented rejection."""
    query, body = push
    receiver = TicketReceiver(
        component_appid=APPID,
        message_token=TOKEN,
        encoding_aes_key=KEY,
        token_store=MemoryStore(),
        clock=lambda: NOW,
        plain_push_key=PLAIN_KEY,
    )

    async def both():
        return [
            await post(receiver, push, method=method),
            await handle_with_aiohttp(receiver, query, body, method=method),
        ]

    first, second = virtual_run(both())
    if b"#" not in query:  # aiohttp's parser never lets one through
        assert first == second
    assert first == (200, b"success") or first[0] in (400, 403, 405)
