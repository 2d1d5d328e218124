"""Request executor: what is resent, when and how often, and what the caller gets."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from types import SimpleNamespace

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http import executor
from wxtcb._http.executor import ActiveToken, RequestExecutor, StaticToken
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Response, ResponseTooLarge, SendCancelled, SendFailure
from wxtcb._protocol.codec import LARGE_REPLY_BYTES, encode_body, raw
from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat
from wxtcb.errors import (
    ApiError,
    BadReply,
    CloudError,
    CloudUnavailable,
    InvalidToken,
    OutcomeUnknown,
    PlatformBusy,
    SendVetoed,
    SessionClosed,
    TicketError,
    TransportError,
    WxtcbError,
)
from wxtcb.events import (
    Abandoned,
    CallFinished,
    CallStarted,
    EndpointRateLimited,
    PossibleDuplicate,
    RetryScheduled,
)
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher

pytestmark = pytest.mark.virtual_time

PATH = "/tcb/x"
NOT_SENT = SendFailure("no connection", sent=False)
LOST = SendFailure("the connection was lost", sent=True)
TIMEOUT = SendFailure("no reply in time", sent=True, timeout=True)
PAGE = Response(502, b"<h1>bad gateway</h1>")
REDIRECT = Response(307, b"")
NOISE = Response(200, b"noise")
ODD = Response(200, b'{"errcode": "x"}')
HUGE = ResponseTooLarge(200)
FORBIDDEN = Response(403, b"no")
INVALID_TOKEN_CODES = [40001, 40014, 40094, 42001, 42006]
ALL = list(Repeat)


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


@attrs.define(eq=False)
class FakeCredentials:
    """Credentials with a new token after each `invalidate`; fetching one takes `seconds`."""

    seconds: float = 0.0
    error: WxtcbError | None = None
    given: int = 1
    token: ActiveToken | None = attrs.field(factory=lambda: ActiveToken(Secret("T0KEN-1"), 1))
    rejected: list = attrs.field(factory=list)

    def cached(self):
        return self.token

    async def get(self):
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        if self.token is None:
            self.given += 1
            self.token = ActiveToken(Secret(f"T0KEN-{self.given}"), self.given)
        return self.token

    def invalidate(self, token, errcode, /):
        self.rejected.append((token.generation, errcode))
        if token is self.token:
            self.token = None
        return True


def no_jitter(low, high):
    """Return the upper bound in place of a random number."""
    return high


@attrs.define(eq=False, slots=False)
class Harness:
    """Executor on a scripted platform, with the events that it emits."""

    platform: object
    tokens: FakeCredentials = attrs.field(factory=FakeCredentials)
    events: list = attrs.field(factory=list)
    slots: int = 3
    uniform: object = no_jitter
    hooks: tuple = ()

    def __attrs_post_init__(self):
        time = asyncio.get_running_loop().time
        self.limiter = RequestLimiter(self.slots, time, time)
        self.dispatcher = HookDispatcher((*self.hooks, self.events.append))
        self.executor = RequestExecutor(self.platform, self.limiter, time, uniform=self.uniform)

    async def call(
        self,
        repeat,
        *steps,
        policy=None,
        credentials=None,
        needs=Credential.COMPONENT,
        path=PATH,
        may_send=None,
        **more,
    ):
        self.platform.play(path, *steps)
        endpoint = Endpoint(path, Done, repeat, needs, **more)
        body = encode_body({"a": Secret("S3CRET-in-body")}, endpoint=path)
        return await self.executor.execute(
            endpoint,
            body,
            retry_policy=policy or RetryPolicy(),
            credentials=credentials or self.tokens,
            dispatcher=self.dispatcher,
            may_send=may_send,
        )

    @property
    def sends(self):
        return len(self.platform.requests)

    def emitted(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def all_slots_are_back(self):
        return [self.limiter.try_acquire("/free") for _ in range(self.slots + 1)] == [True] * self.slots + [False]


@pytest.fixture
async def harness(wechat):
    """Return a harness with three slots."""
    return Harness(wechat)


async def test_call_sends_one_request_and_returns_the_reply(harness):
    """A successful call sends one request with the token and returns a typed reply."""
    assert await harness.call(Repeat.ONCE) == Done()
    (request,) = harness.platform.requests
    assert request.token == Secret("T0KEN-1")
    assert harness.tokens.token.accepted
    assert harness.all_slots_are_back()


async def test_endpoint_without_credential_gets_no_token(harness):
    """Such a call sends no token, and 40001 means the app secret, so nothing is refreshed."""
    with pytest.raises(ApiError) as caught:
        await harness.call(Repeat.SET, 40001, needs=Credential.NONE)
    assert not isinstance(caught.value, InvalidToken)
    assert await harness.call(Repeat.SET, needs=Credential.NONE) == Done()
    assert [request.token for request in harness.platform.requests] == [None, None]


@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
@pytest.mark.parametrize("repeat", ALL)
async def test_call_with_a_programming_error_is_not_retried(harness, repeat, sent):
    """It ends at once; after the request was sent, the outcome of a call that adds something is unknown."""
    reason = "code that aiohttp called raised KeyError; fix the code (traces.py, line 3)"
    with pytest.raises(WxtcbError, match=r"KeyError; fix the code \(traces.py, line 3\)") as caught:
        await harness.call(repeat, SendFailure(reason, sent=sent, permanent=True))
    is_unknown = sent and repeat.is_unsafe_to_repeat
    assert type(caught.value) is (OutcomeUnknown if is_unknown else TransportError)
    error = caught.value.cause if is_unknown else caught.value
    assert (error.sent, error.permanent) == (sent, True)
    assert caught.value.maybe_acted == (sent and repeat is not Repeat.READ)
    assert (harness.sends, harness.emitted(RetryScheduled)) == (1, [])


@pytest.mark.parametrize("repeat", ALL)
async def test_call_that_never_connected_is_retried(harness, repeat):
    """No request was sent, so every kind of call is retried."""
    reply = await harness.call(repeat, NOT_SENT, NOT_SENT)
    assert reply.maybe_acted == 0
    assert harness.sends == 3


@pytest.mark.parametrize("errcode", INVALID_TOKEN_CODES)
@pytest.mark.parametrize("repeat", ALL)
async def test_call_is_resent_with_a_newer_token_after_an_invalid_one(harness, repeat, errcode):
    """The resend happens at once and does not count as an attempt."""
    began = clock()
    await harness.call(repeat, errcode, policy=RetryPolicy(attempts=1, once_attempts=1))
    assert [request.token.reveal() for request in harness.platform.requests] == ["T0KEN-1", "T0KEN-2"]
    assert harness.tokens.rejected == [(1, errcode)]
    assert clock() == began
    assert harness.emitted(RetryScheduled) == []


@pytest.mark.parametrize("repeat", [each for each in ALL if each is not Repeat.NEVER])
async def test_call_is_retried_when_the_platform_is_busy(harness, repeat):
    """After -1 the platform asks for a retry, even of a create."""
    await harness.call(repeat, -1)
    assert harness.sends == 2


async def test_call_with_repeat_never_is_not_retried_when_the_platform_is_busy(harness):
    """It is sent once, and -1 leaves its outcome unknown."""
    with pytest.raises(OutcomeUnknown) as caught:
        await harness.call(Repeat.NEVER, -1)
    assert (harness.sends, caught.value.maybe_acted) == (1, 1)


@pytest.mark.parametrize("step", [-1000, -501001, LOST, TIMEOUT, PAGE, NOISE, ODD])
@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_repeatable_call_is_retried_after_an_unusable_reply(harness, repeat, step):
    """READ and SET calls are retried after lost, late, transient and unreadable replies."""
    await harness.call(repeat, step)
    assert harness.sends == 2


@pytest.mark.parametrize("step", [-1000, -501001, LOST, TIMEOUT, PAGE, NOISE, ODD, REDIRECT, HUGE])
async def test_create_that_may_have_taken_effect_is_not_retried(harness, step):
    """It raises OutcomeUnknown with the error as its cause."""
    with pytest.raises(OutcomeUnknown) as caught:
        await harness.call(Repeat.ONCE, step)
    assert harness.sends == 1
    assert isinstance(caught.value.cause, TransportError | BadReply | CloudUnavailable)
    assert caught.value.maybe_acted == 1
    assert caught.value.endpoint == PATH
    assert harness.all_slots_are_back()


@pytest.mark.parametrize("step", [REDIRECT, HUGE])
@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_permanently_unusable_reply_is_not_retried(harness, repeat, step):
    """A redirect and a reply that is too large raise BadReply after one send."""
    with pytest.raises(BadReply):
        await harness.call(repeat, step)
    assert harness.sends == 1


@pytest.mark.parametrize("repeat", ALL)
async def test_http_4xx_is_not_retried_and_had_no_effect(harness, repeat):
    """A 4xx page raises BadReply for every kind of call."""
    with pytest.raises(BadReply) as caught:
        await harness.call(repeat, FORBIDDEN)
    assert (harness.sends, caught.value.maybe_acted) == (1, 0)


@pytest.mark.parametrize("errcode", [45009, 45040, 61004, 40164, 61005, 61006, 40125, 85088, 48001, 40097, 41021])
@pytest.mark.parametrize("repeat", ALL)
async def test_rejection_is_not_retried_and_had_no_effect(harness, repeat, errcode):
    """A permanent errcode raises its error after one send and shows that the token was accepted."""
    with pytest.raises(ApiError) as caught:
        await harness.call(repeat, errcode)
    assert (caught.value.errcode, caught.value.maybe_acted, harness.sends) == (errcode, 0, 1)
    assert harness.tokens.token.accepted
    assert harness.all_slots_are_back()


@pytest.mark.parametrize("errcode", [12345, -999999, -504002])
@pytest.mark.parametrize(("repeat", "acted"), [(Repeat.READ, 0), (Repeat.SET, 1), (Repeat.ONCE, 1), (Repeat.NEVER, 1)])
async def test_errcode_that_may_follow_an_effect_is_counted(harness, repeat, acted, errcode):
    """An unknown code, or a failure of an invoked function, is raised after one send, which may have taken effect."""
    with pytest.raises(ApiError) as caught:
        await harness.call(repeat, errcode)
    assert (caught.value.errcode, caught.value.maybe_acted, harness.sends) == (errcode, acted, 1)


async def test_busy_create_is_not_retried_with_busy_creates_false(harness):
    """It raises OutcomeUnknown, while a read is still retried."""
    policy = RetryPolicy(busy_creates=False)
    with pytest.raises(OutcomeUnknown) as caught:
        await harness.call(Repeat.ONCE, -1, policy=policy)
    assert isinstance(caught.value.cause, PlatformBusy)
    assert harness.sends == 1
    await harness.call(Repeat.READ, -1, policy=policy)
    assert harness.sends == 3


@pytest.mark.parametrize(("repeat", "most"), [(Repeat.READ, 8), (Repeat.SET, 8), (Repeat.ONCE, 5)])
async def test_last_error_is_raised_when_the_attempts_are_used_up(harness, repeat, most):
    """A call gets 8 attempts, a create 5; the last error carries notes about the attempts."""
    with pytest.raises(PlatformBusy) as caught:
        await harness.call(repeat, *[-1] * 20)
    assert harness.sends == most
    assert caught.value.__notes__[0].startswith(f"tried {most} times; ")
    assert caught.value.maybe_acted == (0 if repeat is Repeat.READ else most)
    assert harness.all_slots_are_back()


async def test_notes_contain_attempts_and_seconds(harness):
    """The first note counts the attempts and the seconds spent in them and in backoffs."""
    with pytest.raises(PlatformBusy) as caught:
        await harness.call(Repeat.ONCE, *[harness.platform.after(1, -1)] * 5)
    assert caught.value.__notes__ == [
        "tried 5 times; attempts and backoffs took 12.5 s",
        "5 of 5 attempts may have taken effect; check whether the call took effect before retrying",
    ]


async def test_note_of_a_repeatable_call_advises_no_check(harness):
    """A delete that is rejected after a lost reply mentions the possible effect, but advises no check."""
    with pytest.raises(CloudError, match="It had no effect") as caught:
        await harness.call(Repeat.SET, LOST, -502005)
    assert caught.value.__notes__[1:] == ["1 of 2 attempts may have taken effect"]


async def test_note_of_a_single_attempt_counts_it(harness):
    """A create that is lost at the first attempt says that this attempt may have taken effect."""
    with pytest.raises(OutcomeUnknown) as caught:
        await harness.call(Repeat.ONCE, LOST)
    assert caught.value.__notes__ == [
        "1 of 1 attempts may have taken effect; check whether the call took effect before retrying"
    ]


async def test_error_after_one_attempt_has_no_notes(harness):
    """Notes are added only if there were several attempts or a possible effect."""
    with pytest.raises(ApiError) as caught:
        await harness.call(Repeat.READ, 40097)
    assert not hasattr(caught.value, "__notes__")


async def test_last_error_counts_earlier_possible_effects(harness):
    """A create that met -1 and then fails without effect still reports maybe_acted."""
    with pytest.raises(ApiError) as caught:
        await harness.call(Repeat.ONCE, -1, NOT_SENT, 40097)
    assert caught.value.errcode == 40097
    assert caught.value.maybe_acted == 1
    with pytest.raises(OutcomeUnknown) as unknown:
        await harness.call(Repeat.ONCE, -1, LOST)
    assert unknown.value.maybe_acted == 2


async def test_success_of_a_create_after_busy_reports_possible_duplicates(harness):
    """The reply and an event count the earlier attempts that may have taken effect."""
    reply = await harness.call(Repeat.ONCE, -1, NOT_SENT, -1)
    assert reply.maybe_acted == 2
    assert harness.emitted(PossibleDuplicate) == [PossibleDuplicate(PATH, 2)]


@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_success_of_a_repeatable_call_after_busy_reports_nothing(harness, repeat):
    """Earlier attempts matter only for creates."""
    reply = await harness.call(repeat, -1, LOST)
    assert reply.maybe_acted == 0
    assert harness.emitted(PossibleDuplicate) == []


async def test_backoff_doubles_from_half_a_second_to_eight(harness):
    """Without jitter the delays are 0.5, 1, 2, 4, 8, 8, 8 seconds."""
    with pytest.raises(PlatformBusy):
        await harness.call(Repeat.READ, *[-1] * 8)
    times = harness.platform.sent_at(PATH)
    assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx([0.5, 1, 2, 4, 8, 8, 8])


async def test_backoff_has_full_jitter(wechat):
    """Each delay is drawn between 0 and its upper bound."""
    drawn = []

    def uniform(low, high):
        drawn.append((low, high))
        return 0.0

    harness = Harness(wechat, uniform=uniform)
    began = clock()
    with pytest.raises(PlatformBusy):
        await harness.call(Repeat.ONCE, *[-1] * 5)
    assert drawn[:4] == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]
    assert clock() == began


async def test_no_attempt_starts_later_than_the_window(harness):
    """With attempts of 20 s each the fourth would start after 60 s, so there are three, and none is cut short."""
    with pytest.raises(TransportError):
        await harness.call(Repeat.READ, *[harness.platform.after(20, LOST)] * 8)
    assert harness.sends == 3
    assert clock() == pytest.approx(1061.5)


async def test_waits_for_slot_rate_limit_and_token_are_not_counted(wechat):
    """Only sending and backing off use up the window and the attempts."""
    harness = Harness(wechat, slots=1, tokens=FakeCredentials(seconds=300))
    harness.limiter.try_acquire("/other")
    asyncio.get_running_loop().call_later(500, harness.limiter.release)
    await harness.call(
        Repeat.ONCE, -1, 42001, 45011, -1, 42001, 45011, -1, policy=RetryPolicy(window=5, once_attempts=4)
    )
    assert harness.sends == 8
    assert clock() > 2000


async def test_slot_is_released_during_a_backoff(wechat):
    """Other calls can use the slot meanwhile."""
    harness = Harness(wechat, slots=1)
    resting = asyncio.create_task(harness.call(Repeat.READ, -1))
    await asyncio.sleep(0.1)
    began = clock()
    await harness.call(Repeat.READ, path="/other")
    assert clock() == began
    await resting


async def test_slot_is_held_during_a_token_refresh(wechat, settle):
    """A call with a rejected token keeps its slot and is resent first."""
    harness = Harness(wechat, slots=1, tokens=FakeCredentials(seconds=3))
    renewing = asyncio.create_task(harness.call(Repeat.READ, 42001))
    await settle()
    assert not harness.limiter.try_acquire("/other")
    other = asyncio.create_task(harness.call(Repeat.READ, path="/other"))
    await asyncio.gather(renewing, other)
    assert [request.path for request in wechat.requests] == [PATH, PATH, "/other"]


async def test_rate_limit_pauses_the_path_for_all_calls(harness):
    """After 45011 the path is paused until the next minute, and other paths are not."""
    first = asyncio.create_task(harness.call(Repeat.ONCE, 45011))
    await asyncio.sleep(1)
    second = asyncio.create_task(harness.call(Repeat.READ))
    await harness.call(Repeat.READ, path="/other")
    assert clock() == 1001
    assert (await first).maybe_acted == 0
    await second
    assert harness.platform.sent_at(PATH) == pytest.approx([1000, 1020, 1080])
    assert harness.emitted(EndpointRateLimited) == [EndpointRateLimited(PATH, 20)]
    assert harness.emitted(RetryScheduled) == []


async def test_rate_limited_call_waits_until_the_deadline_of_the_caller(harness):
    """The retry limits do not limit the number of 45011."""
    await harness.call(Repeat.ONCE, *[45011] * 100)
    assert harness.sends == 101
    assert clock() > 1000 + 99 * 60
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(90):
            await harness.call(Repeat.ONCE, *[45011] * 100)
    assert harness.all_slots_are_back()


async def test_calls_that_meet_the_rate_limit_together_cause_one_pause(harness):
    """Calls in flight at the same time emit one event."""
    step = harness.platform.after(1, 45011)
    await asyncio.gather(harness.call(Repeat.READ, step, step), harness.call(Repeat.READ))
    assert len(harness.emitted(EndpointRateLimited)) == 1


@pytest.mark.parametrize(("step", "retries"), [(NOT_SENT, 100), (-1, 100), (TIMEOUT, 50)])
async def test_unavailable_platform_gets_first_attempts_and_the_quota(harness, step, retries):
    """Of 200 calls each is sent once, and the session makes 100 retries, or 50 if they time out."""
    harness.platform.usual[PATH] = step
    results = await asyncio.gather(*(harness.call(Repeat.READ) for _ in range(200)), return_exceptions=True)
    assert {type(result) for result in results} <= {TransportError, PlatformBusy}
    assert harness.sends == 200 + retries
    assert len(harness.emitted(RetryScheduled)) == retries


async def test_success_returns_quota(harness):
    """Every success allows one more retry."""
    harness.executor.quota.available = 0
    with pytest.raises(PlatformBusy):
        await harness.call(Repeat.READ, -1)
    await harness.call(Repeat.READ)
    await harness.call(Repeat.READ, -1)
    assert harness.sends == 4


async def test_each_retry_logs_one_warning(harness, caplog):
    """Each retry writes one WARNING line without secrets, and nothing else is logged."""
    with caplog.at_level(logging.INFO, "wxtcb"):
        await harness.call(Repeat.READ, -1, LOST, NOT_SENT)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert all(
        record.getMessage().startswith(f"{PATH} failed (attempt {n})") for n, record in enumerate(caplog.records, 1)
    )
    assert "T0KEN" not in caplog.text
    assert [(event.attempt, event.delay) for event in harness.emitted(RetryScheduled)] == [(1, 0.5), (2, 1), (3, 2)]


async def test_call_ends_after_three_resends_with_tokens_that_were_never_accepted(harness):
    """At most three resends follow each other with tokens that no call had accepted."""
    with pytest.raises(InvalidToken) as caught:
        await harness.call(Repeat.READ, *[42001] * 20)
    assert harness.sends == 4
    assert caught.value.maybe_acted == 0
    assert harness.all_slots_are_back()


async def test_call_ends_after_ten_resends(harness):
    """The limit holds even if other calls have each token accepted."""

    def accept_then_reject(request):
        harness.tokens.token.accepted = True
        return 42001

    harness.platform.usual[PATH] = accept_then_reject
    with pytest.raises(InvalidToken):
        await harness.call(Repeat.READ)
    assert harness.sends == 11


async def test_any_other_errcode_counts_as_an_accepted_token(harness):
    """The platform checks the token first, so the count of unaccepted resends starts again."""
    await harness.call(Repeat.READ, 42001, 42001, 42001, -1, 42001, 42001, 42001)
    assert harness.sends == 8


async def test_invalid_token_is_raised_when_the_credentials_return_it_again(harness):
    """There is no newer token to resend with."""

    class Same(FakeCredentials):
        def invalidate(self, token, errcode, /):
            return True

    with pytest.raises(InvalidToken):
        await harness.call(Repeat.READ, 42001, credentials=Same())
    assert harness.sends == 1


async def test_calls_with_the_same_invalid_token_share_one_refresh(harness):
    """Ten rejected calls cause one refresh and one resend each."""
    harness.platform.usual[PATH] = lambda request: 42001 if request.token == Secret("T0KEN-1") else 0
    await asyncio.gather(*(harness.call(Repeat.READ) for _ in range(10)))
    assert harness.tokens.given == 2


async def test_static_token_is_never_refreshed(harness):
    """A caller's own invalid token is raised after one send."""
    fixed = StaticToken(ActiveToken(Secret("T0KEN-of-mine"), 0))
    with pytest.raises(InvalidToken):
        await harness.call(Repeat.READ, 42001, credentials=fixed)
    assert harness.platform.requests[0].token == Secret("T0KEN-of-mine")
    assert harness.sends == 1
    assert harness.tokens.rejected == []
    assert await fixed.get() is fixed.cached()


async def test_failed_refresh_is_raised_to_the_caller(harness):
    """The reason is raised, and the slot is released."""
    harness.tokens.error = TicketError("no ticket")
    with pytest.raises(TicketError):
        await harness.call(Repeat.READ, 42001)
    harness.tokens.token = None
    with pytest.raises(TicketError):
        await harness.call(Repeat.READ)
    assert harness.sends == 1
    assert harness.all_slots_are_back()


async def cancelled_with(task, *args):
    """Cancel *task* with *args* and return the CancelledError that it raises."""
    task.cancel(*args)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def test_create_cancelled_while_sending_is_abandoned(harness):
    """The cancellation keeps its arguments, one event is emitted, and no task or slot is leaked."""
    task = asyncio.create_task(harness.call(Repeat.ONCE, harness.platform.after(9, 0)))
    await asyncio.sleep(1)
    error = await cancelled_with(task, "the reason")
    assert error.args == ("the reason",)
    assert error.__context__ is None or isinstance(error.__context__, asyncio.CancelledError)
    assert harness.emitted(Abandoned) == [Abandoned(PATH, 1)]
    assert harness.all_slots_are_back()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("sent", [False, True])
async def test_cancellation_is_a_new_exception_without_a_chain(harness, sent):
    """The CancelledError of the transport does not leave the call."""
    harness.platform.play(PATH, SendCancelled(("mine",), sent=sent))
    with pytest.raises(asyncio.CancelledError) as caught:
        await harness.call(Repeat.SET)
    assert caught.value.args == ("mine",)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


async def test_create_cancelled_during_the_backoff_after_busy_is_abandoned(harness):
    """The earlier -1 may have taken effect."""
    task = asyncio.create_task(harness.call(Repeat.ONCE, -1, -1))
    await asyncio.sleep(0.6)
    await cancelled_with(task)
    assert harness.emitted(Abandoned) == [Abandoned(PATH, 2)]
    assert harness.all_slots_are_back()


async def test_cancelled_create_counts_all_its_possible_effects(harness):
    """The request in flight and the -1 before it both count."""
    task = asyncio.create_task(harness.call(Repeat.ONCE, -1, harness.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    assert harness.emitted(Abandoned) == [Abandoned(PATH, 2)]


@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_cancelled_repeatable_call_is_not_abandoned(harness, repeat):
    """Only creates emit the event."""
    task = asyncio.create_task(harness.call(repeat, -1, harness.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    assert harness.emitted(Abandoned) == []
    assert harness.all_slots_are_back()


async def test_create_cancelled_without_possible_effect_is_not_abandoned(harness):
    """No event is emitted before the body was sent or after attempts without effect."""
    for steps in ([harness.platform.after(9, 0, sent=False)], [NOT_SENT, NOT_SENT], [45011, 45011]):
        task = asyncio.create_task(harness.call(Repeat.ONCE, *steps))
        await asyncio.sleep(0.4)
        await cancelled_with(task)
        harness.platform.scripts.clear()
    assert harness.emitted(Abandoned) == []
    assert harness.all_slots_are_back()


async def test_create_cancelled_while_waiting_is_not_abandoned(wechat):
    """A call that waits for a slot or a token has sent nothing."""
    harness = Harness(wechat, slots=1, tokens=FakeCredentials(seconds=9, token=None))
    for_token = asyncio.create_task(harness.call(Repeat.ONCE))
    for_slot = asyncio.create_task(harness.call(Repeat.ONCE))
    await asyncio.sleep(1)
    await cancelled_with(for_slot)
    await cancelled_with(for_token)
    assert harness.emitted(Abandoned) == []
    assert harness.sends == 0
    assert harness.all_slots_are_back()


async def test_deadline_of_the_caller_raises_timeout_error(harness):
    """asyncio.timeout around a call raises the TimeoutError of the standard library."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(5):
            await harness.call(Repeat.ONCE, harness.platform.after(9, 0))
    assert not isinstance(caught.value, WxtcbError)
    assert harness.emitted(Abandoned) == [Abandoned(PATH, 1)]


@pytest.mark.parametrize("steps", [[-1] * 5, [NOT_SENT] * 5, [45011] * 5])
async def test_waiting_call_ends_when_the_limiter_closes(harness, steps):
    """A backoff or a rate-limit pause ends with SessionClosed, which counts possible effects."""
    task = asyncio.create_task(harness.call(Repeat.ONCE, *steps))
    await asyncio.sleep(0.1)
    harness.limiter.close()
    with pytest.raises(SessionClosed) as caught:
        await task
    assert caught.value.maybe_acted == (1 if steps[0] == -1 else 0)
    assert clock() == pytest.approx(1000.1)


async def test_exception_of_a_hook_is_reported_and_changes_nothing(wechat):
    """It is reported once per event, and the call and the other hooks go on."""

    def broken(event):
        raise LookupError("broken hook")

    harness = Harness(wechat, hooks=(broken,))
    assert await harness.call(Repeat.READ, -1) == Done()
    assert [type(event) for event in harness.events] == [CallStarted, RetryScheduled, CallFinished]
    loop = asyncio.get_running_loop()
    reported, loop.reported = loop.reported, []
    assert [str(context["exception"]) for context in reported] == ["broken hook"] * 3


async def test_hooks_get_the_start_and_the_end_of_every_call(harness):
    """The two events share a number; the second has sends, seconds and outcome."""
    await harness.call(Repeat.READ, harness.platform.after(2, 0))
    with pytest.raises(PlatformBusy):
        await harness.call(Repeat.READ, -1, policy=RetryPolicy(attempts=1))
    task = asyncio.create_task(harness.call(Repeat.READ, harness.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    good, bad, gone = harness.emitted(CallFinished)
    assert good == CallFinished(PATH, 0, 1, 2.0, None, cancelled=False)
    assert isinstance(bad.error, PlatformBusy)
    assert (gone.error, gone.cancelled) == (None, True)
    assert [event.call for event in harness.emitted(CallStarted)] == [0, 1, 2]


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt, LookupError])
async def test_call_that_ends_without_a_reply_is_reported_as_cancelled(harness, end):
    """This holds for a closed coroutine, an interrupt and a bug."""

    class Broken:
        def cached(self):
            raise end

    with pytest.raises(end):
        await harness.call(Repeat.READ, credentials=Broken())
    (finished,) = harness.emitted(CallFinished)
    assert (finished.error, finished.cancelled) == (None, True)
    assert harness.all_slots_are_back()


async def test_call_without_hooks_emits_no_events(wechat):
    """It works in the same way."""
    harness = Harness(wechat)
    harness.dispatcher = HookDispatcher()
    assert await harness.call(Repeat.READ, -1) == Done()
    assert harness.events == []


async def test_secrets_echoed_by_the_platform_are_redacted(harness):
    """An errmsg or page that echoes the token or a secret of the body does not expose it."""
    echo = {"errcode": 40097, "errmsg": "bad T0KEN-1 and S3CRET-in-body"}
    with pytest.raises(ApiError) as caught:
        await harness.call(Repeat.READ, echo)
    assert caught.value.errmsg == "bad *** and ***"
    with pytest.raises(BadReply) as page:
        await harness.call(Repeat.READ, Response(403, b"you sent T0KEN-1, S3CRET-in-body"))
    assert "T0KEN-1" not in str(page.value)
    assert "S3CRET" not in str(page.value)


async def test_query_is_sent_with_the_token(harness):
    """The query of the caller reaches the transport."""
    endpoint = Endpoint(PATH, Done, Repeat.READ)
    body = encode_body({}, endpoint=PATH)
    await harness.executor.execute(
        endpoint,
        body,
        retry_policy=RetryPolicy(),
        credentials=harness.tokens,
        dispatcher=harness.dispatcher,
        query={"action": "query"},
    )
    assert harness.platform.requests[0].query == {"action": "query"}


SAFE_TO_REPEAT = [NOT_SENT, 42001, 45011, -1]
MAY_HAVE_ACTED = [-1000, LOST, TIMEOUT, PAGE, NOISE, REDIRECT, HUGE]
FINAL = [0, 40097, 61005, FORBIDDEN]


@pytest.mark.unmeasured
@given(
    histories=st.lists(
        st.lists(st.sampled_from(SAFE_TO_REPEAT + MAY_HAVE_ACTED + FINAL), max_size=12), min_size=1, max_size=6
    ),
    slots=st.integers(1, 3),
    cancel_at=st.none() | st.floats(0, 20),
)
@settings(deadline=None, max_examples=200)
def test_create_is_resent_only_after_failures_without_effect(virtual_run, histories, slots, cancel_at):
    """No create is resent after an ambiguous failure other than -1, or after a final result."""

    async def scenario():
        met = {number: [] for number in range(len(histories))}

        async def send(request):
            number = int(request.path[1:])
            step = histories[number][len(met[number])] if len(met[number]) < len(histories[number]) else 0
            met[number].append(step)
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError as error:
                return SendCancelled(error.args, sent=True)
            return Response(200, b'{"errcode": %d, "errmsg": ""}' % step) if isinstance(step, int) else step

        harness = Harness(SimpleNamespace(send=send, play=lambda *_: None), slots=slots)
        tasks = [asyncio.create_task(harness.call(Repeat.ONCE, path=f"/{number}")) for number in met]
        if cancel_at is not None:
            asyncio.get_running_loop().call_later(cancel_at, tasks[0].cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, steps in met.items():
            assert all(step in SAFE_TO_REPEAT for step in steps[:-1])
            assert sum(step in (-1, NOT_SENT) for step in steps) <= 5
            maybe = sum(step == -1 or step in MAY_HAVE_ACTED for step in steps)
            result = results[number]
            if isinstance(result, asyncio.CancelledError):
                continue
            assert result.maybe_acted == maybe
            assert isinstance(result, OutcomeUnknown) == (steps[-1] in MAY_HAVE_ACTED)
        assert harness.all_slots_are_back()
        assert Counter(map(type, harness.events))[CallFinished] == len(histories)

    virtual_run(scenario())


async def test_error_of_an_own_token_advises_to_pass_another(harness):
    """The hint does not mention a refresh."""
    with pytest.raises(InvalidToken, match="your own"):
        await harness.call(Repeat.READ, 42001, credentials=StaticToken(ActiveToken(Secret("0WN"), 0)))


async def test_closed_transport_raises_session_closed(harness):
    """The call is not retried."""
    with pytest.raises(SessionClosed, match="is closed"):
        await harness.call(Repeat.READ, SendFailure("the aiohttp session is closed", sent=False, closed=True))
    assert harness.sends == 1


@pytest.mark.parametrize("status", [201, 204])
async def test_other_2xx_is_not_a_redirect(harness, status):
    """It counts as a lost reply."""
    with pytest.raises(BadReply, match=f"HTTP {status}, 2 bytes") as caught:
        await harness.call(Repeat.READ, *[Response(status, b"ok")] * 8)
    assert not caught.value.permanent


async def test_token_echoed_by_a_reply_is_redacted(harness):
    """It is also redacted in the raw JSON."""
    token = ActiveToken(Secret("T0KEN-that-is-as-long-as-tokens-are"), 1)
    answer = Response(200, b'{"errcode": 0, "echo": "T0KEN-that-is-as-long-as-tokens-are"}')
    reply = await harness.call(Repeat.READ, answer, credentials=StaticToken(token))
    assert raw(reply)["echo"] == "***"


LARGE = Response(200, b'{"errcode": 0, "padding": "' + b"x" * LARGE_REPLY_BYTES + b'"}')


async def test_large_reply_is_returned(harness):
    """It is decoded in slices, with the same result."""
    assert await harness.call(Repeat.ONCE, LARGE) == Done()


async def test_create_cancelled_while_decoding_a_large_reply_is_abandoned(harness, monkeypatch):
    """The request was sent, and its reply is lost."""

    async def decode(*_):
        await asyncio.sleep(9)

    monkeypatch.setattr(executor, "read_large_reply", decode)
    task = asyncio.create_task(harness.call(Repeat.ONCE, LARGE))
    await asyncio.sleep(1)
    await cancelled_with(task)
    assert harness.emitted(Abandoned) == [Abandoned(PATH, 1)]
    assert harness.all_slots_are_back()


@pytest.mark.parametrize("repeat", ALL)
async def test_vetoed_call_sends_nothing(harness, repeat):
    """It raises SendVetoed at once and releases its slot."""
    with pytest.raises(SendVetoed, match="not sent") as caught:
        await harness.call(repeat, may_send=lambda: False)
    assert (harness.sends, caught.value.maybe_acted, caught.value.endpoint) == (0, 0, PATH)
    assert [event.attempts for event in harness.emitted(CallFinished)] == [0]
    assert not hasattr(caught.value, "__notes__")
    assert harness.all_slots_are_back()


@pytest.mark.parametrize(
    "step", [-1, NOT_SENT, 42001, 45011], ids=["busy", "not sent", "token rejected", "minute limit"]
)
async def test_may_send_is_called_before_every_send(harness, step):
    """It is also called after a retry, a refreshed token and a rate-limit pause."""
    answers = iter([True, True, False])
    with pytest.raises(SendVetoed):
        await harness.call(Repeat.READ, step, step, may_send=lambda: next(answers))
    assert harness.sends == 2
    assert next(answers, None) is None


async def test_veto_reports_earlier_possible_effects(harness):
    """A create that met -1 and was then vetoed reports maybe_acted."""
    answers = iter([True, False])
    with pytest.raises(SendVetoed) as caught:
        await harness.call(Repeat.ONCE, -1, may_send=lambda: next(answers))
    assert caught.value.maybe_acted == 1
    assert "check whether the call took effect before retrying" in caught.value.__notes__[-1]
    assert [event.attempts for event in harness.emitted(CallFinished)] == [1]


async def test_may_send_that_returns_true_changes_nothing(harness):
    """The call succeeds."""
    assert await harness.call(Repeat.ONCE, may_send=lambda: True) == Done()


async def test_error_names_the_coroutine_next_to_the_path(harness):
    """One path may serve several coroutines, so the path alone does not say which one failed."""
    with pytest.raises(ApiError, match=r"^db_record_query \(/componenttcb/dbrecord\): 40097") as caught:
        await harness.call(Repeat.READ, 40097, path="/componenttcb/dbrecord", name="db_record_query")
    assert caught.value.endpoint == "/componenttcb/dbrecord"
