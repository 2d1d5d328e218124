"""Tests of token refresh by many processes over one store, while they are killed, suspended or cut off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import traceback
from collections import Counter
from types import SimpleNamespace

import attrs
import pytest

from wxtcb.errors import (
    BadReply,
    InvalidAppSecret,
    RateLimited,
    SendVetoed,
    TokenConflict,
    TokenFetchLimit,
    TokenStoreError,
    TransportError,
    WxtcbError,
)
from wxtcb.events import (
    TokenConflictDetected,
    TokenRefreshed,
    TokenRefreshFailed,
    TokenStoreRolledBack,
    TokenStoreWriteFailed,
)
from wxtcb.secret import Secret
from wxtcb.tokens.providers import ComponentToken
from wxtcb.tokens.refresh import RefreshRequest
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.token_state import LEASE_DURATION, dump_state

from .token_harness import APPID, CacheHarness, StoreConnection, catch, clock, errcode, kill, refused, until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def store():
    """Return a store in memory, on virtual time."""
    return MemoryStore(asyncio.get_running_loop().time)


@pytest.fixture
def fleet(store):
    """Return a function that creates processes on that store, each with its own connection."""

    def make(number, answer=7200, seconds=0.5, **options):
        return [
            CacheHarness(
                answer, seconds, store=StoreConnection(store), owner=f"host:{each}", brand=f"T{each}", **options
            )
            for each in range(number)
        ]

    return make


async def state_of(store):
    """Return the state in the store."""
    return (await StateRepository(store, APPID).read()).state


def fetches(harnesses):
    """Return the number of fetches of all processes."""
    return sum(harness.fetches for harness in harnesses)


async def test_eight_processes_make_one_fetch(fleet, store):
    """One process fetches under the lease, and the others get its token at once, without polling."""
    harnesses = fleet(8)
    tokens = await asyncio.gather(*(harness.token() for harness in harnesses for _ in range(20)))
    assert len({token.value for token in tokens}) == 1
    assert fetches(harnesses) == 1
    assert clock() == pytest.approx(1000.5)
    state = await state_of(store)
    assert (state.token.fetched_by, state.token.reason, state.lease) == (f"host:{_winner(harnesses)}", "first", None)
    assert sum(event.from_store for harness in harnesses for event in harness.emitted(TokenRefreshed)) == 7


def _winner(harnesses):
    return next(number for number, harness in enumerate(harnesses) if harness.fetches)


async def test_rejected_token_is_replaced_once_by_all_processes(fleet):
    """If a token is rejected for all processes at once, one fetches and none fails."""
    harnesses = fleet(8)
    for _ in range(5):
        for harness, token in zip(
            harnesses, await asyncio.gather(*(harness.token() for harness in harnesses)), strict=True
        ):
            harness.cache.invalidate(token, 42001)
    await asyncio.gather(*(harness.token() for harness in harnesses))
    assert fetches(harnesses) == 6


async def test_late_rejection_uses_the_token_in_the_store(fleet):
    """A late rejection of a token that was replaced meanwhile costs a read and no fetch."""
    one, two = fleet(2)
    old = await one.token()
    await two.token()
    one.cache.invalidate(old, 42001)
    new = await one.token()
    two.cache.invalidate(two.cache.cached(), 42001)
    assert (await two.token()).value == new.value
    assert fetches([one, two]) == 1 + 1


@pytest.mark.parametrize("moment", [0.0, 0.25])
async def test_lease_of_a_killed_process_expires(fleet, moment, settle):
    """The lease of a process that was killed during its fetch expires; then the next process fetches."""
    one, two = fleet(2)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(moment)
    await settle()
    kill(one)
    token = await two.token()
    assert token.value == Secret("T1-1")
    assert clock() - 1000 <= LEASE_DURATION + 0.5 + moment
    lost.cancel()


async def test_slow_fetch_extends_its_lease(fleet):
    """A response after 30 s causes no second fetch, because the holder extends its lease."""
    one, two = fleet(2, seconds=30)
    tokens = await asyncio.gather(one.token(), two.token())
    assert tokens[0].value == tokens[1].value
    assert fetches([one, two]) == 1
    assert clock() == pytest.approx(1030)


async def test_expired_lease_vetoes_the_request(fleet, store):
    """A process that was suspended before it sent does not send, and uses the token of another process."""
    one, two = fleet(2)

    async def late(may_send):
        one.store.frozen = True
        await asyncio.sleep(2 * LEASE_DURATION)
        one.store.frozen = False
        assert not may_send()
        raise SendVetoed(endpoint="/token")

    one.source.order = late
    first = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    assert (await two.token()).value == Secret("T1-1")
    assert (await first).value == Secret("T1-1")
    assert fetches([one, two]) == 1


async def test_token_fetched_under_a_lost_lease_is_not_stored(fleet, store):
    """A process that was suspended during its fetch does not overwrite the newer token, and uses it."""
    one, two = fleet(2, seconds=3 * LEASE_DURATION)
    first = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    one.store.frozen = True
    two.source.seconds = 0.5
    newer = await two.token()
    assert newer.value == Secret("T1-1")
    await asyncio.sleep(LEASE_DURATION)
    one.store.frozen = False
    assert (await first).value == newer.value
    assert (await state_of(store)).token.value == newer.value
    assert fetches([one, two]) == 2


async def test_closing_during_a_fetch_releases_the_lease(fleet, store):
    """No process waits for one that was closed; the fetch that it had started counts."""
    one, two = fleet(2, seconds=60)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    await one.cache.aclose()
    await catch(lost)
    state = await state_of(store)
    assert state.lease is None
    assert len(state.fetch_times) == 1
    two.source.seconds = 0
    began = clock()
    await two.token()
    assert clock() == began


async def test_closing_during_acquire_releases_the_lease(fleet, store):
    """A lease that was granted while the process was cancelled is released."""
    [one] = fleet(1)
    one.store.deaf = True
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    assert (await state_of(store)).lease is not None
    one.store.deaf = False
    await one.cache.aclose()
    await catch(lost)
    assert (await state_of(store)).lease is None


async def test_closing_works_while_the_store_is_down(fleet):
    """A lease that cannot be released expires."""
    [one] = fleet(1, seconds=60)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    one.store.cut = True
    await one.cache.aclose()
    await catch(lost)


async def test_outage_makes_as_few_fetches_for_eight_processes_as_for_one(fleet):
    """In 120 s of failures all processes together fetch at most 12 times, and recover within 31 s after it."""
    harnesses = fleet(8, answer=lambda number: refused() if clock() < 1120 else 7200, seconds=0.01)
    recovered = {}

    async def caller(harness):
        while harness not in recovered:
            with contextlib.suppress(TransportError):
                await harness.token()
                recovered[harness] = clock()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(caller(harness) for harness in harnesses))
    assert len([at for harness in harnesses for at in harness.source.fetched_at if at < 1120]) <= 12
    assert max(recovered.values()) <= 1120 + 31
    assert fetches(harnesses) <= 13


async def test_backoff_of_another_process_is_raised_with_its_reason(fleet):
    """A long backoff that another process started is raised with its reason and `retry_after`, without a fetch."""
    one, two = fleet(2, answer=lambda number: errcode(45011))
    assert isinstance(await catch(one.token()), RateLimited)
    error = await catch(two.token())
    assert isinstance(error, TransportError)
    assert "45011" in str(error)
    assert error.retry_after == pytest.approx(60)
    assert two.fetches == 0


async def test_permanent_failure_concerns_one_process_only(fleet):
    """A wrong secret or an IP that is not allowed does not stop other processes from trying."""
    one, two = fleet(2)
    one.source.answer = lambda number: errcode(40125)
    assert isinstance(await catch(one.token()), InvalidAppSecret)
    await two.token()
    assert (await one.token()).value == Secret("T1-1")
    assert clock() == pytest.approx(1001)


async def test_hourly_limit_counts_fetches_of_all_processes(fleet):
    """Fetches of other processes count, also those of killed ones."""
    harnesses = fleet(3, max_fetches_per_hour=3, seconds=0)
    for _ in range(3):
        for harness in harnesses:
            harness.cache.invalidate(await harness.token(), 42001)
    assert isinstance(await catch(harnesses[0].token()), TokenFetchLimit)
    assert fetches(harnesses) == 3


async def test_short_store_outage_is_waited_for(fleet):
    """Without a valid token callers wait for the store for seconds, and fetch nothing if it returns."""
    one, two = fleet(2)
    for harness in (one, two):
        harness.cache.invalidate(await harness.token(), 42001)
    one.store.cut = two.store.cut = True
    waiting = asyncio.gather(one.token(), two.token())
    await asyncio.sleep(4)
    one.store.cut = two.store.cut = False
    first, second = await waiting
    assert first.value == second.value
    assert clock() - 1000.5 < 4 + 0.5 + 0.6


async def test_long_store_outage_allows_one_fetch_a_minute(fleet):
    """After 5 s a process fetches without the store and reports it; later it tries the store again every 5 s."""
    [one] = fleet(1)
    one.store.cut = True
    token = await one.token()
    assert clock() - 1000 == pytest.approx(5.5)
    [event] = one.emitted(TokenStoreWriteFailed)
    assert "ConnectionError in " in event.reason
    assert "S3CRET" not in event.reason
    one.cache.invalidate(token, 42001)
    error = await catch(one.token())
    assert isinstance(error, TokenStoreError)
    assert error.retry_after == pytest.approx(5)
    assert one.fetches == 1
    await asyncio.sleep(55)
    assert (await one.token()).value == Secret("T0-2")
    await one.cache.aclose()


async def test_hanging_store_counts_as_down(fleet):
    """A store that does not answer gets two seconds for each operation."""
    [one] = fleet(1)
    one.store.frozen = True
    await one.token()
    assert clock() - 1000 < 5 + 2 + 2 + 1
    await one.cache.aclose()


async def test_valid_token_is_used_while_the_store_is_down(fleet):
    """In both windows callers use the current token, and nothing is fetched without the store."""
    [one] = fleet(1)
    token = await one.token()
    one.store.cut = True
    await until(7200 - 899)
    while clock() < 1000 + 7190:
        assert await one.token() is token
        await asyncio.sleep(10)
    assert one.fetches == 1
    assert {type(event.error) for event in one.emitted(TokenRefreshFailed)} == {TokenStoreError}


async def test_token_fetched_without_the_store_is_stored_later(fleet, store):
    """Other processes find it in the store and fetch nothing."""
    one, two = fleet(2)
    one.store.cut = True
    token = await one.token()
    await asyncio.sleep(20)
    one.store.cut = False
    await asyncio.sleep(31)
    stored = (await state_of(store)).token
    assert (stored.value, stored.fetched_by, stored.requested_at) == (token.value, "host:0", pytest.approx(1005))
    assert (await two.token()).value == token.value
    assert two.fetches == 0


async def test_token_of_another_process_is_not_overwritten_later(fleet, store):
    """If the store returns with a token of another process, that token stays."""
    one, two = fleet(2)
    one.store.cut = True
    await one.token()
    token = await two.token()
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await state_of(store)).token.value == token.value


async def test_token_that_could_not_be_stored_is_used_and_stored_later(fleet, store):
    """A fetched token is used although the store fails, and is stored when the store works again."""
    [one] = fleet(1)
    task = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    one.store.cut = True
    assert (await task).value == Secret("T0-1")
    assert one.emitted(TokenStoreWriteFailed)
    one.store.cut = False
    await asyncio.sleep(5)
    assert (await state_of(store)).token.value == Secret("T0-1")
    assert one.fetches == 1


async def test_two_unstored_tokens_are_stored_in_order(fleet, store):
    """The newer of two unstored tokens is the one that is stored in the end."""
    [one] = fleet(1)
    one.store.cut = True
    one.cache.invalidate(await one.token(), 42001)
    await asyncio.sleep(60)
    token = await one.token()
    one.store.cut = False
    await asyncio.sleep(70)
    assert (await state_of(store)).token.value == token.value


async def test_fetches_without_the_store_count_towards_the_limit(fleet):
    """A store that is down does not lift the hourly limit."""
    [one] = fleet(1, max_fetches_per_hour=2, seconds=0)
    one.store.cut = True
    for _ in range(2):
        one.cache.invalidate(await one.token(), 42001)
        await asyncio.sleep(60)
    assert isinstance(await catch(one.token()), TokenFetchLimit)
    one.store.cut = False
    assert isinstance(await catch(one.token()), TokenFetchLimit)
    await one.cache.aclose()


async def test_failure_that_cannot_be_stored_backs_off_locally(fleet):
    """If the store is down when a fetch fails, the process backs off on its own."""
    [one] = fleet(1, answer=lambda number: refused())
    task = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    one.store.cut = True
    await catch(task)
    assert one.emitted(TokenRefreshFailed)[0].retry_after == 1


async def test_store_that_lost_its_data_works_again(fleet, store):
    """A store that is emptied during a refresh gets a token; emptied later, the valid token stays in use."""
    one, two = fleet(2)
    task = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    store._documents.clear()
    await task
    assert one.fetches == 2
    store._documents.clear()
    assert one.cache.cached() is not None
    new = await two.token()
    one.cache.invalidate(await one.token(), 40001)
    assert (await one.token()).value == new.value
    assert fetches([one, two]) == 3


async def roll_back(store, document):
    """Write an older *document* to the store, as a restored backup does."""
    stored = await store.load(APPID)
    assert await store.compare_and_set(APPID, document, version=stored.version)


async def refresh(harness):
    """Let the platform revoke the token of *harness*, and return the next one."""
    harness.cache.invalidate(await harness.token(), 42001)
    return await harness.token()


async def test_older_state_in_the_store_is_not_used(fleet, store):
    """Its token is not used, its fetches count on, and the next token continues the numbers."""
    one, two = fleet(2)
    await one.token()
    backup = (await store.load(APPID)).document
    current = await refresh(one)
    await refresh(one)
    await refresh(one)
    newest = await two.token()
    assert newest.generation == 4
    await roll_back(store, backup)
    assert (await one.refresher.state_repository.read()).state.token.value == newest.value != current.value
    assert (await refresh(two)).generation == 5
    assert (await state_of(store)).generation == 5
    assert len((await state_of(store)).fetch_times) == fetches([one, two]) == 5
    assert two.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(1, 4)]


async def test_older_state_does_not_reset_the_hourly_limit(fleet, store):
    """A program that writes an old document again and again causes no more fetches than the limit allows."""
    [one] = fleet(1, max_fetches_per_hour=3)
    await one.token()
    backup = (await store.load(APPID)).document
    for _ in range(2):
        await refresh(one)
        await roll_back(store, backup)
    assert isinstance(await catch(refresh(one)), TokenFetchLimit)
    assert one.fetches == 3


async def test_older_state_is_reported_once(fleet, store):
    """Further reads of the same document are no further event."""
    [one] = fleet(1)
    await one.token()
    backup = (await store.load(APPID)).document
    await refresh(one)
    await roll_back(store, backup)
    for _ in range(3):
        await one.refresher.state_repository.read()
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(1, 2)]


async def test_newer_ticket_and_lease_of_an_older_state_are_used(fleet, store):
    """Another process may have stored a ticket, or be fetching, since the store went back."""
    [one] = fleet(1)
    await one.token()
    backup = (await store.load(APPID)).document
    await refresh(one)
    await roll_back(store, backup)
    await StateRepository(store, APPID).update(
        lambda state, now: state.with_ticket(Secret("new"), 7, now).with_lease(
            "other", "host:9", now, not_latest=False, counts_as_fetch=True
        )
    )
    state = (await one.refresher.state_repository.read()).state
    assert (state.generation, state.ticket.value, state.lease.owner) == (2, Secret("new"), "host:9")
    assert len(state.fetch_times) == 3


async def test_emptied_store_begins_anew_and_rejects_older_states(fleet, store):
    """Deleting the document is the way to begin anew: numbers begin at 1, in all processes, without an event."""
    one, two = fleet(2)
    await one.token()
    backup = (await store.load(APPID)).document
    for _ in range(3):
        await refresh(one)
    await two.token()
    store._documents.clear()
    await asyncio.sleep(1)
    assert (await refresh(one)).generation == 1
    assert (await refresh(two)).value == (await one.token()).value
    assert not one.emitted(TokenStoreRolledBack) + two.emitted(TokenStoreRolledBack)
    await roll_back(store, backup)
    # The token in the backup has number 1 too, but it was requested earlier.
    assert (await refresh(two)).generation == 2


async def test_state_written_after_the_store_went_back_is_used(fleet, store):
    """A process that did not know the newer token has fetched another one, which is newer still."""
    one, two = fleet(2)
    await two.token()
    backup = (await store.load(APPID)).document
    for _ in range(3):
        await refresh(one)
    await roll_back(store, backup)
    newest = await refresh(two)
    assert newest.generation == 2
    assert (await refresh(one)).value == newest.value
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(2, 4)]
    assert (await refresh(one)).generation == 3
    assert len((await state_of(store)).fetch_times) == fetches([one, two]) == 6


async def test_state_before_the_first_token_is_not_used(fleet, store):
    """A document without a token that is older than the first one neither removes the token nor resets the limit."""
    [one] = fleet(1, max_fetches_per_hour=3)
    repository = one.refresher.state_repository
    await repository.update(lambda state, now: state.with_ticket(Secret("old"), 1, now))
    backup = (await store.load(APPID)).document
    await one.token()
    await refresh(one)
    await repository.update(lambda state, now: state.with_ticket(Secret("new"), 2, now))
    await roll_back(store, backup)
    state = (await repository.read()).state
    assert (state.generation, state.ticket.value, len(state.fetch_times)) == (2, Secret("new"), 2)
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(0, 2)]
    await refresh(one)
    assert isinstance(await catch(refresh(one)), TokenFetchLimit)


async def test_older_state_with_the_same_token_is_not_used(fleet, store):
    """A document that lacks later fetches does not reset the limit, although its token is the newest."""
    [one] = fleet(1)
    repository = one.refresher.state_repository
    await one.token()
    backup = (await store.load(APPID)).document
    await repository.update(
        lambda state, now: state.with_lease("n", "host:9", now, not_latest=False, counts_as_fetch=True)
    )
    await roll_back(store, backup)
    assert len((await repository.read()).state.fetch_times) == 2
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(1, 1)]


async def test_older_state_that_was_continued_is_not_used(fleet, store):
    """A process that did not know the newer token may write the older one with a higher revision."""
    [one] = fleet(1)
    await one.token()
    backup = (await store.load(APPID)).document
    newest = await refresh(one)
    await roll_back(store, backup)
    for number in range(9):
        await StateRepository(store, APPID).update(
            lambda state, now, number=number: state.with_ticket(Secret("T"), number, now)
        )
    assert (await one.refresher.state_repository.read()).state.token.value == newest.value
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(1, 2)]


async def test_emptied_store_does_not_reset_the_hourly_limit(fleet, store):
    """A process counts the fetches that it knows, however often the document is deleted."""
    [one] = fleet(1, max_fetches_per_hour=3)
    await one.token()
    for _ in range(2):
        store._documents.clear()
        await refresh(one)
    store._documents.clear()
    assert isinstance(await catch(refresh(one)), TokenFetchLimit)
    assert one.fetches == 3


async def test_store_that_another_process_began_anew_does_not_reset_the_hourly_limit(fleet, store):
    """The fetches before count on, without an event: the store was emptied on purpose."""
    one, ticket_writer = fleet(1, max_fetches_per_hour=3)[0], StateRepository(store, APPID)
    await one.token()
    await refresh(one)
    for number in (1, 2):
        store._documents.clear()
        await asyncio.sleep(1)
        await StateRepository(store, APPID).update(
            lambda state, now, number=number: state.with_ticket(Secret("T"), number, now)
        )
        state = (await one.refresher.state_repository.read()).state
        assert (state.generation, len(state.fetch_times)) == (0, 2)
    await refresh(one)
    assert len((await ticket_writer.read()).state.fetch_times) == 3
    assert isinstance(await catch(refresh(one)), TokenFetchLimit)
    assert not one.emitted(TokenStoreRolledBack)


async def test_failed_fetches_on_an_emptied_store_do_not_use_up_the_limit(fleet, store):
    """What another process no longer counts is not counted again."""
    one, other = fleet(1)[0].refresher.state_repository, StateRepository(store, APPID)
    for nonce in "abc":
        await other.update(
            lambda state, now, nonce=nonce: state.with_lease(
                nonce, "host:9", now, not_latest=False, counts_as_fetch=True
            )
        )
        assert len((await one.read()).state.fetch_times) == 1
        await other.update(lambda state, now, nonce=nonce: state.with_failure(nonce, "refused", now, backoff=None))
        assert not (await one.read()).state.fetch_times


async def test_write_during_a_read_is_no_rollback(fleet, store):
    """A read that returns the state before a write of the same process reports nothing, and is not remembered."""
    [one] = fleet(1)
    await one.token()
    repository, load = one.refresher.state_repository, store.load
    written = asyncio.Event()

    async def load_slowly(appid):
        stored = await load(appid)
        await written.wait()
        return stored

    one.store.store = SimpleNamespace(load=load_slowly)
    reading = asyncio.create_task(repository.read())
    await asyncio.sleep(0.1)
    one.store.store = store
    backup = (await store.load(APPID)).document
    await repository.update(lambda state, now: state.with_ticket(Secret("T"), 1, now))
    written.set()
    assert (await reading).state.ticket is None
    assert not one.emitted(TokenStoreRolledBack)
    await roll_back(store, backup)
    assert (await repository.read()).state.ticket.value == Secret("T")
    assert one.emitted(TokenStoreRolledBack) == [TokenStoreRolledBack(1, 1)]


@pytest.mark.parametrize("document", ["", "null", "[]", '{"format":99}', '{"format":1,"token":5}'])
async def test_store_with_data_of_another_program_is_not_overwritten(fleet, store, document):
    """Unreadable data is a permanent error; the process neither overwrites it nor fetches without the store."""
    await store.compare_and_set(APPID, document, version="")
    [one] = fleet(1)
    for _ in range(10):
        error = await catch(one.token())
        assert isinstance(error, TokenStoreError)
        assert error.permanent
        assert "cannot read" in str(error)
    assert (await store.load(APPID)).document == document
    assert (one.fetches, clock()) == (0, 1000)


async def test_error_of_a_store_has_no_frames(fleet):
    """A WxtcbError that a store raises reaches hooks without its cause and local variables."""
    [one] = fleet(1)
    await one.token()

    def move():
        address = "S3CRET address"
        try:
            {}[address]
        except KeyError as error:
            raise WxtcbError("is being moved") from error

    one.store.broken = move
    await until(7200 - 299)
    await one.token()
    [event, *_] = one.emitted(TokenRefreshFailed)
    assert "is being moved" in str(event.error)
    assert (event.error.__cause__, event.error.__context__) == (None, None)
    story = "".join(traceback.TracebackException.from_exception(event.error, capture_locals=True).format())
    assert "S3CRET" not in story


async def test_conflicts_slow_fetches_down(fleet):
    """With repeated "not latest", fetches are 1, 2, 4 ... 60 s apart, and an event gives the reason."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    one.refresher.conflict_hint = "Share the store."
    while one.fetches < 12:
        with contextlib.suppress(TokenConflict):
            one.cache.invalidate(await one.token(), 40001)
        await asyncio.sleep(0.25)
    times = one.source.fetched_at
    gaps = [round(later - sooner) for sooner, later in itertools.pairwise(times)]
    assert gaps == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    first = one.emitted(TokenConflictDetected)[0]
    assert (first.conflicts, first.min_fetch_interval, first.hint) == (3, 1, "Share the store.")


async def test_long_conflict_backoff_is_raised(fleet):
    """A conflict backoff of more than 4 s raises TokenConflict, with `retry_after` and advice."""
    [one] = fleet(1, seconds=0)
    for _ in range(7):
        one.cache.invalidate(await one.token(), 40001)
    error = await catch(one.token())
    assert isinstance(error, TokenConflict)
    assert "share one token_store" in str(error)
    assert error.retry_after == pytest.approx(8)


@pytest.mark.parametrize("code", [42001, 40014])
async def test_revoked_tokens_are_no_conflict(fleet, code):
    """A token that was revoked, not replaced, is replaced at once, however often."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    for _ in range(20):
        one.cache.invalidate(await one.token(), code)
    assert clock() == 1000
    assert not one.emitted(TokenConflictDetected)


async def test_conflicts_end_when_a_token_has_lasted(fleet):
    """Tokens that last ten minutes are replaced at once again."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    for _ in range(8):
        one.cache.invalidate(await one.token(), 40001)
        await asyncio.sleep(601)
    assert not one.emitted(TokenConflictDetected)


async def test_reader_uses_tokens_of_other_processes(fleet, store):
    """A process without a provider never fetches, waits in the windows, and is woken by a new token."""
    [owner] = fleet(1)
    reader = CacheHarness(store=StoreConnection(store), provider=None)
    await owner.token()
    first = await reader.token()
    await until(7200 - 890)
    assert await reader.token() is first
    await asyncio.sleep(5)
    assert not reader.emitted(TokenRefreshFailed)
    await owner.token()
    await asyncio.sleep(1)
    assert reader.cache.cached().value == Secret("T0-2")
    assert not reader.emitted(TokenRefreshFailed)


async def test_reader_fails_if_no_process_fetches(fleet, store):
    """With an empty store and no process that fetches, the caller gets an error after a few seconds."""
    reader = CacheHarness(store=StoreConnection(store), provider=None)
    error = await catch(reader.token())
    assert isinstance(error, TransportError)
    assert "only reads tokens" in str(error)
    assert clock() - 1000 < 30


async def test_reader_fails_while_the_store_is_down(fleet, store):
    """A reader has no way to get a token without the store."""
    reader = CacheHarness(store=StoreConnection(store, cut=True), provider=None)
    assert isinstance(await catch(reader.token()), TokenStoreError)


async def test_token_from_the_future_is_valid_for_one_ttl_at_most(fleet, store):
    """A store's clock that was set back makes no token, lease or backoff last longer than its duration."""
    [one] = fleet(1)
    await one.token()
    state = await state_of(store)
    ahead = attrs.evolve(state, token=attrs.evolve(state.token, requested_at=1e9))
    stored = await store.load(APPID)
    await store.compare_and_set(APPID, dump_state(ahead), version=stored.version)
    [two] = fleet(1)
    await two.token()
    assert two.cache.age_and_remaining()[1] <= 7200


async def test_store_outage_after_a_long_wait_is_waited_for(fleet):
    """The time given to the store starts when it fails, not when the refresh started."""
    one, two = fleet(2, seconds=20)
    tokens = asyncio.gather(one.token(), two.token())
    await asyncio.sleep(15.1)
    [waiter] = [harness for harness in (one, two) if not harness.fetches]
    waiter.store.cut = True
    await asyncio.sleep(2)
    waiter.store.cut = False
    first, second = await tokens
    assert first.value == second.value
    assert fetches([one, two]) == 1


async def test_unstored_token_that_was_replaced_is_not_stored(fleet, store):
    """An unstored token gives way to a newer one of this process, even if that one was rejected."""
    [one] = fleet(1)
    one.store.cut = True
    one.cache.invalidate(await one.token(), 42001)
    await until(66)
    one.cache.invalidate(await one.token(), 42001)
    one.store.cut = False
    newest = await one.token()
    one.source.answer = refused()
    one.cache.invalidate(newest, 42001)
    await catch(one.token())
    await until(110)
    assert (await state_of(store)).token.value == newest.value


@pytest.mark.parametrize("way", ["cut", "locked"])
async def test_store_is_used_as_soon_as_it_is_back(fleet, way):
    """The minute between fetches without the store ends early if the store answers or accepts writes again."""
    one, two = fleet(2)
    setattr(one.store, way, True)
    one.cache.invalidate(await one.token(), 42001)
    assert isinstance(await catch(one.token()), TokenStoreError)
    await until(30)
    setattr(one.store, way, False)
    newer = await two.token()
    await asyncio.sleep(6)
    assert (await one.token()).value == newer.value
    assert one.fetches == 1
    await one.cache.aclose()


async def test_conflicts_end_with_a_refresh_for_another_reason(fleet):
    """After one "not latest", refreshes of expiring tokens count no conflict."""
    [one] = fleet(1, answer=300, max_fetches_per_hour=None)
    one.cache.invalidate(await one.token(), 40001)
    while clock() < 1000 + 3000:
        await one.token()
        await asyncio.sleep(1)
    assert one.fetches > 10
    assert not one.emitted(TokenConflictDetected)


async def test_one_lost_reply_does_not_end_the_lease(fleet):
    """The holder retries the extension in time, and no other process fetches."""
    one, two = fleet(2, seconds=15)
    first = asyncio.create_task(one.token())
    await asyncio.sleep(LEASE_DURATION / 3 - 0.1)
    one.store.frozen = True
    await asyncio.sleep(0.2)
    one.store.frozen = False
    assert (await two.token()).value == (await first).value
    assert fetches([one, two]) == 1


async def test_process_overtaken_while_preparing_sends_nothing(fleet):
    """The process that acquires the lease first fetches, however early another one started."""
    one, two = fleet(2)

    async def slowly():
        await asyncio.sleep(0.1)
        return one.source.fetch

    one.source.preparing = slowly
    tokens = await asyncio.gather(one.token(), two.token())
    assert tokens[0].value == tokens[1].value == Secret("T1-1")
    assert fetches([one, two]) == 1


async def test_lease_of_another_process_is_not_released(fleet, store):
    """A process that is closed after it was suspended leaves its successor's lease alone."""
    one, two = fleet(2, seconds=60)
    first = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    one.store.frozen = True
    second = asyncio.create_task(two.token())
    await asyncio.sleep(2 * LEASE_DURATION)
    one.store.frozen = False
    lease = (await state_of(store)).lease
    assert lease.owner == "host:1"
    await one.cache.aclose()
    await catch(first)
    assert (await state_of(store)).lease.nonce == lease.nonce
    assert (await second).value == Secret("T1-1")


@pytest.mark.parametrize(("sent", "within"), [(False, 15), (True, 80)])
async def test_unsent_fetch_without_the_store_may_be_repeated(fleet, sent, within):
    """Only a request that was sent blocks further fetches without the store for a minute."""
    lost = TransportError("no connection", endpoint="/token", sent=sent)
    [one] = fleet(1, answer=lambda number: lost if number == 1 else 7200)
    one.store.cut = True
    while one.cache.cached() is None:
        with contextlib.suppress(WxtcbError):
            await one.token()
        await asyncio.sleep(0.5)
    assert one.fetches == 2
    assert within / 2 < clock() - 1000 < within
    await one.cache.aclose()


async def test_conflict_backoff_does_not_overflow(fleet, store):
    """After thousands of conflicts the backoff is a minute."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    await one.token()
    state = await state_of(store)
    stored = await store.load(APPID)
    await store.compare_and_set(APPID, dump_state(attrs.evolve(state, conflicts=5000)), version=stored.version)
    one.cache.invalidate(one.cache.cached(), 40001)
    error = await catch(one.token())
    assert isinstance(error, TokenConflict)
    assert 59 < error.retry_after <= 60


@pytest.mark.parametrize("answer", [None, 5, SimpleNamespace(document=None, version="", now=None)])
async def test_store_with_invalid_results_counts_as_down(fleet, answer):
    """A store that returns invalid results causes neither an endless loop nor a fetch per call."""
    [one] = fleet(1, seconds=0)

    async def load(_):
        return answer

    one.store.store = SimpleNamespace(load=load)
    await one.token()
    assert one.emitted(TokenStoreWriteFailed)
    assert clock() < 1011
    await one.cache.aclose()


async def test_internal_error_backs_off(fleet, settle):
    """An unexpected exception reaches callers as an error and the event loop's exception handler, and backs off."""
    [one] = fleet(1, seconds=0)
    one.source.order = lambda _: 1 / 0
    error = await catch(one.token())
    assert "internal error in wxtcb (ZeroDivisionError)" in str(error)
    assert clock() - 1000 == pytest.approx(7)
    assert (await state_of(one.store.store)).lease is None
    one.cache._refresh_task = None
    await settle()
    gc.collect()
    reported = asyncio.get_running_loop().reported
    assert {type(each["exception"]) for each in reported} == {ZeroDivisionError}
    reported.clear()


@pytest.mark.parametrize("life", [float("inf"), float("nan"), 10**400, 1e9])
async def test_token_with_an_impossible_ttl_is_rejected(fleet, store, life):
    """A token with an impossible ttl is not stored."""
    one, two = fleet(2, seconds=0)
    one.source.answer = life
    assert isinstance(await catch(one.token()), BadReply)
    two.source.seconds = 0
    await asyncio.sleep(40)
    await two.token()


async def test_clock_set_back_blocks_no_process(fleet, store):
    """Lease and backoffs last no longer than their duration if the store's clock loses an hour."""
    store.clock = offset = AdjustableClock(store.clock)
    one, two, three = fleet(3, seconds=60)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    kill(one)
    offset.seconds = -3600
    two.source.seconds = 0
    began = clock()
    await two.token()
    assert clock() - began <= LEASE_DURATION
    two.cache.invalidate(await two.token(), 42001)
    two.source.answer = errcode(45011)
    await catch(two.token())
    offset.seconds = -7200
    three.source.seconds = 0
    three.cache._invalid_tokens.extend(two.cache._invalid_tokens)
    began = clock()
    await three.token()
    assert clock() - began <= 4
    lost.cancel()


class AdjustableClock:
    """A clock that can be set."""

    def __init__(self, clock):
        self.clock, self.seconds = clock, 0.0

    def __call__(self):
        return self.clock() + self.seconds


async def test_hourly_limit_holds_if_the_clock_is_set_back(fleet, store):
    """Fetches with a time in the future count as made now."""
    store.clock = offset = AdjustableClock(store.clock)
    [one] = fleet(1, seconds=0, max_fetches_per_hour=3)
    for _ in range(3):
        one.cache.invalidate(await one.token(), 42001)
    offset.seconds = -7200
    assert isinstance(await catch(one.token()), TokenFetchLimit)


async def test_lease_renewal_ends_although_the_store_swallows_cancellation(fleet, store):
    """A store that swallows CancelledError keeps no lease alive."""
    one, two = fleet(2, seconds=LEASE_DURATION / 3)
    one.store = one.refresher.state_repository.store = SwallowingConnection(store)
    await asyncio.gather(one.token(), two.token())
    assert fetches([one, two]) == 1
    assert clock() < 1010


@attrs.define(eq=False)
class SwallowingConnection(StoreConnection):
    """A connection to a store that swallows cancellations."""

    async def _pass(self, name, args, kwargs):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
        return await super()._pass(name, args, kwargs)


async def test_rejected_token_from_the_source_backs_off(fleet):
    """A token source that returns a rejected token again is a failed refresh, followed by a backoff."""
    [one] = fleet(1, seconds=0)
    token = await one.token()
    one.cache.invalidate(token, 42001)
    one.source.order = lambda _: asyncio.sleep(0, ComponentToken(token.value, 7200))
    error = await catch(one.token())
    assert isinstance(error, TransportError)
    assert "already rejected" in str(error)
    assert clock() - 1000 == pytest.approx(7)


async def test_reader_with_a_rejected_token_waits_for_seconds_only(fleet, store):
    """A rejection in the mandatory window ends the unlimited wait of a reader."""
    [owner] = fleet(1)
    reader = CacheHarness(store=StoreConnection(store), provider=None)
    await owner.token()
    token = await reader.token()
    await until(7200 - 890)
    assert await reader.token() is token
    await asyncio.sleep(1)
    reader.cache.invalidate(token, 42001)
    began = clock()
    assert isinstance(await catch(reader.token()), TransportError)
    assert clock() - began < 30


async def test_unstored_token_replaces_the_one_it_invalidated(fleet, store):
    """The older token in the store was invalidated by the fetch, so it is replaced."""
    one, two = fleet(2)
    await one.token()
    await until(7200 - 890)
    await one.token()
    await asyncio.sleep(0.2)
    one.store.cut = True
    await asyncio.sleep(3)
    assert one.cache.cached().value == Secret("T0-2")
    one.store.cut = False
    await asyncio.sleep(5)
    assert (await state_of(store)).token.value == Secret("T0-2")
    assert (await two.token()).value == Secret("T0-2")


async def test_later_of_two_unstored_tokens_stays(fleet, store):
    """The later of two tokens fetched without the store stays, in whatever order they are stored."""
    one, two = fleet(2)
    for harness in (one, two):
        assert await harness.refresher.peek(RefreshRequest("first")) is None
        harness.store.cut = True
    first = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    await two.token()
    await first
    one.store.cut = False
    await asyncio.sleep(2)
    two.store.cut = False
    await asyncio.sleep(40)
    assert (await state_of(store)).token.value == Secret("T1-1")


async def test_fetches_without_the_store_are_counted_once_stored(fleet, store):
    """Other processes count them from then on, and the process itself counts them once."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=2)
    one.store.cut = True
    await one.token()
    one.store.cut = False
    await asyncio.sleep(40)
    assert len((await state_of(store)).fetch_times) == 1
    one.cache.invalidate(await one.token(), 42001)
    assert (await one.token()).value == Secret("T0-2")


@attrs.define(eq=False)
class HangingConnection(StoreConnection):
    """A connection on which the second write never returns: the one that releases the lease."""

    swaps: int = 0

    async def compare_and_set(self, *args, **kwargs):
        self.swaps += 1
        if self.swaps == 2:
            await asyncio.get_running_loop().create_future()
        return await super().compare_and_set(*args, **kwargs)


async def close_during_release(harness, store, settle):
    """Close a process while it releases its lease, and return the state then."""
    harness.refresher.state_repository.store = HangingConnection(store)
    lost = asyncio.create_task(harness.token())
    await settle()
    await harness.cache.aclose()
    await catch(lost)
    return await state_of(store)


async def test_closing_while_the_token_is_stored_stores_it(fleet, store, settle):
    """A process that is closed while it stores its token loses neither the token nor the lease."""
    one, two = fleet(2, seconds=0)
    state = await close_during_release(one, store, settle)
    assert (state.token.value, state.lease) == (Secret("T0-1"), None)
    assert (await two.token()).value == Secret("T0-1")


async def test_closing_while_a_failure_is_stored_releases_the_lease(fleet, store, settle):
    """No process waits for one that was closed."""
    [one] = fleet(1, answer=lambda _: refused(), seconds=0)
    assert (await close_during_release(one, store, settle)).lease is None


async def test_token_of_another_process_ends_a_backoff(fleet):
    """A process in a backoff reads the store once a second and uses a new token."""
    one, two = fleet(2, seconds=0)
    one.source.answer = lambda _: errcode(45011)
    two.source.answer = 7200
    await catch(one.token())
    two.refresher.state_repository.store.store._documents.clear()
    token = await two.token()
    await asyncio.sleep(1)
    assert (await one.token()).value == token.value
    assert clock() == pytest.approx(1001)


async def test_store_is_read_once_a_second_during_a_backoff(fleet):
    """Callers in between get the failure at once, also if the store is down."""
    [one] = fleet(1, answer=lambda _: errcode(45011), seconds=0)
    await catch(one.token())
    looks = []
    one.store.broken = lambda: looks.append(clock())
    for _ in range(40):
        await catch(one.token())
        await asyncio.sleep(0.1)
    assert len(looks) == 3
    one.store.cut = True
    assert isinstance(await catch(one.token()), RateLimited)


async def test_lease_with_a_lost_reply_is_claimed(fleet, store):
    """A lease that was granted without a reply is recognised at the next read, and no fetch is counted twice."""
    [one] = fleet(1, seconds=0)
    one.store.deaf = True
    task = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    one.store.deaf = False
    await task
    assert clock() - 1000 < 3.1
    assert len((await state_of(store)).fetch_times) == 1


async def test_unconfirmed_lease_and_a_set_clock_cause_no_tight_loop(fleet, store):
    """Conditions before and during the grant of a lease are the same, and a denied lease is followed by a pause."""
    store.clock = offset = AdjustableClock(store.clock)
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    for _ in range(5):
        one.cache.invalidate(await one.token(), 40001)
    one.store.deaf = True
    waiting = asyncio.create_task(one.token())
    await asyncio.sleep(3)
    one.store.deaf = False
    offset.seconds = -3600
    looks = []
    one.store.broken = lambda: looks.append(clock())
    with contextlib.suppress(WxtcbError):
        await waiting
    assert max(Counter(looks).values()) < 20


async def test_hanging_store_delays_no_failure(fleet):
    """A read that hangs during a backoff is followed by the failure."""
    [one] = fleet(1, seconds=0)
    one.store.frozen = True
    one.cache.invalidate(await one.token(), 42001)
    began = clock()
    error = await catch(one.token())
    assert isinstance(error, TokenStoreError)
    assert clock() - began < 5 + 3 * 2 + 1
    began = clock()
    await catch(one.token())
    assert clock() - began < 15
    await one.cache.aclose()


async def test_callers_in_a_backoff_share_one_read(fleet):
    """A hundred callers in a backoff read the store once."""
    [one] = fleet(1, answer=lambda _: errcode(45011), seconds=0)
    await catch(one.token())
    await asyncio.sleep(1)
    one.store.frozen = True
    began = clock()
    results = await asyncio.gather(*(one.token() for _ in range(100)), return_exceptions=True)
    assert {type(result) for result in results} == {RateLimited}
    assert clock() - began == pytest.approx(2)


async def test_unstored_token_is_stored_although_the_clock_was_set_back(fleet, store):
    """The token that the store had before the fetch is older, whatever its time is."""
    store.clock = offset = AdjustableClock(store.clock)
    [one] = fleet(1, seconds=0)
    one.cache.invalidate(await one.token(), 42001)
    one.store.cut = True
    token = await one.token()
    offset.seconds = -3600
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await state_of(store)).token.value == token.value


@pytest.mark.parametrize("jump", [-3600, 3600])
@pytest.mark.parametrize("sees", [True, False])
async def test_unstored_token_replaces_no_newer_one_if_the_clock_was_set(fleet, store, jump, sees):
    """If the store's clock was set, or was never read before, the stored token stays."""
    store.clock = offset = AdjustableClock(store.clock)
    one, two = fleet(2, seconds=0)
    if sees:
        await one.refresher.peek(RefreshRequest("first"))
    one.store.cut = True
    await one.token()
    await asyncio.sleep(1)
    newer = await two.token()
    offset.seconds = jump
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await state_of(store)).token.value == newer.value


async def test_suspended_fetch_without_the_store_does_not_send(fleet, store):
    """A process that was suspended right before it sent tries the store again first."""
    one, two = fleet(2, seconds=0)

    async def late(may_send):
        one.store.cut = False
        await asyncio.sleep(600)
        assert not may_send()
        one.source.order = None
        raise SendVetoed(endpoint="/token")

    one.store.cut = True
    one.source.order = late
    waiting = asyncio.create_task(one.token())
    await asyncio.sleep(30)
    newer = await two.token()
    assert (await waiting).value == newer.value
    assert fetches([one, two]) == 1


async def test_failed_fetches_are_no_conflict(fleet):
    """Only replaced tokens count as conflicts, not failed attempts in between."""
    [one] = fleet(1, seconds=0)
    one.cache.invalidate(await one.token(), 40001)
    answers = iter([refused(), refused(), refused(), 7200])
    one.source.answer = lambda _: next(answers)
    await one.token()
    assert (await state_of(one.store.store)).conflicts == 1
    assert not one.emitted(TokenConflictDetected)


async def test_superseded_fetches_without_the_store_are_counted(fleet, store):
    """Tokens that were rejected before the store returned count as fetched."""
    one, two = fleet(2, seconds=0, max_fetches_per_hour=3)
    one.store.cut = True
    for _ in range(3):
        one.cache.invalidate(await one.token(), 42001)
        await asyncio.sleep(60)
    one.store.cut = False
    await asyncio.sleep(40)
    assert len((await state_of(store)).fetch_times) == 3
    assert not one.refresher._storeless_fetch_times
    assert isinstance(await catch(two.token()), TokenFetchLimit)


async def test_closing_while_the_lease_renewal_ends_stores_the_token(fleet, store, settle):
    """The token is stored before the renewal of the lease is cancelled."""
    [one] = fleet(1, seconds=LEASE_DURATION / 3)
    one.store = one.refresher.state_repository.store = SwallowingConnection(store)
    lost = asyncio.create_task(one.token())
    while (await state_of(store)).token is None:
        await asyncio.sleep(0.1)
    await one.cache.aclose()
    with contextlib.suppress(WxtcbError):
        await lost
    state = await state_of(store)
    assert (state.token.value, state.lease) == (Secret("T0-1"), None)


async def test_lost_replies_do_not_extend_a_lease(fleet, store):
    """A process whose replies are lost does not get another lease in place of the unconfirmed one."""
    one, two = fleet(2, seconds=0)
    one.store.deaf = True
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    await two.token()
    assert clock() - 1000 <= LEASE_DURATION + 0.1
    one.store.deaf = False
    await lost


async def test_unstored_token_is_dropped_while_another_process_fetches(fleet, store):
    """Another process's lease means that its token will invalidate this one."""
    one, two = fleet(2, seconds=0)
    one.store.cut = True
    await one.token()
    two.source.seconds = 20
    newer = asyncio.create_task(two.token())
    await asyncio.sleep(0.1)
    one.store.cut = False
    await asyncio.sleep(10)
    assert (await state_of(store)).token is None
    assert (await state_of(store)).lease.owner == "host:1"
    assert (await newer).value == (await state_of(store)).token.value
