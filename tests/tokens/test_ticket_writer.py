"""Tests of TicketWriter: the newest ticket is in memory at once, and in the store as soon as it accepts it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import attrs
import pytest

from wxtcb.errors import TokenStoreError
from wxtcb.events import TicketReceived, TicketWriteFailed
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket.writer import TicketWriter
from wxtcb.tokens.token_state import MAX_BACKOFF

pytestmark = pytest.mark.virtual_time
APPID = "wx0123456789abcdef"


@attrs.define(eq=False)
class UnreliableStore:
    """A store that can be down or hang, and records when it was called."""

    store: MemoryStore = attrs.field(factory=MemoryStore)
    down: bool = False
    hanging: float = 0.0
    asked_at: list = attrs.field(factory=list)

    async def load(self, appid):
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.hanging)
        if self.down:
            raise OSError("T1CKET is what a driver may quote")
        return await self.store.load(appid)

    async def compare_and_set(self, appid, document, *, version):
        return await self.store.compare_and_set(appid, document, version=version)

    async def wait_for_change(self, appid, *, version, timeout):
        raise NotImplementedError


@pytest.fixture
def store():
    """Return a store that works until a test changes it."""
    return UnreliableStore()


@pytest.fixture
def events():
    """Return a list that collects the events."""
    return []


@pytest.fixture
def new_writer(store, events):
    """Return a function that creates a writer for each process, all with the same store."""
    return lambda: TicketWriter(StateRepository(store, APPID), HookDispatcher((events.append,)))


@pytest.fixture
def ticket_writer(new_writer):
    """Return a ticket writer."""
    return new_writer()


async def stored_in(store):
    """Return the ticket in the store."""
    ticket = (await StateRepository(store.store, APPID).read()).state.ticket
    return ticket and (ticket.value.reveal(), ticket.create_time)


def now():
    return asyncio.get_running_loop().time()


async def test_ticket_is_stored_before_the_answer(ticket_writer, store):
    """A working store has the ticket before WeChat gets its answer."""
    assert await ticket_writer.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True)
    assert await stored_in(store) == ("T1", 100)
    assert await ticket_writer.newest() == Secret("T1")


@pytest.mark.parametrize("created", [100, 99])
async def test_repeated_or_older_ticket_is_not_written(ticket_writer, store, created):
    """A ticket that is not newer does not reach the store."""
    await ticket_writer.submit(Secret("T1"), 100)
    asked = len(store.asked_at)
    assert await ticket_writer.submit(Secret("T2"), created) == TicketReceived(created, is_newest=False)
    assert len(store.asked_at) == asked
    assert await stored_in(store) == ("T1", 100)
    assert await ticket_writer.newest() == Secret("T1")


@pytest.mark.parametrize("created", [100, 99])
async def test_repeated_ticket_in_another_process_changes_nothing(new_writer, store, created):
    """The store rejects the ticket that another process has stored."""
    await new_writer().submit(Secret("T1"), 100)
    second = new_writer()
    assert await second.submit(Secret("T2"), created) == TicketReceived(created, is_newest=False)
    assert await stored_in(store) == ("T1", 100)
    assert await second.newest() == Secret("T1")


async def test_newer_ticket_of_another_process_is_returned(new_writer, store):
    """A newer ticket in the store is returned, and a repeat of it is recognised from then on."""
    first, second = new_writer(), new_writer()
    await first.submit(Secret("T1"), 100)
    await second.submit(Secret("T2"), 200)
    assert await first.newest() == Secret("T2")
    asked = len(store.asked_at)
    assert not (await first.submit(Secret("T2"), 200)).is_newest
    assert len(store.asked_at) == asked


async def test_pending_ticket_is_newer_than_the_stored_one(ticket_writer, store):
    """A pending ticket is returned although the store does not have it yet."""
    await ticket_writer.submit(Secret("T1"), 100)
    store.down = True
    await ticket_writer.submit(Secret("T2"), 200)
    store.down = False
    assert await ticket_writer.newest() == Secret("T2")
    await ticket_writer.aclose()


async def test_pending_ticket_gives_way_to_a_newer_stored_one(ticket_writer, new_writer, store):
    """If another process has stored a newer ticket, nothing is written."""
    store.down = True
    await ticket_writer.submit(Secret("T1"), 100)
    store.down = False
    await new_writer().submit(Secret("T2"), 200)
    assert await ticket_writer.newest() == Secret("T2")
    asked = len(store.asked_at)
    await asyncio.sleep(100)
    assert len(store.asked_at) == asked


async def test_no_ticket_before_the_first(ticket_writer):
    """Before the first ticket the result is None."""
    assert await ticket_writer.newest() is None


async def test_a_thousand_deliveries_at_once_are_written_once(ticket_writer, store):
    """A thousand deliveries of one ticket make one write; the others are repeats."""
    stored = await asyncio.gather(*(ticket_writer.submit(Secret("T1"), 100) for _ in range(1000)))
    assert [event.is_newest for event in stored].count(True) == 1
    assert len(store.asked_at) == 1


async def test_store_that_is_down_does_not_delay_the_answer(ticket_writer, store, events):
    """The ticket is in memory, the answer comes at once, and an event has the error without the ticket."""
    store.down = True
    started = now()
    assert await ticket_writer.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True, in_memory_only=True)
    assert now() == started
    assert await ticket_writer.newest() == Secret("T1")
    [event] = events
    assert (event.create_time, event.retry_after) == (100, 1.0)
    assert "OSError" in event.reason
    assert "T1CKET" not in event.reason
    await ticket_writer.aclose()


async def test_hanging_store_delays_the_answer_by_one_second(ticket_writer, store):
    """The write goes on and completes when the store answers."""
    store.hanging = 1.5
    started = now()
    assert await ticket_writer.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True, in_memory_only=True)
    assert now() == started + 1
    await asyncio.sleep(0.6)
    assert await stored_in(store) == ("T1", 100)


async def test_write_is_retried_with_backoff(ticket_writer, store, events):
    """The backoff doubles from one second to thirty."""
    store.down = True
    await ticket_writer.submit(Secret("T1"), 100)
    await asyncio.sleep(100)
    gaps = [later - earlier for earlier, later in zip(store.asked_at, store.asked_at[1:], strict=False)]
    assert gaps == [1, 2, 4, 8, 16, MAX_BACKOFF, MAX_BACKOFF]
    assert [event.retry_after for event in events] == [1, 2, 4, 8, 16, 30, 30, 30]
    store.down = False
    await asyncio.sleep(MAX_BACKOFF)
    assert await stored_in(store) == ("T1", 100)
    asked = len(store.asked_at)
    await asyncio.sleep(1000)
    assert len(store.asked_at) == asked


async def test_newer_ticket_replaces_a_pending_one(ticket_writer, store):
    """The newer ticket is written at once, and the older one never."""
    store.down = True
    await ticket_writer.submit(Secret("T1"), 100)
    await asyncio.sleep(20)
    store.down = False
    assert await ticket_writer.submit(Secret("T2"), 200) == TicketReceived(200, is_newest=True)
    assert await stored_in(store) == ("T2", 200)
    assert await ticket_writer.newest() == Secret("T2")


async def test_newer_ticket_during_a_write(ticket_writer, store):
    """Both are answered and the newer one is stored; one whose write never began is not the newest."""
    store.hanging = 0.2
    both = await asyncio.gather(ticket_writer.submit(Secret("T1"), 100), ticket_writer.submit(Secret("T2"), 200))
    assert both == [TicketReceived(100, is_newest=False), TicketReceived(200, is_newest=True)]
    assert await stored_in(store) == ("T2", 200)
    store.hanging = 0.5
    older = asyncio.create_task(ticket_writer.submit(Secret("T3"), 300))
    await asyncio.sleep(0.1)
    assert (await ticket_writer.submit(Secret("T4"), 400)).is_newest
    assert (await older).is_newest
    assert await stored_in(store) == ("T4", 400)


async def test_cancelled_request_does_not_cancel_the_write(ticket_writer, store):
    """The write runs in a task of the writer and not of the request."""
    store.hanging = 0.5
    push = asyncio.create_task(ticket_writer.submit(Secret("T1"), 100))
    await asyncio.sleep(0.1)
    push.cancel()
    await asyncio.sleep(1)
    assert await stored_in(store) == ("T1", 100)


async def test_store_error_is_raised_without_a_ticket_in_memory(ticket_writer, store):
    """None would mean that there is no ticket."""
    store.down = True
    with pytest.raises(TokenStoreError, match="OSError"):
        await ticket_writer.newest()


async def test_closing_makes_a_last_attempt(ticket_writer, store, events):
    """A store that is back has the ticket, without waiting for the backoff."""
    store.down = True
    await ticket_writer.submit(Secret("T1"), 100)
    await asyncio.sleep(20)
    store.down, started = False, now()
    await ticket_writer.aclose()
    assert now() == started
    assert await stored_in(store) == ("T1", 100)
    assert None not in [event.retry_after for event in events]


async def test_failed_last_attempt_is_reported(ticket_writer, store, events):
    """The event says that no other attempt follows."""
    store.down = True
    await ticket_writer.submit(Secret("T1"), 100)
    await ticket_writer.aclose()
    assert isinstance(events[-1], TicketWriteFailed)
    assert [event.retry_after for event in events] == [1.0, None]
    asked = len(store.asked_at)
    await asyncio.sleep(100)
    assert len(store.asked_at) == asked


async def test_attempt_begun_before_closing_is_not_the_last(ticket_writer, store, events):
    """An attempt that was under way when closing began is followed by one more."""
    store.hanging, store.down = 1.5, True
    await ticket_writer.submit(Secret("T1"), 100)
    closing = asyncio.create_task(ticket_writer.aclose())
    await asyncio.sleep(0.6)
    store.down = False
    await closing
    assert await stored_in(store) == ("T1", 100)


async def test_closing_is_limited_in_time(ticket_writer, store):
    """A hanging store gets two attempts of two seconds."""
    store.hanging = 1000
    await ticket_writer.submit(Secret("T1"), 100)
    started = now()
    await ticket_writer.aclose()
    assert now() - started <= 4


async def test_contended_store_does_not_delay_closing(ticket_writer, store, monkeypatch):
    """A write that loses every compare-and-set is cancelled after ten seconds."""

    async def overtaken(*_, **__):
        await asyncio.sleep(0.1)
        return False

    monkeypatch.setattr(UnreliableStore, "compare_and_set", overtaken)
    await ticket_writer.submit(Secret("T1"), 100)
    started = now()
    await ticket_writer.aclose()
    assert now() == started + 10


async def test_store_is_called_in_an_empty_context(ticket_writer, store, monkeypatch):
    """The store sees no context variable of the server's request."""
    variable = contextvars.ContextVar("variable", default=None)
    variable.set("of the request")
    seen = []
    monkeypatch.setattr(
        UnreliableStore, "compare_and_set", lambda *_, **__: seen.append(variable.get()) or asyncio.sleep(0, True)
    )
    await ticket_writer.submit(Secret("T1"), 100)
    assert seen == [None]


async def test_cancelled_close_leaves_no_task(ticket_writer, store, settle):
    """If closing is cancelled, the write is cancelled too."""
    store.hanging = 1000
    await ticket_writer.submit(Secret("T1"), 100)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await ticket_writer.aclose()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_store_that_ignores_cancellation_delays_closing_by_eleven_seconds(ticket_writer, monkeypatch, settle):
    """It is cancelled after ten seconds, and abandoned one second later."""
    going = asyncio.Event()

    async def stubborn(*_):
        while not going.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await going.wait()
        raise OSError

    monkeypatch.setattr(UnreliableStore, "load", stubborn)
    await ticket_writer.submit(Secret("T1"), 100)
    started = now()
    await ticket_writer.aclose()
    assert now() == started + 11
    going.set()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_waits_for_a_cancelled_store(ticket_writer, monkeypatch):
    """A store operation that ends when it is cancelled has ended before `aclose` returns."""
    ended = []

    async def busy(*_, **__):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            ended.append(now())
            raise
        return False

    monkeypatch.setattr(UnreliableStore, "compare_and_set", busy)
    await ticket_writer.submit(Secret("T1"), 100)
    started = now()
    await asyncio.sleep(0.05)
    await ticket_writer.aclose()
    assert ended == [now()]
    assert now() > started + 10


async def test_closing_without_a_ticket_does_not_use_the_store(ticket_writer, store):
    """Without a ticket nothing is written."""
    await ticket_writer.aclose()
    assert store.asked_at == []
