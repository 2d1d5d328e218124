"""Tests of the token cache: refresh windows, single flight, backoff, and the hourly limit."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.executor import ActiveToken, RequestExecutor
from wxtcb.errors import (
    BadReply,
    InvalidAppSecret,
    IPNotAllowed,
    PermissionDenied,
    PlatformBusy,
    SessionClosed,
    TicketError,
    TokenFetchLimit,
    TransportError,
    WxtcbError,
)
from wxtcb.events import TokenRefreshed, TokenRefreshFailed, TokenRejected
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.cache import RefreshWindows, create_token_cache
from wxtcb.tokens.providers import ComponentToken, ExternalTokenProvider, is_transient
from wxtcb.tokens.refresh import RefreshedToken, TokenRefresher
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

from .token_harness import APPID, CALLER, CacheHarness, catch, clock, errcode, refused, until

pytestmark = pytest.mark.virtual_time


async def test_cached_is_none_before_the_first_token():
    """`cached` returns None without waiting if there is no token."""
    assert CacheHarness().cache.cached() is None


async def test_first_token_is_fetched_once_and_then_cached():
    """The first `get` fetches a token, and `cached` returns it from then on."""
    harness = CacheHarness()
    token = await harness.token()
    assert token.value == Secret("T0KEN-1")
    assert harness.cache.cached() is token
    assert harness.emitted(TokenRefreshed) == [TokenRefreshed(1, "first", 7199.5, 0.5)]


@pytest.mark.parametrize(
    ("life", "advisory", "mandatory"), [(7200, 900, 300), (14400, 900, 300), (3600, 450, 150), (240, 30, 10)]
)
def test_windows_shrink_with_a_short_ttl(life, advisory, mandatory):
    """The windows begin 15 and 5 minutes before the expiry of a two-hour token, and in proportion for a shorter ttl."""
    windows = RefreshWindows.compute(life, life, lambda low, high: low)
    assert (life - windows.advisory_at, life - windows.mandatory_at) == (advisory, mandatory)


@pytest.mark.parametrize(("life", "most"), [(7200, 60), (14400, 60), (1200, 10)])
def test_advisory_window_is_jittered(life, most):
    """The start of the advisory window has a jitter of up to 60 s."""
    assert life - RefreshWindows.compute(life, life, lambda low, high: high).advisory_at == pytest.approx(
        min(900, life / 8) + most
    )
    assert RefreshWindows.compute(life, life, lambda low, high: high).mandatory_at == life - min(300, life / 24)


async def test_ttl_is_counted_from_before_the_fetch():
    """A fetch that takes 100 s shortens the remaining time by 100 s."""
    harness = CacheHarness(life := 7200, seconds=100)
    await harness.token()
    assert harness.cache._windows.expires_at == 1000 + life


async def test_token_is_fresh_until_the_advisory_window():
    """No refresh starts until 15 minutes before the expiry."""
    harness = CacheHarness()
    token = await harness.token()
    await until(7200 - 901)
    assert harness.cache.cached() is token
    await until(7200 - 899)
    assert harness.cache.cached() is None
    assert harness.fetches == 1


async def test_advisory_window_refreshes_in_the_background():
    """In the advisory window many callers start one refresh and return the current token at once."""
    harness = CacheHarness()
    first = await harness.token()
    await until(7200 - 899)
    began = clock()
    assert {id(token) for token in await asyncio.gather(*(harness.token() for _ in range(100)))} == {id(first)}
    assert clock() == began
    await asyncio.sleep(1)
    assert harness.cache.cached().value == Secret("T0KEN-2")
    assert harness.fetches == 2
    assert harness.emitted(TokenRefreshed)[1].reason == "advisory"


async def test_advisory_failure_is_reported_and_fails_no_caller():
    """A failed refresh of a valid token is an event only; the next attempt follows after the backoff."""
    harness = CacheHarness(lambda number: 7200 if number == 1 else refused())
    token = await harness.token()
    await until(7200 - 899)
    for _ in range(20):
        assert await harness.token() is token
        await asyncio.sleep(1)
    assert [round(at - harness.source.fetched_at[1]) for at in harness.source.fetched_at[1:]] == [0, 2, 5, 10, 19]
    assert [event.retry_after for event in harness.emitted(TokenRefreshFailed)] == [1, 2, 4, 8, 16]
    assert harness.emitted(TokenRefreshFailed)[0].reason == "advisory"


async def test_mandatory_window_makes_callers_wait_for_one_refresh():
    """In the last five minutes callers wait for the refresh and get the new token."""
    harness = CacheHarness()
    await harness.token()
    await until(7200 - 299)
    tokens = await asyncio.gather(*(harness.token() for _ in range(100)))
    assert {token.value.reveal() for token in tokens} == {"T0KEN-2"}
    assert harness.fetches == 2
    assert harness.emitted(TokenRefreshed)[1].reason == "mandatory"


async def test_mandatory_wait_is_limited_to_five_seconds():
    """Callers wait at most 5 s from the start of a hanging refresh, then use the current token."""
    harness = CacheHarness(seconds=0)
    token = await harness.token()
    harness.source.seconds = 60
    await until(7200 - 299)
    began = clock()
    early = asyncio.create_task(harness.token())
    await asyncio.sleep(3)
    assert await harness.token() is token
    assert await early is token
    assert clock() - began == pytest.approx(5)
    assert await harness.token() is token
    assert clock() - began == pytest.approx(5)


async def test_mandatory_failure_fails_no_caller():
    """If the refresh fails, the callers that waited for it use the current token."""
    harness = CacheHarness(lambda number: 7200 if number == 1 else errcode(40125))
    token = await harness.token()
    await until(7200 - 299)
    assert set(await asyncio.gather(*(harness.token() for _ in range(10)))) == {token}
    assert await harness.token() is token
    assert harness.fetches == 2


async def test_token_that_expires_during_the_wait_is_not_returned():
    """A caller that waits in the last seconds does not get the token that expired meanwhile."""
    harness = CacheHarness(seconds=0)
    await harness.token()
    harness.source.seconds = 60
    await until(7200 - 2)
    token = await harness.token()
    assert token.value == Secret("T0KEN-2")


async def test_expired_token_makes_callers_wait_for_the_fetch():
    """After the expiry callers wait for the fetch, however long it takes."""
    harness = CacheHarness(seconds=0)
    await harness.token()
    harness.source.seconds = 20
    await until(7201)
    began = clock()
    assert (await harness.token()).value == Secret("T0KEN-2")
    assert clock() - began == pytest.approx(20)
    assert harness.emitted(TokenRefreshed)[1].reason == "expired"


async def test_invalidated_token_is_dropped_and_replaced():
    """A token that the platform rejected is not returned again."""
    harness = CacheHarness()
    token = await harness.token()
    assert harness.cache.invalidate(token, 42001) is True
    assert harness.cache.cached() is None
    assert (await harness.token()).value == Secret("T0KEN-2")
    assert harness.emitted(TokenRejected) == [TokenRejected(1, 42001)]
    assert harness.emitted(TokenRefreshed)[1].reason == "rejected"


async def test_invalidate_ignores_an_older_token():
    """A late rejection of an old token neither drops the new one nor emits an event."""
    harness = CacheHarness()
    old = await harness.token()
    harness.cache.invalidate(old, 42001)
    harness.cache.invalidate(old, 42001)
    new = await harness.token()
    harness.cache.invalidate(old, 42001)
    harness.cache.invalidate(ActiveToken(new.value, new.generation), 42001)
    assert harness.cache.cached() is new
    assert len(harness.emitted(TokenRejected)) == 1


async def test_token_rejected_during_the_wait_is_not_returned(settle):
    """Callers in the mandatory window go on waiting if their token is rejected meanwhile."""
    harness = CacheHarness(seconds=0)
    token = await harness.token()
    harness.source.seconds = 20
    await until(7200 - 299)
    waiter = asyncio.create_task(harness.token())
    await settle()
    harness.cache.invalidate(token, 42001)
    assert (await waiter).value == Secret("T0KEN-2")


async def test_waiters_are_counted():
    """`waiters` is the number of calls that are waiting for a token."""
    harness = CacheHarness()
    waiters = [asyncio.create_task(harness.token()) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert harness.cache.waiters == 3
    await asyncio.gather(*waiters)
    assert harness.cache.waiters == 0


@pytest.mark.unmeasured
async def test_ten_thousand_waiters_make_one_fetch():
    """Ten thousand callers that need the first token make one fetch."""
    harness = CacheHarness()
    tokens = await asyncio.gather(*(harness.token() for _ in range(10_000)))
    assert len({id(token) for token in tokens}) == 1
    assert harness.fetches == 1


@pytest.mark.parametrize("cancelled", [1, 9, 10])
async def test_cancelled_waiters_do_not_cancel_the_refresh(settle, cancelled):
    """If one, all but one, or all waiters are cancelled, the refresh completes and the next caller has its token."""
    harness = CacheHarness()
    waiters = [asyncio.create_task(harness.token()) for _ in range(10)]
    await settle()
    for waiter in waiters[:cancelled]:
        waiter.cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * cancelled + [ActiveToken] * (
        10 - cancelled
    )
    await asyncio.sleep(1)
    assert harness.cache.cached().value == Secret("T0KEN-1")
    assert harness.fetches == 1


async def test_each_waiter_gets_its_own_exception():
    """A permanent failure reaches all waiters, each with a separate exception object."""
    harness = CacheHarness(lambda number: errcode(40125))
    results = await asyncio.gather(*(harness.token() for _ in range(10)), return_exceptions=True)
    assert {type(result) for result in results} == {InvalidAppSecret}
    assert len({id(result) for result in results}) == 10


async def test_refresh_runs_in_an_empty_context():
    """The fetch sees no context variable of the caller that started it."""
    harness = CacheHarness()
    CALLER.set("a caller")
    await harness.token()
    assert harness.source.who == "no caller"


async def test_aclose_ends_a_refresh_with_session_closed(settle):
    """Waiters of a refresh under way get SessionClosed at once, as do later callers."""
    harness = CacheHarness(seconds=20)
    waiters = [asyncio.create_task(harness.token()) for _ in range(3)]
    await settle()
    await harness.cache.aclose()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert isinstance(await catch(harness.token()), SessionClosed)
    assert clock() == 1000
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_aclose_ends_a_refresh_that_has_not_started():
    """A cache that is closed right after a refresh was scheduled leaves no waiter behind."""
    harness = CacheHarness(seconds=20)
    waiter = asyncio.create_task(harness.token())
    await asyncio.sleep(0)
    await harness.cache.aclose()
    assert isinstance(await catch(waiter), SessionClosed)


async def test_unused_cache_can_be_closed():
    """A cache that was never used closes."""
    await CacheHarness().cache.aclose()


async def test_short_backoffs_are_waited_out():
    """Without a token a caller waits for the backoffs of 1, 2 and 4 s and tries again."""
    harness = CacheHarness(lambda number: refused() if number <= 3 else 7200, seconds=0)
    assert (await harness.token()).value == Secret("T0KEN-4")
    assert [at - 1000 for at in harness.source.fetched_at] == pytest.approx([0, 1, 3, 7])


async def test_long_backoff_raises_the_failure_at_once():
    """During a backoff of more than 4 s a caller gets the failure at once, with `retry_after`."""
    harness = CacheHarness(lambda number: refused(), seconds=0)
    error = await catch(harness.token())
    assert isinstance(error, TransportError)
    assert error.retry_after == pytest.approx(8)
    await asyncio.sleep(3)
    again = await catch(harness.token())
    assert again.retry_after == pytest.approx(5)
    assert again is not error
    assert error.retry_after == pytest.approx(8)
    assert harness.fetches == 4


async def test_peek_that_outlasts_its_interval_is_shared(monkeypatch, settle):
    """Callers in a long backoff wait for the running peek of the store, and `aclose` ends it."""
    harness = CacheHarness(lambda number: refused(), seconds=0)
    await catch(harness.token())
    started = []

    async def slow_peek(_self, _request):
        started.append(clock())
        await asyncio.sleep(5)

    monkeypatch.setattr(TokenRefresher, "peek", slow_peek)
    callers = []
    for _ in range(2):
        await asyncio.sleep(1.5)
        callers.append(asyncio.create_task(catch(harness.token())))
        await settle()
    await harness.cache.aclose()
    assert len(started) == 1
    assert {type(await caller) for caller in callers} == {SessionClosed}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(("peeked", "is_rejected"), [("0LD", False), ("T0KEN-5", True)], ids=["older", "rejected"])
async def test_late_peek_brings_back_no_older_or_rejected_token(monkeypatch, peeked, is_rejected):
    """The result of a peek that began before a refresh is dropped if it is older than the new token, or rejected."""
    harness = CacheHarness(lambda number: refused() if number <= 4 else 7200, seconds=0)
    await catch(harness.token())

    async def late_peek(_self, _request):
        await asyncio.sleep(9)
        return RefreshedToken(Secret(peeked), 1, 7200, clock(), "other:1", "first")

    monkeypatch.setattr(TokenRefresher, "peek", late_peek)
    await asyncio.sleep(1)
    caller = asyncio.create_task(harness.cache.get())
    await asyncio.sleep(8)
    token = await harness.token()
    if is_rejected:
        harness.cache.invalidate(token, 42001)
    assert (await caller).value == Secret("T0KEN-6" if is_rejected else "T0KEN-5")


async def test_store_and_ticket_source_that_are_false_are_used(wechat):
    """A store or callable with a length of 0 is not replaced by the default."""

    class EmptyStore(MemoryStore):
        def __len__(self):
            return 0

    class EmptySource:
        def __len__(self):
            return 0

        async def __call__(self):
            return "ticket@@@one"

    time = asyncio.get_running_loop().time
    store, source = EmptyStore(time), EmptySource()
    cache = create_token_cache(
        RequestExecutor(wechat, RequestLimiter(10, time), time),
        HookDispatcher(),
        component_appid=APPID,
        component_appsecret=Secret("S3CRET"),
        ticket=source,
        token_source=None,
        store=store,
        ticket_timeout=None,
        timeout=35.0,
        max_fetches_per_hour=30,
    )
    assert (await cache.get()).value == Secret("T0KEN-1")
    assert (await StateRepository(store, APPID).read()).state.token.value == Secret("T0KEN-1")
    await cache.aclose()


async def test_backoff_doubles_from_one_second_to_thirty():
    """Failures in a row back off 1, 2, 4, 8, 16, 30 and 30 s; a success resets it."""
    harness = CacheHarness(lambda number: refused() if number not in (8, 9) else 7200, seconds=0)
    while harness.fetches < 8:
        with contextlib.suppress(TransportError):
            await harness.token()
        await asyncio.sleep(1)
    assert [event.retry_after for event in harness.emitted(TokenRefreshFailed)] == [1, 2, 4, 8, 16, 30, 30]
    harness.cache.invalidate(await harness.token(), 42001)
    harness.cache.invalidate(await harness.token(), 42001)
    await catch(harness.token())
    assert harness.emitted(TokenRefreshFailed)[7].retry_after == 1


async def test_rate_limit_of_the_token_call_backs_off_for_a_minute():
    """After 45011 the token call is not repeated for a minute."""
    harness = CacheHarness(lambda number: errcode(45011), seconds=0)
    error = await catch(harness.token())
    assert error.retry_after == 60
    assert harness.fetches == 1


async def test_unauthorized_token_call_is_repeated_after_a_second():
    """WeChat has answered 48001 to a platform that had the permission; calls wait, and go on when it ends."""
    harness = CacheHarness(lambda number: errcode(48001) if number < 4 else 7200, seconds=0)
    token = await harness.token()
    assert token.value == Secret("T0KEN-4")
    assert clock() == 1000 + 1 + 2 + 4
    assert {type(event.error) for event in harness.emitted(TokenRefreshFailed)} == {PermissionDenied}


async def test_permanent_failure_is_raised_at_once():
    """A permanent failure reaches the caller without a backoff."""
    harness = CacheHarness(lambda number: errcode(61004), seconds=0)
    assert isinstance(await catch(harness.token()), IPNotAllowed)
    assert clock() == 1000


async def test_callers_without_a_token_retry_a_permanent_failure():
    """Each caller asks the provider again, so that a newer ticket takes effect at once."""
    harness = CacheHarness(lambda number: TicketError("no ticket") if number < 3 else 7200, seconds=0)
    await catch(harness.token())
    await catch(harness.token())
    assert (await harness.token()).value == Secret("T0KEN-3")
    assert clock() == 1000


async def test_permanent_failure_is_reported_once_per_backoff():
    """Many callers that meet the same rejection emit one event."""
    harness = CacheHarness(lambda number: TicketError("no ticket"), seconds=0)
    for _ in range(20):
        await catch(harness.token())
    assert len(harness.emitted(TokenRefreshFailed)) == 1


async def test_permanent_failures_of_a_valid_token_back_off():
    """While the token is valid, a permanent failure is retried once per backoff and not by every caller."""
    harness = CacheHarness(lambda number: 7200 if number == 1 else TicketError("no ticket"), seconds=0)
    token = await harness.token()
    await until(7200 - 299.5)
    for _ in range(50):
        assert await harness.token() is token
    assert harness.fetches == 2


@pytest.mark.parametrize("life", [0, -5, 0.5])
async def test_token_that_is_expired_on_arrival_is_a_failure(life):
    """An expires_in that is not positive, or shorter than the fetch itself, is a failed refresh."""
    harness = CacheHarness(life, seconds=1)
    error = await catch(harness.token())
    assert isinstance(error, BadReply)
    assert harness.cache.cached() is None
    assert harness.emitted(TokenRefreshFailed)


async def test_hourly_limit_stops_the_next_fetch():
    """Tokens that are rejected at once are fetched up to the limit; then TokenFetchLimit is raised without a fetch."""
    harness = CacheHarness(seconds=0, max_fetches_per_hour=5)
    for _ in range(5):
        harness.cache.invalidate(await harness.token(), 40001)
        await asyncio.sleep(60)
    error = await catch(harness.token())
    assert isinstance(error, TokenFetchLimit)
    assert error.retry_after == pytest.approx(3600 - 300)
    assert harness.fetches == 5
    await asyncio.sleep(3301)
    await harness.token()
    assert harness.fetches == 6


async def test_hourly_limit_does_not_stop_calls_with_a_valid_token():
    """Refreshes are stopped in both windows, and calls go on."""
    harness = CacheHarness(seconds=0, max_fetches_per_hour=1, answer=600)
    token = await harness.token()
    while clock() < 1000 + 598:
        assert await harness.token() is token
        await asyncio.sleep(1)
    assert harness.fetches == 1
    assert {type(event.error) for event in harness.emitted(TokenRefreshFailed)} == {TokenFetchLimit}


async def test_hourly_limit_can_be_switched_off():
    """With max_fetches_per_hour=None every fetch is allowed."""
    harness = CacheHarness(seconds=0, max_fetches_per_hour=None)
    for _ in range(100):
        harness.cache.invalidate(await harness.token(), 42001)
    assert harness.fetches == 100


async def test_hourly_limit_counts_successful_fetches_only():
    """Failed fetches do not count."""
    harness = CacheHarness(lambda number: refused() if number <= 3 else 7200, seconds=0, max_fetches_per_hour=1)
    assert (await harness.token()).value == Secret("T0KEN-4")


@pytest.mark.unmeasured
async def test_outage_makes_few_fetches_and_recovers_soon():
    """An outage of 120 s under 100 callers a second makes at most 12 fetches, and ends within 31 s after it."""
    harness = CacheHarness(lambda number: refused() if clock() < 1120 else 7200, seconds=0.01)
    recovered, pauses = [], []

    async def caller(at):
        await until(at)
        try:
            await harness.token()
        except TransportError as error:
            pauses.append(error.retry_after)
        else:
            recovered.append(clock())

    await asyncio.gather(*(caller(number / 100) for number in range(15_500)))
    assert len([at for at in harness.source.fetched_at if at < 1120]) <= 12
    assert min(pauses) > 4
    assert min(recovered) <= 1120 + 31
    assert len(recovered) > 300


async def test_outage_fails_no_caller_with_a_valid_token():
    """During an outage of 120 s in the mandatory window every caller goes on within 5 s."""
    harness = CacheHarness(lambda number: 7200 if number == 1 or clock() > 1000 + 7040 else refused(), seconds=0.01)
    await harness.token()
    await until(6920)
    began = clock()
    for _ in range(13_000):
        asked_at = clock()
        await harness.token()
        assert clock() - asked_at < 5
        await asyncio.sleep(0.01)
    assert clock() - began < 140
    assert harness.fetches <= 1 + 12 + 1
    assert harness.cache.cached().value == Secret(harness.source.values[-1])


async def test_second_session_uses_the_token_of_the_first():
    """Two caches on one store make one fetch, and a refresh by either serves both."""
    store = MemoryStore(asyncio.get_running_loop().time)
    one, two = CacheHarness(store=store), CacheHarness(store=store, brand="OTHER")
    first = await one.token()
    assert (await two.token()).value == first.value
    assert two.fetches == 0
    two.cache.invalidate(await two.token(), 40001)
    renewed = await two.token()
    one.cache.invalidate(first, 40001)
    assert (await one.token()).value == renewed.value
    assert (one.fetches, two.fetches) == (1, 1)


async def test_token_from_the_store_keeps_its_age():
    """A token from the store is refreshed when its own ttl ends."""
    store = MemoryStore(asyncio.get_running_loop().time)
    one, two = CacheHarness(store=store, seconds=0), CacheHarness(store=store, seconds=0)
    await one.token()
    await until(3600)
    await two.token()
    assert two.cache._windows == one.cache._windows


async def test_expired_token_in_the_store_is_replaced():
    """An expired token in the store is replaced by one of a later generation."""
    store = MemoryStore(asyncio.get_running_loop().time)
    await CacheHarness(store=store).token()
    await until(7300)
    two = CacheHarness(store=store)
    await two.token()
    assert two.fetches == 1
    assert (await StateRepository(store, APPID).read()).state.token.generation == 2


@pytest.mark.unmeasured
@given(
    lives=st.lists(st.sampled_from([60, 600, 7200, refused, lambda: errcode(-1), lambda: errcode(40125)]), max_size=12),
    moves=st.lists(
        st.tuples(st.floats(0, 400), st.sampled_from(["call", "call", "rejected", "cancel"])), min_size=1, max_size=40
    ),
    seconds=st.sampled_from([0, 0.5, 8]),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=150)
def test_invariants_hold_in_every_history(virtual_run, lives, moves, seconds, seed):
    """Two refreshes never overlap, and no expired or rejected token is returned."""

    async def scenario():
        def answer(number):
            step = lives[number - 1] if number <= len(lives) else 7200
            return step() if callable(step) else step

        harness = CacheHarness(answer, seconds, uniform=random.Random(seed).uniform, max_fetches_per_hour=None)
        rejected, failures = set(), []

        async def call(*, reject):
            try:
                token = await harness.token()
            except WxtcbError as error:
                failures.append(error)
                return
            assert token.value.reveal() not in rejected
            assert clock() < harness.cache._windows.expires_at
            if reject:
                rejected.add(token.value.reveal())
                harness.cache.invalidate(token, 40001)

        tasks = []
        for wait, move in moves:
            await asyncio.sleep(wait)
            task = asyncio.create_task(call(reject=move == "rejected"))
            tasks.append(task)
            if move == "cancel":
                asyncio.get_running_loop().call_soon(task.cancel)
            if (held := harness.cache.cached()) is not None:
                assert held.value.reveal() not in rejected
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results
        assert all(not is_transient(error) or error.retry_after > 4 for error in failures)
        assert harness.source.most_open <= 1
        await harness.cache.aclose()

    virtual_run(scenario())


async def test_busy_token_call_is_transient():
    """-1 from the token call backs off and is retried like a lost connection."""
    harness = CacheHarness(lambda number: errcode(-1) if number == 1 else 7200, seconds=0)
    await harness.token()
    assert isinstance(harness.emitted(TokenRefreshFailed)[0].error, PlatformBusy)
    assert clock() == pytest.approx(1001)


async def test_source_may_return_the_same_token_every_minute():
    """A service that gives no lifetime is asked again before a minute is over, and at once after a rejection."""
    current, asked_at = ["T0KEN-1"], []

    async def source():
        asked_at.append(clock())
        return ComponentToken(Secret(current[0]), 60)

    harness = CacheHarness(provider=ExternalTokenProvider(source))
    for _ in range(600):
        token = await harness.token()
        assert token.value == Secret("T0KEN-1")
        await asyncio.sleep(1)
    assert len(asked_at) == 12
    current[0] = "T0KEN-2"
    harness.cache.invalidate(await harness.token(), 40001)
    assert (await harness.token()).value == Secret("T0KEN-2")
    assert clock() == 1600
