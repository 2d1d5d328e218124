"""The sandbox's pushes and the library's receiver, which share no code and check each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from attrs import evolve, frozen
from hypothesis import given, strategies as st

from wxtcb.events import Event, PushRefused, TicketReceived
from wxtcb.sandbox import Push, PushSchedule, Sandbox, World
from wxtcb.sandbox.push.schedule import PushSettings
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket import Notification, TicketReceiver

from .receiver import serve_receiver
from .sandbox_harness import Clock

DAY = 86_400


@frozen
class Peer:
    """The library's receiver, with its events and notifications."""

    receiver: TicketReceiver
    events: list[Event]
    notifications: list[Notification]

    @classmethod
    def of(cls, world: World, store: MemoryStore | None = None) -> Peer:
        """Configure the receiver with the settings of the console."""
        events, notifications = [], []

        async def on_notification(notification: Notification) -> None:
            notifications.append(notification)

        receiver = TicketReceiver(
            component_appid=world.credentials.appid,
            message_token=world.message_settings.message_token,
            encoding_aes_key=world.message_settings.encoding_aes_key,
            previous_encoding_aes_key=world.message_settings.previous_encoding_aes_key,
            token_store=store or MemoryStore(),
            on_notification=on_notification,
            hooks=[events.append],
            clock=world.unix_time,
        )
        return cls(receiver, events, notifications)

    async def handle(self, push: Push) -> PushRefused | None:
        """Pass a push to the receiver without a socket."""
        chunks = iter([push.body, None])

        async def next_chunk() -> bytes | None:
            return next(chunks)

        return await self.receiver.handle_push("POST", urlencode(push.query).encode(), next_chunk)


@pytest_asyncio.fixture
async def peer(world: World) -> AsyncIterator[Peer]:
    """Open the receiver of that world's pushes."""
    opened = Peer.of(world)
    async with opened.receiver:
        yield opened


@pytest.mark.unmeasured
async def test_receiver_has_the_newest_ticket_all_week(world: World, clock: Clock) -> None:
    """With repeated and late pushes and rotated keys, the receiver has the newest ticket after each round."""
    pushes = PushSchedule(world, PushSettings(every=600, repeated=0.3, late=0.3))
    pushes.receiver_accepted = True
    store = MemoryStore()
    for _ in range(7):
        peer = Peer.of(world, store)
        async with peer.receiver:
            for _ in range(DAY // 600):
                assert not any([await peer.handle(push) for push in pushes.due_pushes()])
                ticket = await peer.receiver.newest_ticket()
                assert ticket is not None
                assert ticket.reveal() == world.ticket
                clock.advance(600)
        world.message_settings.rotate_key()


async def test_repeated_and_late_pushes_change_nothing(world: World, peer: Peer) -> None:
    """A repeated or late push is accepted, and the newest ticket stays."""
    pushes = PushSchedule(world)
    first, second = pushes.make_ticket_push(), pushes.make_ticket_push()
    for push in (first, second, second, first):
        assert await peer.handle(push) is None
    assert [event.is_newest for event in peer.events if isinstance(event, TicketReceived)] == [True, True, False, False]


async def test_forged_push_is_rejected(world: World, peer: Peer) -> None:
    """A forged push is rejected, and so is a genuine one of which any part was changed."""
    pushes = PushSchedule(world)
    push = pushes.make_ticket_push()
    altered = evolve(push, query={**push.query, "timestamp": "1"})
    for forged in (pushes.make_forged_push(), altered, evolve(push, body=pushes.make_ticket_push().body)):
        refusal = await peer.handle(forged)
        assert refusal is not None
        assert refusal.status == 403
    assert await peer.receiver.newest_ticket() is None


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(st.characters(exclude_categories=["C"]))))
def test_notification_fields_arrive_unchanged(fields: dict[str, str]) -> None:
    """The fields of a notification arrive unchanged, with any text."""

    async def notify() -> list[Notification]:
        world = World()
        peer = Peer.of(world)
        async with peer.receiver:
            assert await peer.handle(PushSchedule(world).make_notification("authorized", fields)) is None
        return peer.notifications

    [notification] = asyncio.run(notify())
    assert notification.info_type == "authorized"
    assert {name: notification.fields[name] for name in fields} == fields


async def test_receiver_responds_as_the_platform_requires(world: World) -> None:
    """Over HTTP the receiver responds exactly `success`."""
    peer = Peer.of(world)
    async with Sandbox(world=world) as sandbox, peer.receiver, serve_receiver(peer.receiver.handle) as endpoint:
        sandbox.push_to(endpoint.url, every=None)
        for result in (
            await sandbox.push(),
            await sandbox.notify("unauthorized", AuthorizerAppid="wx1"),
            await sandbox.push(),
        ):
            assert result.accepted, result
        assert not (await sandbox.push_forged()).accepted
        ticket = await peer.receiver.newest_ticket()
    assert ticket is not None
    assert ticket.reveal() == sandbox.ticket


async def test_ticket_is_delivered_to_an_application_without_a_socket(world: World, peer: Peer) -> None:
    """The receiver, as an ASGI application, gets a new ticket and accepts it."""
    sandbox = Sandbox(world=world)
    before = sandbox.ticket
    result = await sandbox.deliver(peer.receiver)
    assert (result.accepted, sandbox.pushes.sent, sandbox.ticket != before) == (True, 1, True)
    ticket = await peer.receiver.newest_ticket()
    assert ticket is not None
    assert ticket.reveal() == sandbox.ticket


async def test_result_of_an_application_is_reported(world: World) -> None:
    """The status of another response is in the result; an application that sends none has no status."""
    sent: list[dict[str, object]] = []

    async def reject(scope: dict[str, object], receive: object, send: object) -> None:
        sent.extend([scope, await receive(), await receive()])
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        await send({"type": "http.response.body", "body": b" way"})

    async def ignore(*_: object) -> None:
        pass

    sandbox = Sandbox(world=world)
    assert str(await sandbox.deliver(reject, path="/x")) == "HTTP 403 'no way'"
    assert (sent[0]["method"], sent[0]["path"], sent[2]) == ("POST", "/x", {"type": "http.disconnect"})
    assert str(await sandbox.deliver(ignore)) == "no response"
