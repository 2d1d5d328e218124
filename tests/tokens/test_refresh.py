"""Renewals of many processes over one store: one fetch in the world, whoever is killed, paused, or cut off."""

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
from wxtcb.events import TokenConflictDetected, TokenRefreshed, TokenRefreshFailed, TokenStoreWriteFailed
from wxtcb.secret import Secret
from wxtcb.tokens.decision import RefreshRequest
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.sources import ComponentToken
from wxtcb.tokens.state import LEASE_DURATION, dump_state
from wxtcb.tokens.stores import MemoryStore

from .token_harness import APPID, Line, Rig, catch, clock, errcode, kill, refused, until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def store():
    """Give a store in memory, by virtual time."""
    return MemoryStore(asyncio.get_running_loop().time)


@pytest.fixture
def fleet(store):
    """Give a function that makes processes on that store, each with a line of its own."""

    def make(number, answer=7200, seconds=0.5, **options):
        return [
            Rig(answer, seconds, store=Line(store), owner=f"host:{each}", brand=f"T{each}", **options)
            for each in range(number)
        ]

    return make


async def record_of(store):
    """Return what is kept."""
    return (await SharedState(store, APPID).read()).state


def fetches(rigs):
    """Count the fetches of all."""
    return sum(rig.fetches for rig in rigs)


async def test_eight_processes_make_one_fetch(fleet, store):
    """Whoever gets the lease fetches; the others wake with its token at once, not at a poll."""
    rigs = fleet(8)
    tokens = await asyncio.gather(*(rig.token() for rig in rigs for _ in range(20)))
    assert len({token.value for token in tokens}) == 1
    assert fetches(rigs) == 1
    assert clock() == pytest.approx(1000.5)
    record = await record_of(store)
    assert (record.token.by, record.token.cause, record.lease) == (f"host:{_winner(rigs)}", "first", None)
    assert sum(event.from_store for rig in rigs for event in rig.emitted(TokenRefreshed)) == 7


def _winner(rigs):
    return next(number for number, rig in enumerate(rigs) if rig.fetches)


async def test_dead_token_is_replaced_once_in_the_world(fleet):
    """All are told "dead" at once: each looks into the store first, one fetches, nobody fails."""
    rigs = fleet(8)
    for _ in range(5):
        for rig, token in zip(rigs, await asyncio.gather(*(rig.token() for rig in rigs)), strict=True):
            rig.cache.invalidate(token, 42001)
    await asyncio.gather(*(rig.token() for rig in rigs))
    assert fetches(rigs) == 6


async def test_process_told_dead_late_takes_what_the_store_has(fleet):
    """News of a dead token that has been replaced meanwhile costs a look, not a fetch."""
    one, two = fleet(2)
    old = await one.token()
    await two.token()
    one.cache.invalidate(old, 42001)
    new = await one.token()
    two.cache.invalidate(two.cache.cached(), 42001)
    assert (await two.token()).value == new.value
    assert fetches([one, two]) == 1 + 1


@pytest.mark.parametrize("moment", [0.0, 0.25])
async def test_killed_holder_is_waited_for_as_long_as_its_lease_lasts(fleet, moment, settle):
    """The lease of a process that is killed in mid-renewal runs out; then the next one fetches."""
    one, two = fleet(2)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(moment)
    await settle()
    kill(one)
    token = await two.token()
    assert token.value == Secret("T1-1")
    assert clock() - 1000 <= LEASE_DURATION + 0.5 + moment
    lost.cancel()


async def test_living_holder_is_waited_for_beyond_the_length_of_a_lease(fleet):
    """A platform that takes 30 s to answer makes no second fetch: the holder prolongs its lease."""
    one, two = fleet(2, seconds=30)
    tokens = await asyncio.gather(one.token(), two.token())
    assert tokens[0].value == tokens[1].value
    assert fetches([one, two]) == 1
    assert clock() == pytest.approx(1030)


async def test_holder_past_its_lease_does_not_send(fleet, store):
    """Who was paused between the lease and the request finds so by its own clock, and takes what others got."""
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


async def test_token_of_a_holder_that_lost_its_lease_is_not_stored(fleet, store):
    """A process paused in mid-request comes back with an old token: the newer one stays, and it takes that."""
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
    assert (await record_of(store)).token.value == newer.value
    assert fetches([one, two]) == 2


async def test_closing_in_mid_renewal_gives_the_lease_back(fleet, store):
    """Nobody waits for a process that ended in good order; the fetch that it had begun counts."""
    one, two = fleet(2, seconds=60)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    await one.cache.aclose()
    await catch(lost)
    record = await record_of(store)
    assert record.lease is None
    assert len(record.mints) == 1
    two.source.seconds = 0
    began = clock()
    await two.token()
    assert clock() == began


async def test_closing_while_the_lease_is_being_taken_gives_it_back(fleet, store):
    """Cancelled between the question and the answer of the store, a lease that was granted is given back."""
    [one] = fleet(1)
    one.store.deaf = True
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    assert (await record_of(store)).lease is not None
    one.store.deaf = False
    await one.cache.aclose()
    await catch(lost)
    assert (await record_of(store)).lease is None


async def test_closing_with_the_store_down_ends_all_the_same(fleet):
    """A lease that cannot be given back runs out by itself."""
    [one] = fleet(1, seconds=60)
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    one.store.cut = True
    await one.cache.aclose()
    await catch(lost)


async def test_outage_makes_as_few_fetches_for_eight_processes_as_for_one(fleet):
    """120 s in which every fetch fails: at most 12 by all together, and all are back within 31 s after it."""
    rigs = fleet(8, answer=lambda number: refused() if clock() < 1120 else 7200, seconds=0.01)
    recovered = {}

    async def caller(rig):
        while rig not in recovered:
            with contextlib.suppress(TransportError):
                await rig.token()
                recovered[rig] = clock()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(caller(rig) for rig in rigs))
    assert len([at for rig in rigs for at in rig.source.fetched_at if at < 1120]) <= 12
    assert max(recovered.values()) <= 1120 + 31
    assert fetches(rigs) <= 13


async def test_failure_of_another_process_is_told_with_its_reason(fleet):
    """Who finds a long pause that another process began hears why, and for how long, without a fetch."""
    one, two = fleet(2, answer=lambda number: errcode(45011))
    assert isinstance(await catch(one.token()), RateLimited)
    error = await catch(two.token())
    assert isinstance(error, TransportError)
    assert "45011" in str(error)
    assert error.retry_after == pytest.approx(60)
    assert two.fetches == 0


async def test_refusal_of_one_process_does_not_keep_others_from_trying(fleet):
    """A wrong secret, or an address that is not allowed, is the affair of that process."""
    one, two = fleet(2)
    one.source.answer = lambda number: errcode(40125)
    assert isinstance(await catch(one.token()), InvalidAppSecret)
    await two.token()
    assert (await one.token()).value == Secret("T1-1")
    assert clock() == pytest.approx(1001)


async def test_ceiling_counts_the_tokens_of_all(fleet):
    """Tokens fetched by others are counted, those of killed processes too."""
    rigs = fleet(3, max_fetches_per_hour=3, seconds=0)
    for _ in range(3):
        for rig in rigs:
            rig.cache.invalidate(await rig.token(), 42001)
    assert isinstance(await catch(rigs[0].token()), TokenFetchLimit)
    assert fetches(rigs) == 3


async def test_store_that_is_away_for_seconds_is_waited_for(fleet):
    """Token dead and store down: callers wait for seconds, and nobody fetches alone if it returns."""
    one, two = fleet(2)
    for rig in (one, two):
        rig.cache.invalidate(await rig.token(), 42001)
    one.store.cut = two.store.cut = True
    waiting = asyncio.gather(one.token(), two.token())
    await asyncio.sleep(4)
    one.store.cut = two.store.cut = False
    first, second = await waiting
    assert first.value == second.value
    assert clock() - 1000.5 < 4 + 0.5 + 0.6


async def test_store_that_stays_away_is_done_without_once_a_minute(fleet):
    """After 5 s a process fetches for itself, and tells so; told "dead" again, it looks again every 5 s."""
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


async def test_store_that_hangs_is_a_store_that_is_down(fleet):
    """A store that answers nothing is given two seconds for each question."""
    [one] = fleet(1)
    one.store.frozen = True
    await one.token()
    assert clock() - 1000 < 5 + 2 + 2 + 1
    await one.cache.aclose()


async def test_living_token_is_used_while_the_store_is_down(fleet):
    """In both windows callers go on with the token they have, and nothing is fetched alone."""
    [one] = fleet(1)
    token = await one.token()
    one.store.cut = True
    await until(7200 - 899)
    while clock() < 1000 + 7190:
        assert await one.token() is token
        await asyncio.sleep(10)
    assert one.fetches == 1
    assert {type(event.error) for event in one.emitted(TokenRefreshFailed)} == {TokenStoreError}


async def test_token_fetched_alone_is_stored_when_the_store_returns(fleet, store):
    """Others find it then, and fetch nothing."""
    one, two = fleet(2)
    one.store.cut = True
    token = await one.token()
    await asyncio.sleep(20)
    one.store.cut = False
    await asyncio.sleep(31)
    kept = (await record_of(store)).token
    assert (kept.value, kept.by, kept.minted_at) == (token.value, "host:0", pytest.approx(1005))
    assert (await two.token()).value == token.value
    assert two.fetches == 0


async def test_token_fetched_alone_gives_way_to_one_that_others_stored(fleet, store):
    """When the store returns with a token of another process, that one stays."""
    one, two = fleet(2)
    one.store.cut = True
    await one.token()
    token = await two.token()
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await record_of(store)).token.value == token.value


async def test_token_that_the_store_could_not_take_is_used_and_stored_later(fleet, store):
    """A token that was bought is not thrown away."""
    [one] = fleet(1)
    flight = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    one.store.cut = True
    assert (await flight).value == Secret("T0-1")
    assert one.emitted(TokenStoreWriteFailed)
    one.store.cut = False
    await asyncio.sleep(5)
    assert (await record_of(store)).token.value == Secret("T0-1")
    assert one.fetches == 1


async def test_two_tokens_that_the_store_could_not_take_are_stored_in_their_order(fleet, store):
    """The newer one is what is kept in the end."""
    [one] = fleet(1)
    one.store.cut = True
    one.cache.invalidate(await one.token(), 42001)
    await asyncio.sleep(60)
    token = await one.token()
    one.store.cut = False
    await asyncio.sleep(70)
    assert (await record_of(store)).token.value == token.value


async def test_fetches_made_alone_count_against_the_ceiling(fleet):
    """A store that is down does not lift the ceiling."""
    [one] = fleet(1, max_fetches_per_hour=2, seconds=0)
    one.store.cut = True
    for _ in range(2):
        one.cache.invalidate(await one.token(), 42001)
        await asyncio.sleep(60)
    assert isinstance(await catch(one.token()), TokenFetchLimit)
    one.store.cut = False
    assert isinstance(await catch(one.token()), TokenFetchLimit)
    await one.cache.aclose()


async def test_failure_that_cannot_be_told_to_others_is_paused_here(fleet):
    """The store is gone when a fetch fails: this process counts its pauses by itself."""
    [one] = fleet(1, answer=lambda number: refused())
    flight = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    one.store.cut = True
    await catch(flight)
    assert one.emitted(TokenRefreshFailed)[0].retry_after == 1


async def test_store_that_lost_everything_is_a_new_beginning(fleet, store):
    """Flushed in mid-renewal, the store gets a token in a second try; flushed later, the living token goes on."""
    one, two = fleet(2)
    flight = asyncio.create_task(one.token())
    await asyncio.sleep(0.2)
    store._documents.clear()
    await flight
    assert one.fetches == 2
    store._documents.clear()
    assert one.cache.cached() is not None
    new = await two.token()
    one.cache.invalidate(await one.token(), 40001)
    assert (await one.token()).value == new.value
    assert fetches([one, two]) == 3


@pytest.mark.parametrize("document", ["", "null", "[]", '{"format":99}', '{"format":1,"token":5}'])
async def test_store_that_keeps_something_else_is_left_alone(fleet, store, document):
    """What is no record of ours is not overwritten, and nobody fetches beside it: that would void the fleet's token."""
    await store.compare_and_set(APPID, document, version="")
    [one] = fleet(1)
    for _ in range(10):
        error = await catch(one.token())
        assert isinstance(error, TokenStoreError)
        assert error.permanent
        assert "no token record" in str(error)
    assert (await store.load(APPID)).document == document
    assert (one.fetches, clock()) == (0, 1000)


async def test_own_error_of_a_store_shows_no_frame_of_it(fleet):
    """A store may raise a WxtcbError; what a hook keeps of it holds neither cause nor locals."""
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


async def test_owner_outside_slows_our_fetches_down(fleet):
    """Told "not latest" again and again, fetches are 1, 2, 4 ... 60 s apart, and the event says why."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    one.renewal.conflict_hint = "Share the store."
    while one.fetches < 12:
        with contextlib.suppress(TokenConflict):
            one.cache.invalidate(await one.token(), 40001)
        await asyncio.sleep(0.25)
    times = one.source.fetched_at
    gaps = [round(later - sooner) for sooner, later in itertools.pairwise(times)]
    assert gaps == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    first = one.emitted(TokenConflictDetected)[0]
    assert (first.conflicts, first.min_fetch_interval, first.hint) == (3, 1, "Share the store.")


async def test_long_truce_is_told_to_callers(fleet):
    """A pause of more than 4 s is an error of its own, which says when and what to do."""
    [one] = fleet(1, seconds=0)
    for _ in range(7):
        one.cache.invalidate(await one.token(), 40001)
    error = await catch(one.token())
    assert isinstance(error, TokenConflict)
    assert "share one token_store" in str(error)
    assert error.retry_after == pytest.approx(8)


@pytest.mark.parametrize("code", [42001, 40014])
async def test_tokens_that_end_otherwise_are_no_contest(fleet, code):
    """A token that was ended, not replaced, is replaced at once, however often."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    for _ in range(20):
        one.cache.invalidate(await one.token(), code)
    assert clock() == 1000
    assert not one.emitted(TokenConflictDetected)


async def test_contest_is_over_when_a_token_has_lasted(fleet):
    """Voided once in ten minutes and more, tokens are replaced at once again."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    for _ in range(8):
        one.cache.invalidate(await one.token(), 40001)
        await asyncio.sleep(601)
    assert not one.emitted(TokenConflictDetected)


async def test_reader_takes_what_others_fetch(fleet, store):
    """A process without an origin never fetches, waits for others in the windows, and is woken by them."""
    [owner] = fleet(1)
    reader = Rig(store=Line(store), provider=None)
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


async def test_reader_without_an_owner_fails_and_says_why(fleet, store):
    """Nothing in the store, and nobody who fetches: after a few tries the caller hears it."""
    reader = Rig(store=Line(store), provider=None)
    error = await catch(reader.token())
    assert isinstance(error, TransportError)
    assert "only reads tokens" in str(error)
    assert clock() - 1000 < 30


async def test_reader_does_not_do_without_the_store(fleet, store):
    """With the store down a reader fails: it has no other way."""
    reader = Rig(store=Line(store, cut=True), provider=None)
    assert isinstance(await catch(reader.token()), TokenStoreError)


async def test_record_with_a_token_of_the_future_is_believed_for_one_life_at_most(fleet, store):
    """A clock that was set back makes no token immortal, no lease and no pause endless."""
    [one] = fleet(1)
    await one.token()
    record = await record_of(store)
    ahead = attrs.evolve(record, token=attrs.evolve(record.token, minted_at=1e9))
    kept = await store.load(APPID)
    await store.compare_and_set(APPID, dump_state(ahead), version=kept.version)
    [two] = fleet(1)
    await two.token()
    assert two.cache.age_and_remaining()[1] <= 7200


async def test_store_that_goes_while_others_fetch_is_waited_for_too(fleet):
    """However long a process has waited for the holder: the time it gives the store begins when the store goes."""
    one, two = fleet(2, seconds=20)
    tokens = asyncio.gather(one.token(), two.token())
    await asyncio.sleep(15.1)
    [waiter] = [rig for rig in (one, two) if not rig.fetches]
    waiter.store.cut = True
    await asyncio.sleep(2)
    waiter.store.cut = False
    first, second = await tokens
    assert first.value == second.value
    assert fetches([one, two]) == 1


async def test_token_that_is_held_no_longer_is_not_stored_late(fleet, store):
    """Unsaved tokens give way to what this process has got since, even if that is dead by now."""
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
    assert (await record_of(store)).token.value == newest.value


@pytest.mark.parametrize("way", ["cut", "locked"])
async def test_process_that_may_not_fetch_alone_again_finds_the_store_when_it_is_back(fleet, way):
    """The minute between fetches alone is not waited out once the store answers, or takes changes again."""
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


async def test_contest_is_over_when_the_next_renewal_has_another_cause(fleet):
    """Once told "not latest", a process that renews short-lived tokens in time suspects nobody for that."""
    [one] = fleet(1, answer=300, max_fetches_per_hour=None)
    one.cache.invalidate(await one.token(), 40001)
    while clock() < 1000 + 3000:
        await one.token()
        await asyncio.sleep(1)
    assert one.fetches > 10
    assert not one.emitted(TokenConflictDetected)


async def test_one_answer_of_the_store_may_be_lost_while_a_request_is_under_way(fleet):
    """The holder asks again in time: its lease lasts, and nobody else fetches."""
    one, two = fleet(2, seconds=15)
    first = asyncio.create_task(one.token())
    await asyncio.sleep(LEASE_DURATION / 3 - 0.1)
    one.store.frozen = True
    await asyncio.sleep(0.2)
    one.store.frozen = False
    assert (await two.token()).value == (await first).value
    assert fetches([one, two]) == 1


async def test_process_that_is_overtaken_while_it_asks_for_its_ticket_sends_nothing(fleet):
    """Whoever takes the lease first fetches, however early somebody else began."""
    one, two = fleet(2)

    async def slowly():
        await asyncio.sleep(0.1)
        return one.source.fetch

    one.source.preparing = slowly
    tokens = await asyncio.gather(one.token(), two.token())
    assert tokens[0].value == tokens[1].value == Secret("T1-1")
    assert fetches([one, two]) == 1


async def test_lease_that_was_taken_over_is_not_given_back(fleet, store):
    """A process that is closed after it stood still leaves the lease of its successor alone."""
    one, two = fleet(2, seconds=60)
    first = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    one.store.frozen = True
    second = asyncio.create_task(two.token())
    await asyncio.sleep(2 * LEASE_DURATION)
    one.store.frozen = False
    lease = (await record_of(store)).lease
    assert lease.by == "host:1"
    await one.cache.aclose()
    await catch(first)
    assert (await record_of(store)).lease.nonce == lease.nonce
    assert (await second).value == Secret("T1-1")


@pytest.mark.parametrize(("sent", "within"), [(False, 15), (True, 80)])
async def test_fetch_alone_that_never_left_does_not_cost_the_minute(fleet, sent, within):
    """Only what may have voided the tokens of others keeps a process from fetching alone again."""
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


async def test_contest_of_days_does_not_overflow(fleet, store):
    """However often a token was contested, the truce is a minute."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=None)
    await one.token()
    record = await record_of(store)
    kept = await store.load(APPID)
    await store.compare_and_set(APPID, dump_state(attrs.evolve(record, contests=5000)), version=kept.version)
    one.cache.invalidate(one.cache.cached(), 40001)
    error = await catch(one.token())
    assert isinstance(error, TokenConflict)
    assert 59 < error.retry_after <= 60


@pytest.mark.parametrize("answer", [None, 5, SimpleNamespace(document=None, version="", now=None)])
async def test_store_that_answers_nonsense_is_a_store_that_is_down(fleet, answer):
    """It makes no endless loop and no fetch per call."""
    [one] = fleet(1, seconds=0)

    async def load(_):
        return answer

    one.store.store = SimpleNamespace(load=load)
    await one.token()
    assert one.emitted(TokenStoreWriteFailed)
    assert clock() < 1011
    await one.cache.aclose()


async def test_bug_in_a_renewal_is_paused_like_a_failure(fleet, settle):
    """What should not happen reaches callers as an error, and the loop's exception handler, without a storm."""
    [one] = fleet(1, seconds=0)
    one.source.order = lambda _: 1 / 0
    error = await catch(one.token())
    assert "wxtcb failed in itself (ZeroDivisionError)" in str(error)
    assert clock() - 1000 == pytest.approx(7)
    assert (await record_of(one.store.store)).lease is None
    one.cache._refresh_task = None
    await settle()
    gc.collect()
    reported = asyncio.get_running_loop().reported
    assert {type(each["exception"]) for each in reported} == {ZeroDivisionError}
    reported.clear()


@pytest.mark.parametrize("life", [float("inf"), float("nan"), 10**400, 1e9])
async def test_token_of_no_possible_life_is_refused(fleet, store, life):
    """It cannot spoil the record for the others."""
    one, two = fleet(2, seconds=0)
    one.source.answer = life
    assert isinstance(await catch(one.token()), BadReply)
    two.source.seconds = 0
    await asyncio.sleep(40)
    await two.token()


async def test_clock_set_back_holds_nobody_up(fleet, store):
    """Lease, pause and truce last no longer than their length when the store's clock loses an hour."""
    store.clock = offset = Offset(store.clock)
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


class Offset:
    """A clock that can be set."""

    def __init__(self, clock):
        self.clock, self.seconds = clock, 0.0

    def __call__(self):
        return self.clock() + self.seconds


async def test_ceiling_holds_when_the_clock_is_set_back(fleet, store):
    """Fetches of the time that is yet to come count as just made."""
    store.clock = offset = Offset(store.clock)
    [one] = fleet(1, seconds=0, max_fetches_per_hour=3)
    for _ in range(3):
        one.cache.invalidate(await one.token(), 42001)
    offset.seconds = -7200
    assert isinstance(await catch(one.token()), TokenFetchLimit)


async def test_swallowed_cancellation_of_a_store_ends_the_beat_all_the_same(fleet, store):
    """A store that loses a CancelledError keeps no lease alive for ever."""
    one, two = fleet(2, seconds=LEASE_DURATION / 3)
    one.store = one.renewal.shared_state.store = SwallowingLine(store)
    await asyncio.gather(one.token(), two.token())
    assert fetches([one, two]) == 1
    assert clock() < 1010


@attrs.define(eq=False)
class SwallowingLine(Line):
    """A way to a store on which cancellations are lost."""

    async def _pass(self, name, args, kwargs):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
        return await super()._pass(name, args, kwargs)


async def test_source_that_gives_a_dead_token_again_is_not_asked_in_a_loop(fleet):
    """The same value is no new token: its renewal failed, and is paused."""
    [one] = fleet(1, seconds=0)
    token = await one.token()
    one.cache.invalidate(token, 42001)
    one.source.order = lambda _: asyncio.sleep(0, ComponentToken(token.value, 7200))
    error = await catch(one.token())
    assert isinstance(error, TransportError)
    assert "WeChat called dead" in str(error)
    assert clock() - 1000 == pytest.approx(7)


async def test_reader_whose_token_dies_in_the_window_waits_for_seconds(fleet, store):
    """Its calls do not ride the quarter of an hour for which the old token would have lived."""
    [owner] = fleet(1)
    reader = Rig(store=Line(store), provider=None)
    await owner.token()
    token = await reader.token()
    await until(7200 - 890)
    assert await reader.token() is token
    await asyncio.sleep(1)
    reader.cache.invalidate(token, 42001)
    began = clock()
    assert isinstance(await catch(reader.token()), TransportError)
    assert clock() - began < 30


async def test_token_that_could_not_be_stored_in_time_takes_the_place_of_the_one_it_voided(fleet, store):
    """The old one would have lived on in the store, and is void."""
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
    assert (await record_of(store)).token.value == Secret("T0-2")
    assert (await two.token()).value == Secret("T0-2")


async def test_later_of_two_tokens_fetched_alone_is_the_one_that_stays(fleet, store):
    """Each voids the one before, in whatever order they reach the store."""
    one, two = fleet(2)
    for rig in (one, two):
        assert await rig.renewal.peek(RefreshRequest("first")) is None
        rig.store.cut = True
    first = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    await two.token()
    await first
    one.store.cut = False
    await asyncio.sleep(2)
    two.store.cut = False
    await asyncio.sleep(40)
    assert (await record_of(store)).token.value == Secret("T1-1")


async def test_fetches_made_alone_are_counted_for_all_once_they_are_stored(fleet, store):
    """The ceiling of the others sees them, and that of the process counts them once."""
    [one] = fleet(1, seconds=0, max_fetches_per_hour=2)
    one.store.cut = True
    await one.token()
    one.store.cut = False
    await asyncio.sleep(40)
    assert len((await record_of(store)).mints) == 1
    one.cache.invalidate(await one.token(), 42001)
    assert (await one.token()).value == Secret("T0-2")


@attrs.define(eq=False)
class SlowLine(Line):
    """A way to a store on which the second change is on its way for ever: the one that ends the lease."""

    swaps: int = 0

    async def compare_and_set(self, *args, **kwargs):
        self.swaps += 1
        if self.swaps == 2:
            await asyncio.get_running_loop().create_future()
        return await super().compare_and_set(*args, **kwargs)


async def close_at_the_end_of_the_lease(rig, store, settle):
    """Close a process while it ends its lease, and return the record then."""
    rig.renewal.shared_state.store = SlowLine(store)
    lost = asyncio.create_task(rig.token())
    await settle()
    await rig.cache.aclose()
    await catch(lost)
    return await record_of(store)


async def test_closing_while_the_token_is_stored_stores_it(fleet, store, settle):
    """A restart at that very moment loses neither the token nor the lease."""
    one, two = fleet(2, seconds=0)
    record = await close_at_the_end_of_the_lease(one, store, settle)
    assert (record.token.value, record.lease) == (Secret("T0-1"), None)
    assert (await two.token()).value == Secret("T0-1")


async def test_closing_while_a_failure_is_told_ends_the_lease(fleet, store, settle):
    """Nobody waits for a process that has ended."""
    [one] = fleet(1, answer=lambda _: refused(), seconds=0)
    assert (await close_at_the_end_of_the_lease(one, store, settle)).lease is None


async def test_pause_after_a_failure_does_not_hide_what_others_have_fetched(fleet):
    """Who has to wait before it may fetch looks once a second whether that is needed still."""
    one, two = fleet(2, seconds=0)
    one.source.answer = lambda _: errcode(45011)
    two.source.answer = 7200
    await catch(one.token())
    two.renewal.shared_state.store.store._documents.clear()
    token = await two.token()
    await asyncio.sleep(1)
    assert (await one.token()).value == token.value
    assert clock() == pytest.approx(1001)


async def test_look_in_a_pause_is_made_once_a_second(fleet):
    """Callers in between hear the failure at once; a store that is down changes nothing."""
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


async def test_lost_answer_to_the_lease_is_made_good_at_the_next_look(fleet, store):
    """The lease that was granted unheard is recognised, and counts no token."""
    [one] = fleet(1, seconds=0)
    one.store.deaf = True
    flight = asyncio.create_task(one.token())
    await asyncio.sleep(1)
    one.store.deaf = False
    await flight
    assert clock() - 1000 < 3.1
    assert len((await record_of(store)).mints) == 1


async def test_doubtful_lease_and_a_clock_set_back_make_no_hot_loop(fleet, store):
    """What is judged before the lease is asked for is judged alike when it is granted, and a refusal is waited out."""
    store.clock = offset = Offset(store.clock)
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


async def test_hanging_store_fails_callers_as_soon_as_one_that_is_gone(fleet):
    """A look in vain is followed by the failure, however long the look took."""
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


async def test_those_who_wait_for_one_look_hear_the_same(fleet):
    """A hundred callers in a pause make one look."""
    [one] = fleet(1, answer=lambda _: errcode(45011), seconds=0)
    await catch(one.token())
    await asyncio.sleep(1)
    one.store.frozen = True
    began = clock()
    results = await asyncio.gather(*(one.token() for _ in range(100)), return_exceptions=True)
    assert {type(result) for result in results} == {RateLimited}
    assert clock() - began == pytest.approx(2)


async def test_token_fetched_alone_is_stored_though_the_clock_was_set_back(fleet, store):
    """What the store kept before is older, whatever its time says."""
    store.clock = offset = Offset(store.clock)
    [one] = fleet(1, seconds=0)
    one.cache.invalidate(await one.token(), 42001)
    one.store.cut = True
    token = await one.token()
    offset.seconds = -3600
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await record_of(store)).token.value == token.value


@pytest.mark.parametrize("jump", [-3600, 3600])
@pytest.mark.parametrize("sees", [True, False])
async def test_token_fetched_alone_replaces_no_newer_one_though_the_clock_was_set(fleet, store, jump, sees):
    """Where the store's clock cannot be believed, or was never seen before, what is kept stays."""
    store.clock = offset = Offset(store.clock)
    one, two = fleet(2, seconds=0)
    if sees:
        await one.renewal.peek(RefreshRequest("first"))
    one.store.cut = True
    await one.token()
    await asyncio.sleep(1)
    newer = await two.token()
    offset.seconds = jump
    one.store.cut = False
    await asyncio.sleep(40)
    assert (await record_of(store)).token.value == newer.value


async def test_fetch_alone_that_was_held_up_does_not_send(fleet, store):
    """Paused right before its request, a process finds so, and looks again: the store may be back."""
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


async def test_fetches_that_failed_are_no_contest(fleet):
    """Only tokens that were replaced count, not what was tried in between."""
    [one] = fleet(1, seconds=0)
    one.cache.invalidate(await one.token(), 40001)
    answers = iter([refused(), refused(), refused(), 7200])
    one.source.answer = lambda _: next(answers)
    await one.token()
    assert (await record_of(one.store.store)).contests == 1
    assert not one.emitted(TokenConflictDetected)


async def test_tokens_fetched_alone_count_for_all_though_they_are_not_stored(fleet, store):
    """Those that died before the store returned were fetched all the same."""
    one, two = fleet(2, seconds=0, max_fetches_per_hour=3)
    one.store.cut = True
    for _ in range(3):
        one.cache.invalidate(await one.token(), 42001)
        await asyncio.sleep(60)
    one.store.cut = False
    await asyncio.sleep(40)
    assert len((await record_of(store)).mints) == 3
    assert not one.renewal._storeless_fetch_times
    assert isinstance(await catch(two.token()), TokenFetchLimit)


async def test_closing_while_the_beat_ends_loses_nothing(fleet, store, settle):
    """The token is stored before the beat is ended."""
    [one] = fleet(1, seconds=LEASE_DURATION / 3)
    one.store = one.renewal.shared_state.store = SwallowingLine(store)
    lost = asyncio.create_task(one.token())
    while (await record_of(store)).token is None:
        await asyncio.sleep(0.1)
    await one.cache.aclose()
    with contextlib.suppress(WxtcbError):
        await lost
    record = await record_of(store)
    assert (record.token.value, record.lease) == (Secret("T0-1"), None)


async def test_process_that_hears_nothing_keeps_the_lease_no_longer_than_one_lasts(fleet, store):
    """Asking again and again, it is granted no other lease in the place of the one it has not heard of."""
    one, two = fleet(2, seconds=0)
    one.store.deaf = True
    lost = asyncio.create_task(one.token())
    await asyncio.sleep(0.1)
    await two.token()
    assert clock() - 1000 <= LEASE_DURATION + 0.1
    one.store.deaf = False
    await lost


async def test_token_fetched_alone_is_left_out_while_somebody_fetches_a_newer_one(fleet, store):
    """The lease of another process says that its own is coming, and voids this one."""
    one, two = fleet(2, seconds=0)
    one.store.cut = True
    await one.token()
    two.source.seconds = 20
    newer = asyncio.create_task(two.token())
    await asyncio.sleep(0.1)
    one.store.cut = False
    await asyncio.sleep(10)
    assert (await record_of(store)).token is None
    assert (await record_of(store)).lease.by == "host:1"
    assert (await newer).value == (await record_of(store)).token.value
