"""The one loop: what is sent again, when, how often, and what the caller is told."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from types import SimpleNamespace

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.executor import RequestExecutor, StaticToken, Token
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Response, ResponseTooLarge, SendCancelled, SendFailure
from wxtcb._protocol.codec import encode_body, raw
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
DEAD = [40001, 40014, 40094, 42001]
ALL = list(Repeat)


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


@attrs.define(eq=False)
class Tokens:
    """Credentials with a new token after each `expire`; every token takes `seconds` to get."""

    seconds: float = 0.0
    error: WxtcbError | None = None
    given: int = 1
    token: Token | None = attrs.field(factory=lambda: Token(Secret("T0KEN-1"), 1))
    heard: list = attrs.field(factory=list)

    def cached(self):
        return self.token

    async def get(self):
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        if self.token is None:
            self.given += 1
            self.token = Token(Secret(f"T0KEN-{self.given}"), self.given)
        return self.token

    def invalidate(self, token, errcode, /):
        self.heard.append((token.generation, errcode))
        if token is self.token:
            self.token = None
        return True


def highest(low, high):
    """Draw without luck."""
    return high


@attrs.define(eq=False, slots=False)
class Rig:
    """An exchange before a scripted platform, with what it emitted."""

    platform: object
    tokens: Tokens = attrs.field(factory=Tokens)
    events: list = attrs.field(factory=list)
    slots: int = 3
    uniform: object = highest
    hooks: tuple = ()

    def __attrs_post_init__(self):
        time = asyncio.get_running_loop().time
        self.gate = RequestLimiter(self.slots, time, time)
        self.observers = HookDispatcher((*self.hooks, self.events.append))
        self.exchange = RequestExecutor(self.platform, self.gate, time, uniform=self.uniform)

    async def call(
        self, repeat, *steps, policy=None, credentials=None, needs=Credential.COMPONENT, path=PATH, may_send=None
    ):
        self.platform.play(path, *steps)
        endpoint = Endpoint(path, Done, repeat, needs)
        body = encode_body({"a": Secret("S3CRET-in-body")}, endpoint=path)
        return await self.exchange.execute(
            endpoint,
            body,
            policy=policy or RetryPolicy(),
            credentials=credentials or self.tokens,
            dispatcher=self.observers,
            may_send=may_send,
        )

    @property
    def sends(self):
        return len(self.platform.requests)

    def emitted(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def all_slots_are_back(self):
        return [self.gate.try_acquire("/free") for _ in range(self.slots + 1)] == [True] * self.slots + [False]


@pytest.fixture
async def rig(wechat):
    """Give a rig with three slots."""
    return Rig(wechat)


async def test_reply_comes_back_after_one_send_when_nothing_goes_wrong(rig):
    """The plain case: one request, with the token, and a typed reply."""
    assert await rig.call(Repeat.ONCE) == Done()
    (request,) = rig.platform.requests
    assert request.token == Secret("T0KEN-1")
    assert rig.tokens.token.accepted
    assert rig.all_slots_are_back()


async def test_token_is_not_sent_when_the_endpoint_needs_none(rig):
    """A call below the token goes without one, and an invalid credential is the secret's fault, not renewed."""
    with pytest.raises(ApiError) as caught:
        await rig.call(Repeat.SET, 40001, needs=Credential.NONE)
    assert not isinstance(caught.value, InvalidToken)
    assert await rig.call(Repeat.SET, needs=Credential.NONE) == Done()
    assert [request.token for request in rig.platform.requests] == [None, None]


@pytest.mark.parametrize("repeat", ALL)
async def test_call_is_tried_again_when_it_never_connected(rig, repeat):
    """Nothing was sent, so anything may be sent again."""
    reply = await rig.call(repeat, NOT_SENT, NOT_SENT)
    assert reply.maybe_acted == 0
    assert rig.sends == 3


@pytest.mark.parametrize("errcode", DEAD)
@pytest.mark.parametrize("repeat", ALL)
async def test_call_is_sent_again_with_a_newer_token_when_its_token_is_dead(rig, repeat, errcode):
    """A dead token is renewed and the call sent again, at once and outside the budget."""
    began = clock()
    await rig.call(repeat, errcode, policy=RetryPolicy(attempts=1, once_attempts=1))
    assert [request.token.reveal() for request in rig.platform.requests] == ["T0KEN-1", "T0KEN-2"]
    assert rig.tokens.heard == [(1, errcode)]
    assert clock() == began
    assert rig.emitted(RetryScheduled) == []


@pytest.mark.parametrize("repeat", [each for each in ALL if each is not Repeat.NEVER])
async def test_call_is_tried_again_when_the_platform_is_busy(rig, repeat):
    """At -1 the platform asks for another try, even of a create."""
    await rig.call(repeat, -1)
    assert rig.sends == 2


async def test_call_that_is_never_to_be_repeated_is_not_when_the_platform_is_busy(rig):
    """What only its caller can judge is sent once, and -1 leaves its outcome unknown."""
    with pytest.raises(OutcomeUnknown) as caught:
        await rig.call(Repeat.NEVER, -1)
    assert (rig.sends, caught.value.maybe_acted) == (1, 1)


@pytest.mark.parametrize("step", [-1000, -501001, LOST, TIMEOUT, PAGE, NOISE, ODD])
@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_call_that_may_be_repeated_is_tried_again_when_the_answer_is_of_no_use(rig, repeat, step):
    """Lost, late, transient or unreadable: reads, and calls that set, are sent again."""
    await rig.call(repeat, step)
    assert rig.sends == 2


@pytest.mark.parametrize("step", [-1000, -501001, LOST, TIMEOUT, PAGE, NOISE, ODD, REDIRECT, HUGE])
async def test_create_is_never_sent_again_when_it_may_have_acted(rig, step):
    """A call that adds something ends in OutcomeUnknown, which holds the error that hid the answer."""
    with pytest.raises(OutcomeUnknown) as caught:
        await rig.call(Repeat.ONCE, step)
    assert rig.sends == 1
    assert isinstance(caught.value.cause, TransportError | BadReply | CloudUnavailable)
    assert caught.value.maybe_acted == 1
    assert caught.value.endpoint == PATH
    assert rig.all_slots_are_back()


@pytest.mark.parametrize("step", [REDIRECT, HUGE])
@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_reply_that_would_come_again_is_raised_at_once(rig, repeat, step):
    """A redirect and an over-long reply are BadReply without another try."""
    with pytest.raises(BadReply):
        await rig.call(repeat, step)
    assert rig.sends == 1


@pytest.mark.parametrize("repeat", ALL)
async def test_other_4xx_is_raised_at_once_and_had_no_effect(rig, repeat):
    """A 4xx page is BadReply for every call, a create included."""
    with pytest.raises(BadReply) as caught:
        await rig.call(repeat, FORBIDDEN)
    assert (rig.sends, caught.value.maybe_acted) == (1, 0)


@pytest.mark.parametrize("errcode", [45009, 48006, 61004, 40164, 61005, 61006, 40125, 85088, 48001, 40097, 12345])
@pytest.mark.parametrize("repeat", ALL)
async def test_refusal_is_raised_at_once_and_had_no_effect(rig, repeat, errcode):
    """A final refusal is its own error after one send; the token was good."""
    with pytest.raises(ApiError) as caught:
        await rig.call(repeat, errcode)
    assert (caught.value.errcode, caught.value.maybe_acted, rig.sends) == (errcode, 0, 1)
    assert rig.tokens.token.accepted
    assert rig.all_slots_are_back()


async def test_busy_create_is_not_sent_again_when_the_policy_says_so(rig):
    """With busy_creates=False a create that met -1 ends in OutcomeUnknown; a read goes on."""
    policy = RetryPolicy(busy_creates=False)
    with pytest.raises(OutcomeUnknown) as caught:
        await rig.call(Repeat.ONCE, -1, policy=policy)
    assert isinstance(caught.value.cause, PlatformBusy)
    assert rig.sends == 1
    await rig.call(Repeat.READ, -1, policy=policy)
    assert rig.sends == 3


@pytest.mark.parametrize(("repeat", "most"), [(Repeat.READ, 8), (Repeat.SET, 8), (Repeat.ONCE, 5)])
async def test_last_real_error_is_raised_when_the_attempts_are_used_up(rig, repeat, most):
    """8 attempts for what may be repeated, 5 for creates; then the error itself, with notes of the story."""
    with pytest.raises(PlatformBusy) as caught:
        await rig.call(repeat, *[-1] * 20)
    assert rig.sends == most
    assert caught.value.__notes__[0].startswith(f"sent {most} times in ")
    assert caught.value.maybe_acted == (0 if repeat is Repeat.READ else most)
    assert rig.all_slots_are_back()


async def test_notes_tell_attempts_and_elapsed_seconds(rig):
    """The first note counts the sends and the seconds spent sending and pausing."""
    with pytest.raises(PlatformBusy) as caught:
        await rig.call(Repeat.ONCE, *[rig.platform.after(1, -1)] * 5)
    assert caught.value.__notes__ == [
        "sent 5 times in 12.5 s",
        "5 of these may have taken effect; check whether it took effect before retrying",
    ]


async def test_refusal_of_what_may_be_done_already_says_so(rig):
    """A delete whose first answer was lost is refused because nothing is left; it is not told to look for extras."""
    with pytest.raises(CloudError, match="It had no effect") as caught:
        await rig.call(Repeat.SET, LOST, -502005)
    assert caught.value.__notes__[1:] == ["1 of these may have taken effect"]


async def test_error_after_one_send_has_no_notes(rig):
    """Where there is no story, there are no notes."""
    with pytest.raises(ApiError) as caught:
        await rig.call(Repeat.READ, 40097)
    assert not hasattr(caught.value, "__notes__")


async def test_last_error_counts_earlier_attempts_that_may_have_acted(rig):
    """A create that met -1 and ends in something harmless still says that it may have acted."""
    with pytest.raises(ApiError) as caught:
        await rig.call(Repeat.ONCE, -1, NOT_SENT, 40097)
    assert caught.value.errcode == 40097
    assert caught.value.maybe_acted == 1
    with pytest.raises(OutcomeUnknown) as unknown:
        await rig.call(Repeat.ONCE, -1, LOST)
    assert unknown.value.maybe_acted == 2


async def test_success_of_a_create_after_busy_says_so(rig):
    """The reply counts the earlier attempts, and an event tells it to everybody."""
    reply = await rig.call(Repeat.ONCE, -1, NOT_SENT, -1)
    assert reply.maybe_acted == 2
    assert rig.emitted(PossibleDuplicate) == [PossibleDuplicate(PATH, 2)]


@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_success_of_what_may_be_repeated_after_busy_says_nothing(rig, repeat):
    """Only for creates does it matter that an earlier attempt may have acted."""
    reply = await rig.call(repeat, -1, LOST)
    assert reply.maybe_acted == 0
    assert rig.emitted(PossibleDuplicate) == []


async def test_back_off_doubles_from_half_a_second_to_eight(rig):
    """Without luck in the draw the pauses are 0.5, 1, 2, 4, 8, 8, 8 seconds."""
    with pytest.raises(PlatformBusy):
        await rig.call(Repeat.READ, *[-1] * 8)
    times = rig.platform.sent_at(PATH)
    assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx([0.5, 1, 2, 4, 8, 8, 8])


async def test_back_off_is_fully_jittered(wechat):
    """Each pause is drawn between 0 and its bound."""
    drawn = []

    def uniform(low, high):
        drawn.append((low, high))
        return 0.0

    rig = Rig(wechat, uniform=uniform)
    began = clock()
    with pytest.raises(PlatformBusy):
        await rig.call(Repeat.ONCE, *[-1] * 5)
    assert drawn[:4] == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]
    assert clock() == began


async def test_no_attempt_starts_later_than_the_window(rig):
    """Attempts of 20 s that fail: the fourth would begin after 60 s, so there are three, and none is cut."""
    with pytest.raises(TransportError):
        await rig.call(Repeat.READ, *[rig.platform.after(20, LOST)] * 8)
    assert rig.sends == 3
    assert clock() == pytest.approx(1061.5)


async def test_waiting_for_a_slot_the_minute_limit_and_a_token_is_not_counted(wechat):
    """The window and the attempts are spent by sending and backing off alone."""
    rig = Rig(wechat, slots=1, tokens=Tokens(seconds=300))
    rig.gate.try_acquire("/other")
    asyncio.get_running_loop().call_later(500, rig.gate.release)
    await rig.call(Repeat.ONCE, -1, 42001, 45011, -1, 42001, 45011, -1, policy=RetryPolicy(window=5, once_attempts=4))
    assert rig.sends == 8
    assert clock() > 2000


async def test_slot_is_given_back_while_a_call_backs_off(wechat):
    """A call that rests before its next try holds up nobody."""
    rig = Rig(wechat, slots=1)
    resting = asyncio.create_task(rig.call(Repeat.READ, -1))
    await asyncio.sleep(0.1)
    began = clock()
    await rig.call(Repeat.READ, path="/other")
    assert clock() == began
    await resting


async def test_slot_is_kept_while_a_dead_token_is_renewed(wechat, settle):
    """A call told "dead" keeps its slot while it waits for the token, and sends at once."""
    rig = Rig(wechat, slots=1, tokens=Tokens(seconds=3))
    renewing = asyncio.create_task(rig.call(Repeat.READ, 42001))
    await settle()
    assert not rig.gate.try_acquire("/other")
    other = asyncio.create_task(rig.call(Repeat.READ, path="/other"))
    await asyncio.gather(renewing, other)
    assert [request.path for request in wechat.requests] == [PATH, PATH, "/other"]


async def test_minute_limit_stops_the_path_for_everybody(rig):
    """After 45011 nobody sends to that path until the next minute; others go on; then it is sent again."""
    first = asyncio.create_task(rig.call(Repeat.ONCE, 45011))
    await asyncio.sleep(1)
    second = asyncio.create_task(rig.call(Repeat.READ))
    await rig.call(Repeat.READ, path="/other")
    assert clock() == 1001
    assert (await first).maybe_acted == 0
    await second
    assert rig.platform.sent_at(PATH) == pytest.approx([1000, 1020, 1080])
    assert rig.emitted(EndpointRateLimited) == [EndpointRateLimited(PATH, 20)]
    assert rig.emitted(RetryScheduled) == []


async def test_minute_limit_waits_as_long_as_the_caller_lets_it(rig):
    """No budget of ours ends a call that meets 45011 again and again."""
    await rig.call(Repeat.ONCE, *[45011] * 100)
    assert rig.sends == 101
    assert clock() > 1000 + 99 * 60
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(90):
            await rig.call(Repeat.ONCE, *[45011] * 100)
    assert rig.all_slots_are_back()


async def test_second_minute_limit_is_not_announced_when_its_call_was_admitted_before(rig):
    """Calls under way together meet the limit together: one pause, one event."""
    step = rig.platform.after(1, 45011)
    await asyncio.gather(rig.call(Repeat.READ, step, step), rig.call(Repeat.READ))
    assert len(rig.emitted(EndpointRateLimited)) == 1


@pytest.mark.parametrize(("step", "retries"), [(NOT_SENT, 100), (-1, 100), (TIMEOUT, 50)])
async def test_dead_platform_gets_first_tries_and_the_quota(rig, step, retries):
    """Of 200 calls each is tried once; the session as a whole tries 100 times more, 50 if they time out."""
    rig.platform.usual[PATH] = step
    results = await asyncio.gather(*(rig.call(Repeat.READ) for _ in range(200)), return_exceptions=True)
    assert {type(result) for result in results} <= {TransportError, PlatformBusy}
    assert rig.sends == 200 + retries
    assert len(rig.emitted(RetryScheduled)) == retries


async def test_successes_fill_the_quota_again(rig):
    """Every success gives one retry back."""
    rig.exchange.quota.available = 0
    with pytest.raises(PlatformBusy):
        await rig.call(Repeat.READ, -1)
    await rig.call(Repeat.READ)
    await rig.call(Repeat.READ, -1)
    assert rig.sends == 4


async def test_each_retry_logs_one_warning(rig, caplog):
    """One WARNING line per retry, nothing else, and no secret in it."""
    with caplog.at_level(logging.INFO, "wxtcb"):
        await rig.call(Repeat.READ, -1, LOST, NOT_SENT)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert all(
        record.getMessage().startswith(f"{PATH} failed (attempt {n})") for n, record in enumerate(caplog.records, 1)
    )
    assert "T0KEN" not in caplog.text
    assert [(event.attempt, event.delay) for event in rig.emitted(RetryScheduled)] == [(1, 0.5), (2, 1), (3, 2)]


async def test_dead_tokens_end_after_three_that_nobody_accepted(rig):
    """At most three re-sends in a row with tokens that no call of this session has had accepted."""
    with pytest.raises(InvalidToken) as caught:
        await rig.call(Repeat.READ, *[42001] * 20)
    assert rig.sends == 4
    assert caught.value.maybe_acted == 0
    assert rig.all_slots_are_back()


async def test_dead_tokens_end_after_ten_in_all(rig):
    """Even if other calls have each token accepted, ten re-sends are enough."""

    def accept_then_die(request):
        rig.tokens.token.accepted = True
        return 42001

    rig.platform.usual[PATH] = accept_then_die
    with pytest.raises(InvalidToken):
        await rig.call(Repeat.READ)
    assert rig.sends == 11


async def test_answer_that_is_no_success_counts_as_an_accepted_token(rig):
    """Any errcode but a dead token's shows that the platform took the token, so the count starts anew."""
    await rig.call(Repeat.READ, 42001, 42001, 42001, -1, 42001, 42001, 42001)
    assert rig.sends == 8


async def test_dead_token_is_raised_when_no_other_can_be_had(rig):
    """Credentials that give the same token again end the call."""

    class Same(Tokens):
        def invalidate(self, token, errcode, /):
            return True

    with pytest.raises(InvalidToken):
        await rig.call(Repeat.READ, 42001, credentials=Same())
    assert rig.sends == 1


async def test_token_of_another_call_is_taken_when_it_renewed_first(rig):
    """Ten calls told "dead" at once make one renewal and one more send each."""
    rig.platform.usual[PATH] = lambda request: 42001 if request.token == Secret("T0KEN-1") else 0
    await asyncio.gather(*(rig.call(Repeat.READ) for _ in range(10)))
    assert rig.tokens.given == 2


async def test_own_token_is_never_renewed(rig):
    """A caller's own dead token is raised after one send; waiting for one gives the same."""
    fixed = StaticToken(Token(Secret("T0KEN-of-mine"), 0))
    with pytest.raises(InvalidToken):
        await rig.call(Repeat.READ, 42001, credentials=fixed)
    assert rig.platform.requests[0].token == Secret("T0KEN-of-mine")
    assert rig.sends == 1
    assert rig.tokens.heard == []
    assert await fixed.get() is fixed.cached()


async def test_failed_renewal_is_what_the_caller_hears(rig):
    """Where no token can be had, its reason is raised, and the slot comes back."""
    rig.tokens.error = TicketError("no ticket")
    with pytest.raises(TicketError):
        await rig.call(Repeat.READ, 42001)
    rig.tokens.token = None
    with pytest.raises(TicketError):
        await rig.call(Repeat.READ)
    assert rig.sends == 1
    assert rig.all_slots_are_back()


async def cancelled_with(task, *args):
    """Cancel *task* with *args* and return the CancelledError that it ended with."""
    task.cancel(*args)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def test_cancelled_create_is_abandoned_when_its_body_may_have_left(rig):
    """Cancelled under way: the same args, no chain, one event, no task, no slot lost."""
    task = asyncio.create_task(rig.call(Repeat.ONCE, rig.platform.after(9, 0)))
    await asyncio.sleep(1)
    error = await cancelled_with(task, "the reason")
    assert error.args == ("the reason",)
    assert error.__context__ is None or isinstance(error.__context__, asyncio.CancelledError)
    assert rig.emitted(Abandoned) == [Abandoned(PATH, 1)]
    assert rig.all_slots_are_back()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancellation_is_raised_anew_without_a_chain(rig):
    """The CancelledError that leaves the call is not the one that passed the transport."""
    rig.platform.play(PATH, SendCancelled(("mine",), sent=False))
    with pytest.raises(asyncio.CancelledError) as caught:
        await rig.call(Repeat.READ)
    assert caught.value.args == ("mine",)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


async def test_cancelled_create_is_abandoned_when_it_rests_after_busy(rig):
    """An earlier -1 may have acted, so a cancel in the pause after it is told too."""
    task = asyncio.create_task(rig.call(Repeat.ONCE, -1, -1))
    await asyncio.sleep(0.6)
    await cancelled_with(task)
    assert rig.emitted(Abandoned) == [Abandoned(PATH, 2)]
    assert rig.all_slots_are_back()


async def test_cancelled_create_counts_all_its_attempts(rig):
    """The one under way and the -1 before it: two may have acted."""
    task = asyncio.create_task(rig.call(Repeat.ONCE, -1, rig.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    assert rig.emitted(Abandoned) == [Abandoned(PATH, 2)]


@pytest.mark.parametrize("repeat", [Repeat.READ, Repeat.SET])
async def test_cancelled_call_is_not_abandoned_when_it_may_be_repeated(rig, repeat):
    """Only creates are abandoned."""
    task = asyncio.create_task(rig.call(repeat, -1, rig.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    assert rig.emitted(Abandoned) == []
    assert rig.all_slots_are_back()


async def test_cancelled_create_is_not_abandoned_when_nothing_left(rig):
    """Cancelled before the body left, or while it rests after never connecting: nothing to look for."""
    for steps in ([rig.platform.after(9, 0, sent=False)], [NOT_SENT, NOT_SENT], [45011, 45011]):
        task = asyncio.create_task(rig.call(Repeat.ONCE, *steps))
        await asyncio.sleep(0.4)
        await cancelled_with(task)
        rig.platform.scripts.clear()
    assert rig.emitted(Abandoned) == []
    assert rig.all_slots_are_back()


async def test_cancelled_create_is_not_abandoned_when_it_still_waits(wechat):
    """In the queue of the gate, or for a token, nothing has been sent."""
    rig = Rig(wechat, slots=1, tokens=Tokens(seconds=9, token=None))
    for_token = asyncio.create_task(rig.call(Repeat.ONCE))
    for_slot = asyncio.create_task(rig.call(Repeat.ONCE))
    await asyncio.sleep(1)
    await cancelled_with(for_slot)
    await cancelled_with(for_token)
    assert rig.emitted(Abandoned) == []
    assert rig.sends == 0
    assert rig.all_slots_are_back()


async def test_timeout_of_the_caller_is_the_callers(rig):
    """asyncio.timeout around a call ends in the plain TimeoutError of the standard library."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(5):
            await rig.call(Repeat.ONCE, rig.platform.after(9, 0))
    assert not isinstance(caught.value, WxtcbError)
    assert rig.emitted(Abandoned) == [Abandoned(PATH, 1)]


@pytest.mark.parametrize("steps", [[-1] * 5, [NOT_SENT] * 5, [45011] * 5])
async def test_call_that_rests_ends_when_the_gate_closes(rig, steps):
    """A back-off or a minute limit is cut short by closing; what may have acted is said."""
    task = asyncio.create_task(rig.call(Repeat.ONCE, *steps))
    await asyncio.sleep(0.1)
    rig.gate.close()
    with pytest.raises(SessionClosed) as caught:
        await task
    assert caught.value.maybe_acted == (1 if steps[0] == -1 else 0)
    assert clock() == pytest.approx(1000.1)


async def test_hook_that_raises_goes_to_the_loop_and_changes_nothing(wechat):
    """A broken hook is reported once per event; the call and the other hooks go on."""

    def broken(event):
        raise LookupError("broken hook")

    rig = Rig(wechat, hooks=(broken,))
    assert await rig.call(Repeat.READ, -1) == Done()
    assert [type(event) for event in rig.events] == [CallStarted, RetryScheduled, CallFinished]
    loop = asyncio.get_running_loop()
    reported, loop.reported = loop.reported, []
    assert [str(context["exception"]) for context in reported] == ["broken hook"] * 3


async def test_hooks_hear_the_start_and_the_end_of_every_call(rig):
    """Two events share a number; the last tells sends, seconds, and how it ended."""
    await rig.call(Repeat.READ, rig.platform.after(2, 0))
    with pytest.raises(PlatformBusy):
        await rig.call(Repeat.READ, -1, policy=RetryPolicy(attempts=1))
    task = asyncio.create_task(rig.call(Repeat.READ, rig.platform.after(9, 0)))
    await asyncio.sleep(1)
    await cancelled_with(task)
    good, bad, gone = rig.emitted(CallFinished)
    assert good == CallFinished(PATH, 0, 1, 2.0, None, cancelled=False)
    assert isinstance(bad.error, PlatformBusy)
    assert (gone.error, gone.cancelled) == (None, True)
    assert [event.call for event in rig.emitted(CallStarted)] == [0, 1, 2]


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt, LookupError])
async def test_call_that_ends_without_a_reply_is_never_told_as_good(rig, end):
    """Closed, interrupted or ended by a bug: hooks hear that it was given up."""

    class Broken:
        def cached(self):
            raise end

    with pytest.raises(end):
        await rig.call(Repeat.READ, credentials=Broken())
    (told,) = rig.emitted(CallFinished)
    assert (told.error, told.cancelled) == (None, True)
    assert rig.all_slots_are_back()


async def test_nothing_is_observed_per_call_when_nobody_listens(wechat):
    """Without hooks a call costs no events, and works the same."""
    rig = Rig(wechat)
    rig.observers = HookDispatcher()
    assert await rig.call(Repeat.READ, -1) == Done()
    assert rig.events == []


async def test_secrets_of_the_body_and_the_token_are_blotted_out_of_what_the_platform_says(rig):
    """An errmsg or a page that echoes what we sent does not bring it into the error."""
    echo = {"errcode": 40097, "errmsg": "bad T0KEN-1 and S3CRET-in-body"}
    with pytest.raises(ApiError) as caught:
        await rig.call(Repeat.READ, echo)
    assert caught.value.errmsg == "bad *** and ***"
    with pytest.raises(BadReply) as page:
        await rig.call(Repeat.READ, Response(403, b"you sent T0KEN-1, S3CRET-in-body"))
    assert "T0KEN-1" not in str(page.value)
    assert "S3CRET" not in str(page.value)


async def test_query_is_sent_beside_the_token(rig):
    """A caller's query reaches the transport."""
    endpoint = Endpoint(PATH, Done, Repeat.READ)
    body = encode_body({}, endpoint=PATH)
    await rig.exchange.execute(
        endpoint,
        body,
        policy=RetryPolicy(),
        credentials=rig.tokens,
        dispatcher=rig.observers,
        query={"action": "query"},
    )
    assert rig.platform.requests[0].query == {"action": "query"}


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
def test_create_is_sent_again_only_after_what_permits_it(virtual_run, histories, slots, cancel_at):
    """Whatever happens to creates: after an outcome that may have acted, -1 aside, or a final one, none is sent."""

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

        rig = Rig(SimpleNamespace(send=send, play=lambda *_: None), slots=slots)
        tasks = [asyncio.create_task(rig.call(Repeat.ONCE, path=f"/{number}")) for number in met]
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
        assert rig.all_slots_are_back()
        assert Counter(map(type, rig.events))[CallFinished] == len(histories)

    virtual_run(scenario())


async def test_own_token_that_is_dead_is_not_said_to_have_been_renewed(rig):
    """The advice fits whose token it was."""
    with pytest.raises(InvalidToken, match="your own"):
        await rig.call(Repeat.READ, 42001, credentials=StaticToken(Token(Secret("0WN"), 0)))


async def test_closed_transport_is_a_closed_session_at_once(rig):
    """There is nothing left to send with, so nothing is tried again."""
    with pytest.raises(SessionClosed, match="is closed"):
        await rig.call(Repeat.READ, SendFailure("the aiohttp session is closed", sent=False, closed=True))
    assert rig.sends == 1


@pytest.mark.parametrize("status", [201, 204])
async def test_other_success_is_no_redirect(rig, status):
    """Only 3xx is called a redirect; what else is no 200 is a lost answer."""
    with pytest.raises(BadReply, match=f"HTTP {status}, 2 bytes") as caught:
        await rig.call(Repeat.READ, *[Response(status, b"ok")] * 8)
    assert not caught.value.permanent


async def test_token_that_a_reply_repeats_is_taken_out_of_it(rig):
    """Wherever the platform echoes it, also in the entries of a batch and in the raw JSON."""
    token = Token(Secret("T0KEN-that-is-as-long-as-tokens-are"), 1)
    answer = Response(200, b'{"errcode": 0, "echo": "T0KEN-that-is-as-long-as-tokens-are"}')
    reply = await rig.call(Repeat.READ, answer, credentials=StaticToken(token))
    assert raw(reply)["echo"] == "***"


@pytest.mark.parametrize("repeat", ALL)
async def test_call_that_is_withheld_sends_nothing_and_had_no_effect(rig, repeat):
    """`may_send` says no: the call ends at once with `SendVetoed`, after no send, and gives its slot back."""
    with pytest.raises(SendVetoed, match="not sent") as caught:
        await rig.call(repeat, may_send=lambda: False)
    assert (rig.sends, caught.value.maybe_acted, caught.value.endpoint) == (0, 0, PATH)
    assert [event.attempts for event in rig.emitted(CallFinished)] == [0]
    assert not hasattr(caught.value, "__notes__")
    assert rig.all_slots_are_back()


@pytest.mark.parametrize("step", [-1, NOT_SENT, 42001, 45011], ids=["busy", "not sent", "token dead", "minute limit"])
async def test_may_send_is_asked_before_every_send(rig, step):
    """Each attempt of a call asks anew: those after a retry, a renewed token and a pause too."""
    said = iter([True, True, False])
    with pytest.raises(SendVetoed):
        await rig.call(Repeat.READ, step, step, may_send=lambda: next(said))
    assert rig.sends == 2
    assert next(said, None) is None


async def test_withheld_attempt_does_not_hide_earlier_ones_that_may_have_acted(rig):
    """A create that met -1 and then was withheld says that the first attempt may have acted."""
    said = iter([True, False])
    with pytest.raises(SendVetoed) as caught:
        await rig.call(Repeat.ONCE, -1, may_send=lambda: next(said))
    assert caught.value.maybe_acted == 1
    assert "check whether it took effect before retrying" in caught.value.__notes__[-1]
    assert [event.attempts for event in rig.emitted(CallFinished)] == [1]


async def test_call_that_may_be_sent_is_as_any_other(rig):
    """True changes nothing."""
    assert await rig.call(Repeat.ONCE, may_send=lambda: True) == Done()
