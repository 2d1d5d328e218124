"""What the sandbox pushes, and the library's receiver: written apart from each other, each judges the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

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
    """The library's receiver, with what it tells."""

    receiver: TicketReceiver
    events: list[Event]
    notices: list[Notification]

    @classmethod
    def of(cls, world: World, store: MemoryStore | None = None) -> Peer:
        """Give it what stands in the console."""
        events, notices = [], []

        async def heed(notice: Notification) -> None:
            notices.append(notice)

        receiver = TicketReceiver(
            component_appid=world.credentials.appid,
            message_token=world.message_settings.message_token,
            encoding_aes_key=world.message_settings.encoding_aes_key,
            previous_encoding_aes_key=world.message_settings.previous_encoding_aes_key,
            token_store=store or MemoryStore(),
            on_notification=heed,
            hooks=[events.append],
        )
        return cls(receiver, events, notices)

    async def take(self, push: Push) -> PushRefused | None:
        """Hand a push over without a socket."""
        pieces = iter([push.body, None])

        async def next_piece() -> bytes | None:
            return next(pieces)

        return await self.receiver.handle_push("POST", urlencode(push.query).encode(), next_piece)


@pytest_asyncio.fixture
async def peer(world: World) -> AsyncIterator[Peer]:
    """Open the receiver of that world's pushes."""
    made = Peer.of(world)
    async with made.receiver:
        yield made


@pytest.mark.unmeasured
async def test_a_week_of_tickets_arrives(world: World, clock: Clock) -> None:
    """Repeated, late, and over changes of the key: after every round the receiver has the platform's newest ticket."""
    pushes = PushSchedule(world, PushSettings(every=600, repeated=0.3, late=0.3))
    pushes.receiver_responded = True
    store = MemoryStore()
    for _ in range(7):
        peer = Peer.of(world, store)
        async with peer.receiver:
            for _ in range(DAY // 600):
                assert not any([await peer.take(push) for push in pushes.due_pushes()])
                ticket = await peer.receiver.newest_ticket()
                assert ticket is not None
                assert ticket.reveal() == world.ticket
                clock.advance(600)
        world.message_settings.rotate_key()


async def test_a_repetition_changes_nothing(world: World, peer: Peer) -> None:
    """It is answered like the first, and so is what comes late."""
    pushes = PushSchedule(world)
    first, second = pushes.make_ticket_push(), pushes.make_ticket_push()
    for push in (first, second, second, first):
        assert await peer.take(push) is None
    assert [event.is_newest for event in peer.events if isinstance(event, TicketReceived)] == [True, True, False, False]


async def test_a_forgery_is_refused(world: World, peer: Peer) -> None:
    """And so is an honest push of which anything was changed."""
    pushes = PushSchedule(world)
    push = pushes.make_ticket_push()
    late = evolve(push, query={**push.query, "timestamp": "1"})
    for forged in (pushes.make_forged_push(), late, evolve(push, body=pushes.make_ticket_push().body)):
        refused = await peer.take(forged)
        assert refused is not None
        assert refused.status == 403
    assert await peer.receiver.newest_ticket() is None


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(st.characters(exclude_categories=["C"]))))
def test_notices_arrive_as_they_were_sent(fields: dict[str, str]) -> None:
    """Whatever their fields say."""

    async def notify() -> list[Notification]:
        world = World()
        peer = Peer.of(world)
        async with peer.receiver:
            assert await peer.take(PushSchedule(world).make_notification("authorized", fields)) is None
        return peer.notices

    [notice] = asyncio.run(notify())
    assert notice.info_type == "authorized"
    assert {name: notice.fields[name] for name in fields} == fields


async def test_both_speak_the_same_http(world: World) -> None:
    """Over a socket: success, and nothing around it."""
    peer = Peer.of(world)
    async with Sandbox(world=world) as sandbox, peer.receiver, serve_receiver(peer.receiver.handle) as place:
        sandbox.push_to(place.url, every=None)
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
