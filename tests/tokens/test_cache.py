"""The token cache: two windows, one flight, pauses, and nobody who fails while a token lives."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._http.executor import Token
from wxtcb.errors import (
    BadReply,
    InvalidAppSecret,
    IPNotAllowed,
    PlatformBusy,
    SessionClosed,
    TicketError,
    TokenFetchLimit,
    TransportError,
    WxtcbError,
)
from wxtcb.events import TokenRefreshed, TokenRefreshFailed, TokenRejected
from wxtcb.secret import Secret
from wxtcb.tokens.cache import RefreshWindows
from wxtcb.tokens.providers import is_transient
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.stores import MemoryStore

from .token_harness import APPID, WHO, Rig, catch, clock, errcode, refused, until

pytestmark = pytest.mark.virtual_time


async def test_get_gives_nothing_when_there_is_no_token_yet():
    """Without a token `get` says so without waiting."""
    assert Rig().cache.cached() is None


async def test_first_token_is_fetched_once_and_then_given_without_waiting():
    """The first `wait` fetches; after it `get` is enough."""
    rig = Rig()
    token = await rig.token()
    assert token.value == Secret("T0KEN-1")
    assert rig.cache.cached() is token
    assert rig.emitted(TokenRefreshed) == [TokenRefreshed(1, "first", 7199.5, 0.5)]


@pytest.mark.parametrize(
    ("life", "advisory", "mandatory"), [(7200, 900, 300), (14400, 900, 300), (3600, 450, 150), (240, 30, 10)]
)
def test_windows_shrink_in_proportion_when_a_token_lives_short(life, advisory, mandatory):
    """15 and 5 minutes before the expiry for two hours of life, and in proportion for less."""
    windows = RefreshWindows.compute(life, life, lambda low, high: low)
    assert (life - windows.advisory_at, life - windows.mandatory_at) == (advisory, mandatory)


@pytest.mark.parametrize(("life", "most"), [(7200, 60), (14400, 60), (1200, 10)])
def test_advisory_window_is_jittered(life, most):
    """Processes that share a token do not all renew at the same moment: up to 60 s are drawn."""
    assert life - RefreshWindows.compute(life, life, lambda low, high: high).advisory_at == pytest.approx(
        min(900, life / 8) + most
    )
    assert RefreshWindows.compute(life, life, lambda low, high: high).mandatory_at == life - min(300, life / 24)


async def test_life_is_counted_from_before_the_fetch():
    """A fetch that took 100 s leaves 100 s less of life."""
    rig = Rig(life := 7200, seconds=100)
    await rig.token()
    assert rig.cache._windows.expires_at == 1000 + life


async def test_token_is_fresh_until_the_advisory_window():
    """Up to 15 minutes before the expiry nothing happens."""
    rig = Rig()
    token = await rig.token()
    await until(7200 - 901)
    assert rig.cache.cached() is token
    await until(7200 - 899)
    assert rig.cache.cached() is None
    assert rig.fetches == 1


async def test_advisory_window_renews_in_the_background_and_nobody_waits():
    """One renewal for many callers, all of whom go on at once with the present token."""
    rig = Rig()
    first = await rig.token()
    await until(7200 - 899)
    began = clock()
    assert {id(token) for token in await asyncio.gather(*(rig.token() for _ in range(100)))} == {id(first)}
    assert clock() == began
    await asyncio.sleep(1)
    assert rig.cache.cached().value == Secret("T0KEN-2")
    assert rig.fetches == 2
    assert rig.emitted(TokenRefreshed)[1].reason == "advisory"


async def test_advisory_failure_fails_nobody_and_is_reported():
    """While the token lives a failed renewal is an event; the next try follows after the pause."""
    rig = Rig(lambda number: 7200 if number == 1 else refused())
    token = await rig.token()
    await until(7200 - 899)
    for _ in range(20):
        assert await rig.token() is token
        await asyncio.sleep(1)
    assert [round(at - rig.source.fetched_at[1]) for at in rig.source.fetched_at[1:]] == [0, 2, 5, 10, 19]
    assert [event.retry_after for event in rig.emitted(TokenRefreshFailed)] == [1, 2, 4, 8, 16]
    assert rig.emitted(TokenRefreshFailed)[0].reason == "advisory"


async def test_mandatory_window_lets_callers_wait_for_the_one_renewal():
    """In the last five minutes callers wait for the flight and get the new token."""
    rig = Rig()
    await rig.token()
    await until(7200 - 299)
    tokens = await asyncio.gather(*(rig.token() for _ in range(100)))
    assert {token.value.reveal() for token in tokens} == {"T0KEN-2"}
    assert rig.fetches == 2
    assert rig.emitted(TokenRefreshed)[1].reason == "mandatory"


async def test_mandatory_window_lets_nobody_wait_longer_than_five_seconds():
    """A renewal that hangs holds callers up for 5 s from its start; then they go on with the living token."""
    rig = Rig(seconds=0)
    token = await rig.token()
    rig.source.seconds = 60
    await until(7200 - 299)
    began = clock()
    early = asyncio.create_task(rig.token())
    await asyncio.sleep(3)
    assert await rig.token() is token
    assert await early is token
    assert clock() - began == pytest.approx(5)
    assert await rig.token() is token
    assert clock() - began == pytest.approx(5)


async def test_mandatory_failure_fails_nobody_while_the_token_lives():
    """If the renewal fails, those who waited for it go on with the present token."""
    rig = Rig(lambda number: 7200 if number == 1 else errcode(40125))
    token = await rig.token()
    await until(7200 - 299)
    assert set(await asyncio.gather(*(rig.token() for _ in range(10)))) == {token}
    assert await rig.token() is token
    assert rig.fetches == 2


async def test_token_past_its_expiry_is_not_given_to_those_who_waited_for_its_renewal():
    """Who waits in the last seconds does not get the token that died meanwhile."""
    rig = Rig(seconds=0)
    await rig.token()
    rig.source.seconds = 60
    await until(7200 - 2)
    token = await rig.token()
    assert token.value == Secret("T0KEN-2")


async def test_expired_token_is_renewed_before_anybody_goes_on():
    """Past the expiry callers wait for the fetch, however long it takes."""
    rig = Rig(seconds=0)
    await rig.token()
    rig.source.seconds = 20
    await until(7201)
    began = clock()
    assert (await rig.token()).value == Secret("T0KEN-2")
    assert clock() - began == pytest.approx(20)
    assert rig.emitted(TokenRefreshed)[1].reason == "expired"


async def test_expire_drops_the_token_and_the_next_caller_renews():
    """A token that the platform calls dead is not given again."""
    rig = Rig()
    token = await rig.token()
    assert rig.cache.invalidate(token, 42001) is True
    assert rig.cache.cached() is None
    assert (await rig.token()).value == Secret("T0KEN-2")
    assert rig.emitted(TokenRejected) == [TokenRejected(1, 42001)]
    assert rig.emitted(TokenRefreshed)[1].reason == "dead"


async def test_expire_does_nothing_when_the_cache_holds_another_token():
    """Late news about an old token does not drop the new one, nor is it told twice."""
    rig = Rig()
    old = await rig.token()
    rig.cache.invalidate(old, 42001)
    rig.cache.invalidate(old, 42001)
    new = await rig.token()
    rig.cache.invalidate(old, 42001)
    rig.cache.invalidate(Token(new.value, new.generation), 42001)
    assert rig.cache.cached() is new
    assert len(rig.emitted(TokenRejected)) == 1


async def test_token_called_dead_while_callers_wait_for_its_renewal_is_not_given_to_them(settle):
    """Callers in the mandatory window go on waiting when their token dies under them."""
    rig = Rig(seconds=0)
    token = await rig.token()
    rig.source.seconds = 20
    await until(7200 - 299)
    waiter = asyncio.create_task(rig.token())
    await settle()
    rig.cache.invalidate(token, 42001)
    assert (await waiter).value == Secret("T0KEN-2")


@pytest.mark.unmeasured
async def test_ten_thousand_waiters_make_one_fetch():
    """However many need the first token, it is fetched once."""
    rig = Rig()
    tokens = await asyncio.gather(*(rig.token() for _ in range(10_000)))
    assert len({id(token) for token in tokens}) == 1
    assert rig.fetches == 1


@pytest.mark.parametrize("cancelled", [1, 9, 10])
async def test_cancelled_waiters_poison_nothing(settle, cancelled):
    """One waiter cancelled, all but one, or all: the flight lands, and the token is there for the next."""
    rig = Rig()
    waiters = [asyncio.create_task(rig.token()) for _ in range(10)]
    await settle()
    for waiter in waiters[:cancelled]:
        waiter.cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * cancelled + [Token] * (10 - cancelled)
    await asyncio.sleep(1)
    assert rig.cache.cached().value == Secret("T0KEN-1")
    assert rig.fetches == 1


async def test_each_waiter_gets_an_exception_of_its_own():
    """A permanent failure reaches all who wait, each with an object to itself."""
    rig = Rig(lambda number: errcode(40125))
    results = await asyncio.gather(*(rig.token() for _ in range(10)), return_exceptions=True)
    assert {type(result) for result in results} == {InvalidAppSecret}
    assert len({id(result) for result in results}) == 10


async def test_flight_sees_no_context_of_the_caller():
    """The fetch runs in an empty context: no span, user or request of whoever came first."""
    rig = Rig()
    WHO.set("a caller")
    await rig.token()
    assert rig.source.who == "nobody"


async def test_aclose_ends_the_flight_with_session_closed(settle):
    """Waiters of a renewal under way get SessionClosed at once; later askers too, and nothing is left."""
    rig = Rig(seconds=20)
    waiters = [asyncio.create_task(rig.token()) for _ in range(3)]
    await settle()
    await rig.cache.aclose()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert isinstance(await catch(rig.token()), SessionClosed)
    assert clock() == 1000
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_aclose_ends_a_flight_that_has_not_begun():
    """Closed in the very moment of the launch, nobody waits for ever."""
    rig = Rig(seconds=20)
    waiter = asyncio.create_task(rig.token())
    await asyncio.sleep(0)
    await rig.cache.aclose()
    assert isinstance(await catch(waiter), SessionClosed)


async def test_aclose_is_harmless_when_no_token_was_ever_needed():
    """A cache that was not used closes."""
    await Rig().cache.aclose()


async def test_short_pauses_are_waited_out():
    """Without a token a caller sits out the pauses of 1, 2 and 4 s and asks again."""
    rig = Rig(lambda number: refused() if number <= 3 else 7200, seconds=0)
    assert (await rig.token()).value == Secret("T0KEN-4")
    assert [at - 1000 for at in rig.source.fetched_at] == pytest.approx([0, 1, 3, 7])


async def test_long_pause_gives_the_failure_at_once():
    """At a pause of more than 4 s the caller hears the failure, and in how many seconds to come again."""
    rig = Rig(lambda number: refused(), seconds=0)
    error = await catch(rig.token())
    assert isinstance(error, TransportError)
    assert error.retry_after == pytest.approx(8)
    await asyncio.sleep(3)
    again = await catch(rig.token())
    assert again.retry_after == pytest.approx(5)
    assert again is not error
    assert error.retry_after == pytest.approx(8)
    assert rig.fetches == 4


async def test_pauses_double_from_one_second_to_thirty():
    """After failures in a row: 1, 2, 4, 8, 16, 30, 30 s; a success begins anew."""
    rig = Rig(lambda number: refused() if number not in (8, 9) else 7200, seconds=0)
    while rig.fetches < 8:
        with contextlib.suppress(TransportError):
            await rig.token()
        await asyncio.sleep(1)
    assert [event.retry_after for event in rig.emitted(TokenRefreshFailed)] == [1, 2, 4, 8, 16, 30, 30]
    rig.cache.invalidate(await rig.token(), 42001)
    rig.cache.invalidate(await rig.token(), 42001)
    await catch(rig.token())
    assert rig.emitted(TokenRefreshFailed)[7].retry_after == 1


async def test_minute_limit_of_the_token_call_pauses_for_a_minute():
    """45011 from the token call is not asked again within the minute."""
    rig = Rig(lambda number: errcode(45011), seconds=0)
    error = await catch(rig.token())
    assert error.retry_after == 60
    assert rig.fetches == 1


async def test_permanent_failure_is_raised_at_once_and_not_waited_out():
    """A refusal that would come again reaches the caller without a pause."""
    rig = Rig(lambda number: errcode(61004), seconds=0)
    assert isinstance(await catch(rig.token()), IPNotAllowed)
    assert clock() == 1000


async def test_permanent_failure_is_asked_about_again_by_each_caller_without_a_token():
    """The source, which remembers it, decides; what changed there (a newer ticket) counts at once."""
    rig = Rig(lambda number: TicketError("no ticket") if number < 3 else 7200, seconds=0)
    await catch(rig.token())
    await catch(rig.token())
    assert (await rig.token()).value == Secret("T0KEN-3")
    assert clock() == 1000


async def test_permanent_failure_is_reported_once_per_pause():
    """Many callers that meet the same refusal make one event."""
    rig = Rig(lambda number: TicketError("no ticket"), seconds=0)
    for _ in range(20):
        await catch(rig.token())
    assert len(rig.emitted(TokenRefreshFailed)) == 1


async def test_living_token_keeps_permanent_failures_apart():
    """With a living token a refusal is asked about once in a pause, not by every caller."""
    rig = Rig(lambda number: 7200 if number == 1 else TicketError("no ticket"), seconds=0)
    token = await rig.token()
    await until(7200 - 299.5)
    for _ in range(50):
        assert await rig.token() is token
    assert rig.fetches == 2


@pytest.mark.parametrize("life", [0, -5, 0.5])
async def test_token_that_is_dead_on_arrival_is_a_failed_flight(life):
    """An expires_in that is not positive, or used up by the fetch itself, counts as a failure."""
    rig = Rig(life, seconds=1)
    error = await catch(rig.token())
    assert isinstance(error, BadReply)
    assert rig.cache.cached() is None
    assert rig.emitted(TokenRefreshFailed)


async def test_ceiling_stops_the_fetch_that_would_be_one_too_many():
    """Tokens that die at once are fetched as often as the ceiling says; then TokenFetchLimit, without a fetch."""
    rig = Rig(seconds=0, max_fetches_per_hour=5)
    for _ in range(5):
        rig.cache.invalidate(await rig.token(), 40001)
        await asyncio.sleep(60)
    error = await catch(rig.token())
    assert isinstance(error, TokenFetchLimit)
    assert error.retry_after == pytest.approx(3600 - 300)
    assert rig.fetches == 5
    await asyncio.sleep(3301)
    await rig.token()
    assert rig.fetches == 6


async def test_ceiling_stops_nobody_who_has_a_living_token():
    """Renewals are stopped in both windows; the calls go on."""
    rig = Rig(seconds=0, max_fetches_per_hour=1, answer=600)
    token = await rig.token()
    while clock() < 1000 + 598:
        assert await rig.token() is token
        await asyncio.sleep(1)
    assert rig.fetches == 1
    assert {type(event.error) for event in rig.emitted(TokenRefreshFailed)} == {TokenFetchLimit}


async def test_no_ceiling_when_none_is_wanted():
    """max_fetches_per_hour=None lets every fetch through."""
    rig = Rig(seconds=0, max_fetches_per_hour=None)
    for _ in range(100):
        rig.cache.invalidate(await rig.token(), 42001)
    assert rig.fetches == 100


async def test_ceiling_counts_successes_alone():
    """Failed fetches mint nothing."""
    rig = Rig(lambda number: refused() if number <= 3 else 7200, seconds=0, max_fetches_per_hour=1)
    assert (await rig.token()).value == Secret("T0KEN-4")


@pytest.mark.unmeasured
async def test_outage_of_the_token_call_makes_few_fetches_and_ends_soon():
    """120 s of refused connections under 100 callers a second: at most 12 fetches, over within 31 s after."""
    rig = Rig(lambda number: refused() if clock() < 1120 else 7200, seconds=0.01)
    recovered, pauses = [], []

    async def caller(at):
        await until(at)
        try:
            await rig.token()
        except TransportError as error:
            pauses.append(error.retry_after)
        else:
            recovered.append(clock())

    await asyncio.gather(*(caller(number / 100) for number in range(15_500)))
    assert len([at for at in rig.source.fetched_at if at < 1120]) <= 12
    assert min(pauses) > 4
    assert min(recovered) <= 1120 + 31
    assert len(recovered) > 300


async def test_outage_fails_nobody_who_has_a_living_token():
    """Through 120 s of outage in the last five minutes of a token, every caller goes on, within 5 s."""
    rig = Rig(lambda number: 7200 if number == 1 or clock() > 1000 + 7040 else refused(), seconds=0.01)
    await rig.token()
    await until(6920)
    began = clock()
    for _ in range(13_000):
        asked_at = clock()
        await rig.token()
        assert clock() - asked_at < 5
        await asyncio.sleep(0.01)
    assert clock() - began < 140
    assert rig.fetches <= 1 + 12 + 1
    assert rig.cache.cached().value == Secret(rig.source.values[-1])


async def test_second_session_adopts_the_token_of_the_first():
    """Two caches on one store: one fetch, and a renewal by either serves both."""
    store = MemoryStore(asyncio.get_running_loop().time)
    one, two = Rig(store=store), Rig(store=store, brand="OTHER")
    first = await one.token()
    assert (await two.token()).value == first.value
    assert two.fetches == 0
    two.cache.invalidate(await two.token(), 40001)
    renewed = await two.token()
    one.cache.invalidate(first, 40001)
    assert (await one.token()).value == renewed.value
    assert (one.fetches, two.fetches) == (1, 1)


async def test_adopted_token_keeps_its_age():
    """A token taken from the store is renewed when its own life nears its end, not later."""
    store = MemoryStore(asyncio.get_running_loop().time)
    one, two = Rig(store=store, seconds=0), Rig(store=store, seconds=0)
    await one.token()
    await until(3600)
    await two.token()
    assert two.cache._windows == one.cache._windows


async def test_token_in_the_store_is_not_adopted_when_it_is_over():
    """What is past its life in the store is replaced, by a later generation."""
    store = MemoryStore(asyncio.get_running_loop().time)
    await Rig(store=store).token()
    await until(7300)
    two = Rig(store=store)
    await two.token()
    assert two.fetches == 1
    assert (await SharedState(store, APPID).read()).state.token.generation == 2


@pytest.mark.unmeasured
@given(
    lives=st.lists(st.sampled_from([60, 600, 7200, refused, lambda: errcode(-1), lambda: errcode(40125)]), max_size=12),
    moves=st.lists(
        st.tuples(st.floats(0, 400), st.sampled_from(["call", "call", "dead", "cancel"])), min_size=1, max_size=40
    ),
    seconds=st.sampled_from([0, 0.5, 8]),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=150)
def test_renewals_keep_their_rules_in_every_history(virtual_run, lives, moves, seconds, seed):
    """Never two flights at once; no token is given that is expired, or known to be dead."""

    async def scenario():
        def answer(number):
            step = lives[number - 1] if number <= len(lives) else 7200
            return step() if callable(step) else step

        rig = Rig(answer, seconds, uniform=random.Random(seed).uniform, max_fetches_per_hour=None)
        dead, failures = set(), []

        async def call(*, kill):
            try:
                token = await rig.token()
            except WxtcbError as error:
                failures.append(error)
                return
            assert token.value.reveal() not in dead
            assert clock() < rig.cache._windows.expires_at
            if kill:
                dead.add(token.value.reveal())
                rig.cache.invalidate(token, 40001)

        tasks = []
        for wait, move in moves:
            await asyncio.sleep(wait)
            task = asyncio.create_task(call(kill=move == "dead"))
            tasks.append(task)
            if move == "cancel":
                asyncio.get_running_loop().call_soon(task.cancel)
            if (held := rig.cache.cached()) is not None:
                assert held.value.reveal() not in dead
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results
        assert all(not is_transient(error) or error.retry_after > 4 for error in failures)
        assert rig.source.most_open <= 1
        await rig.cache.aclose()

    virtual_run(scenario())


async def test_busy_token_call_is_transient():
    """-1 from the token call is paused and asked again like a lost connection."""
    rig = Rig(lambda number: errcode(-1) if number == 1 else 7200, seconds=0)
    await rig.token()
    assert isinstance(rig.emitted(TokenRefreshFailed)[0].error, PlatformBusy)
    assert clock() == pytest.approx(1001)
