"""The newest ticket is in memory at once, and in the store as soon as the store takes it."""

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
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.state import MAX_BACKOFF
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket.writer import TicketWriter

pytestmark = pytest.mark.virtual_time
APPID = "wx0123456789abcdef"


@attrs.define(eq=False)
class Shaky:
    """A store that can be down, or hang; it notes when it was asked."""

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
    """Give a store that works until told otherwise."""
    return Shaky()


@pytest.fixture
def heard():
    """Collect the events."""
    return []


@pytest.fixture
def new_keeper(store, heard):
    """Give a function that makes a keeper as each process has one, all with the same store."""
    return lambda: TicketWriter(SharedState(store, APPID), HookDispatcher((heard.append,)))


@pytest.fixture
def keeper(new_keeper):
    """Give a keeper."""
    return new_keeper()


async def kept_in(store):
    """Return what the store holds."""
    ticket = (await SharedState(store.store, APPID).read()).state.ticket
    return ticket and (ticket.value.reveal(), ticket.create_time)


def now():
    return asyncio.get_running_loop().time()


async def test_a_ticket_is_in_the_store_when_it_is_answered(keeper, store):
    """A store that works has it before WeChat hears of success."""
    assert await keeper.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True)
    assert await kept_in(store) == ("T1", 100)
    assert await keeper.newest() == Secret("T1")


@pytest.mark.parametrize("created", [100, 99])
async def test_a_repeat_or_an_older_one_changes_nothing(keeper, store, created):
    """It does not even reach the store."""
    await keeper.submit(Secret("T1"), 100)
    asked = len(store.asked_at)
    assert await keeper.submit(Secret("T2"), created) == TicketReceived(created, is_newest=False)
    assert len(store.asked_at) == asked
    assert await kept_in(store) == ("T1", 100)
    assert await keeper.newest() == Secret("T1")


@pytest.mark.parametrize("created", [100, 99])
async def test_a_repeat_that_reaches_another_process_changes_nothing(new_keeper, store, created):
    """The store knows it, and says so."""
    await new_keeper().submit(Secret("T1"), 100)
    second = new_keeper()
    assert await second.submit(Secret("T2"), created) == TicketReceived(created, is_newest=False)
    assert await kept_in(store) == ("T1", 100)
    assert await second.newest() == Secret("T1")


async def test_the_newest_may_have_come_to_another_process(new_keeper, store):
    """What is newer in the store is given, and a repeat of it is known from then on."""
    first, second = new_keeper(), new_keeper()
    await first.submit(Secret("T1"), 100)
    await second.submit(Secret("T2"), 200)
    assert await first.newest() == Secret("T2")
    asked = len(store.asked_at)
    assert not (await first.submit(Secret("T2"), 200)).is_newest
    assert len(store.asked_at) == asked


async def test_a_ticket_that_waits_is_newer_than_the_one_in_the_store(keeper, store):
    """It is given although the store, which is back, does not have it yet."""
    await keeper.submit(Secret("T1"), 100)
    store.down = True
    await keeper.submit(Secret("T2"), 200)
    store.down = False
    assert await keeper.newest() == Secret("T2")
    await keeper.aclose()


async def test_a_ticket_that_waits_is_given_up_for_a_newer_one_in_the_store(keeper, new_keeper, store):
    """Another process kept that one; there is nothing left to write."""
    store.down = True
    await keeper.submit(Secret("T1"), 100)
    store.down = False
    await new_keeper().submit(Secret("T2"), 200)
    assert await keeper.newest() == Secret("T2")
    asked = len(store.asked_at)
    await asyncio.sleep(100)
    assert len(store.asked_at) == asked


async def test_there_is_none_before_the_first(keeper):
    """That is no failure."""
    assert await keeper.newest() is None


async def test_a_thousand_deliveries_at_once_are_written_once(keeper, store):
    """One of them is kept, the others are repeats."""
    kept = await asyncio.gather(*(keeper.submit(Secret("T1"), 100) for _ in range(1000)))
    assert [event.is_newest for event in kept].count(True) == 1
    assert len(store.asked_at) == 1


async def test_a_store_that_is_down_delays_no_answer(keeper, store, heard):
    """The ticket is in memory and the answer is given at once; an event says what is wrong, without a ticket."""
    store.down = True
    started = now()
    assert await keeper.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True, in_memory_only=True)
    assert now() == started
    assert await keeper.newest() == Secret("T1")
    [event] = heard
    assert (event.create_time, event.retry_after) == (100, 1.0)
    assert "OSError" in event.reason
    assert "T1CKET" not in event.reason
    await keeper.aclose()


async def test_a_store_that_hangs_delays_the_answer_by_a_second(keeper, store):
    """WeChat waits five; the write goes on, and is done when the store answers."""
    store.hanging = 1.5
    started = now()
    assert await keeper.submit(Secret("T1"), 100) == TicketReceived(100, is_newest=True, in_memory_only=True)
    assert now() == started + 1
    await asyncio.sleep(0.6)
    assert await kept_in(store) == ("T1", 100)


async def test_a_ticket_is_written_as_soon_as_the_store_returns(keeper, store, heard):
    """The pauses double from one second to thirty."""
    store.down = True
    await keeper.submit(Secret("T1"), 100)
    await asyncio.sleep(100)
    gaps = [later - earlier for earlier, later in zip(store.asked_at, store.asked_at[1:], strict=False)]
    assert gaps == [1, 2, 4, 8, 16, MAX_BACKOFF, MAX_BACKOFF]
    assert [event.retry_after for event in heard] == [1, 2, 4, 8, 16, 30, 30, 30]
    store.down = False
    await asyncio.sleep(MAX_BACKOFF)
    assert await kept_in(store) == ("T1", 100)
    asked = len(store.asked_at)
    await asyncio.sleep(1000)
    assert len(store.asked_at) == asked


async def test_a_newer_ticket_takes_the_place_of_one_that_waits(keeper, store):
    """It is tried at once, and the older one is never written."""
    store.down = True
    await keeper.submit(Secret("T1"), 100)
    await asyncio.sleep(20)
    store.down = False
    assert await keeper.submit(Secret("T2"), 200) == TicketReceived(200, is_newest=True)
    assert await kept_in(store) == ("T2", 200)
    assert await keeper.newest() == Secret("T2")


async def test_a_newer_ticket_may_come_while_an_older_one_is_written(keeper, store):
    """Both are answered, and the newer one is what is kept; one that nobody began to write is simply older."""
    store.hanging = 0.2
    both = await asyncio.gather(keeper.submit(Secret("T1"), 100), keeper.submit(Secret("T2"), 200))
    assert both == [TicketReceived(100, is_newest=False), TicketReceived(200, is_newest=True)]
    assert await kept_in(store) == ("T2", 200)
    store.hanging = 0.5
    older = asyncio.create_task(keeper.submit(Secret("T3"), 300))
    await asyncio.sleep(0.1)
    assert (await keeper.submit(Secret("T4"), 400)).is_newest
    assert (await older).is_newest
    assert await kept_in(store) == ("T4", 400)


async def test_a_push_whose_sender_leaves_is_kept_all_the_same(keeper, store):
    """The write is a task of the keeper's, not of the request."""
    store.hanging = 0.5
    push = asyncio.create_task(keeper.submit(Secret("T1"), 100))
    await asyncio.sleep(0.1)
    push.cancel()
    await asyncio.sleep(1)
    assert await kept_in(store) == ("T1", 100)


async def test_without_a_ticket_in_memory_the_failure_of_the_store_is_told(keeper, store):
    """Nobody is given "none" where there may be one."""
    store.down = True
    with pytest.raises(TokenStoreError, match="OSError"):
        await keeper.newest()


async def test_the_end_is_a_last_try(keeper, store, heard):
    """A store that is back by then has the ticket; nobody waits for the pause to end."""
    store.down = True
    await keeper.submit(Secret("T1"), 100)
    await asyncio.sleep(20)
    store.down, started = False, now()
    await keeper.aclose()
    assert now() == started
    assert await kept_in(store) == ("T1", 100)
    assert None not in [event.retry_after for event in heard]


async def test_a_last_try_that_fails_is_told(keeper, store, heard):
    """The event says that no other try follows."""
    store.down = True
    await keeper.submit(Secret("T1"), 100)
    await keeper.aclose()
    assert isinstance(heard[-1], TicketWriteFailed)
    assert [event.retry_after for event in heard] == [1.0, None]
    asked = len(store.asked_at)
    await asyncio.sleep(100)
    assert len(store.asked_at) == asked


async def test_a_try_that_was_begun_before_the_end_is_not_the_last(keeper, store, heard):
    """It may meet a store that was down until just now."""
    store.hanging, store.down = 1.5, True
    await keeper.submit(Secret("T1"), 100)
    closing = asyncio.create_task(keeper.aclose())
    await asyncio.sleep(0.6)
    store.down = False
    await closing
    assert await kept_in(store) == ("T1", 100)


async def test_the_end_is_bounded(keeper, store):
    """A store that hangs is given two tries of two seconds."""
    store.hanging = 1000
    await keeper.submit(Secret("T1"), 100)
    started = now()
    await keeper.aclose()
    assert now() - started <= 4


async def test_a_store_that_everybody_writes_to_does_not_hold_up_the_end(keeper, store, monkeypatch):
    """Who is overtaken again and again tries for ten seconds, then is cancelled."""

    async def overtaken(*_, **__):
        await asyncio.sleep(0.1)
        return False

    monkeypatch.setattr(Shaky, "compare_and_set", overtaken)
    await keeper.submit(Secret("T1"), 100)
    started = now()
    await keeper.aclose()
    assert now() == started + 10


async def test_the_store_is_asked_in_an_empty_context(keeper, store, monkeypatch):
    """What the server has in its context for the request does not outlive it there."""
    variable = contextvars.ContextVar("variable", default=None)
    variable.set("of the request")
    seen = []
    monkeypatch.setattr(
        Shaky, "compare_and_set", lambda *_, **__: seen.append(variable.get()) or asyncio.sleep(0, True)
    )
    await keeper.submit(Secret("T1"), 100)
    assert seen == [None]


async def test_an_end_that_is_cancelled_leaves_no_task(keeper, store, settle):
    """Whoever bounds the closing himself gets it ended there."""
    store.hanging = 1000
    await keeper.submit(Secret("T1"), 100)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await keeper.aclose()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_store_that_clings_to_life_holds_up_the_end_for_eleven_seconds(keeper, monkeypatch, settle):
    """It is cancelled after ten, and given one more to end."""
    going = asyncio.Event()

    async def stubborn(*_):
        while not going.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await going.wait()
        raise OSError

    monkeypatch.setattr(Shaky, "load", stubborn)
    await keeper.submit(Secret("T1"), 100)
    started = now()
    await keeper.aclose()
    assert now() == started + 11
    going.set()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_store_that_ends_when_it_is_cancelled_has_ended_before_its_owner_closes_it(keeper, monkeypatch):
    """The end waits for that as well."""
    ended = []

    async def busy(*_, **__):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            ended.append(now())
            raise
        return False

    monkeypatch.setattr(Shaky, "compare_and_set", busy)
    await keeper.submit(Secret("T1"), 100)
    started = now()
    await asyncio.sleep(0.05)
    await keeper.aclose()
    assert ended == [now()]
    assert now() > started + 10


async def test_without_a_ticket_the_end_is_nothing(keeper, store):
    """Nothing is asked of the store."""
    await keeper.aclose()
    assert store.asked_at == []
