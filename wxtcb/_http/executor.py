"""Request executor: runs one call from admission to its reply, by the rules in `wxtcb._http.retry`.

- call: one use of an endpoint, made of one or more attempts;
- attempt: one request that is given to the transport; it may fail before anything is sent;
- retry: a further attempt after a backoff, within the retry limits (`RetryPolicy` and `RetryQuota`);
- resend: a further attempt with a newer token or after a rate limit, outside of the retry limits;
- slot: one of the limiter's places for concurrent calls;
- admission: a call gets a slot while its path is not paused. It holds the slot until it ends, backs off, or waits for a
  rate limit. After a backoff or a rate limit it is admitted again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb import events
from wxtcb._http.retry import AMBIGUOUS_FAILURES, FailureKind, RetryDecision, RetryPolicy, RetryQuota, classify, decide
from wxtcb._http.transport import (
    Request,
    Response,
    ResponseTooLarge,
    SendCancelled,
    SendFailure,
    Transport,
    Vetoed,
)
from wxtcb._protocol.codec import LARGE_REPLY_BYTES, RequestBody, excerpt, read_large_reply, read_reply
from wxtcb._protocol.endpoint import Credential, Endpoint, Repeat, Reply, attach_metadata
from wxtcb.errors import ApiError, BadReply, OutcomeUnknown, SendVetoed, SessionClosed, TransportError, WxtcbError
from wxtcb.telemetry.dispatch import HookDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from wxtcb._concurrency.limiter import PathReservation, RequestLimiter
    from wxtcb.secret import Secret

R = TypeVar("R", bound=Reply)

# A `SendResult` of the transport other than a cancellation.
SendOutcome = Response | SendFailure | ResponseTooLarge | Vetoed

# How often one call is resent after a rejected token. If another program fetches tokens as well, a new token may be
# valid for a moment only.
MAX_TOKEN_RESENDS: Final = 10
# How many of these resends may follow each other, unless one of the rejected tokens had been accepted before, in any
# call. If new tokens are rejected from the start, further ones do not help.
MAX_RESENDS_SINCE_ACCEPTED: Final = 3
# A shorter token, as in tests, could occur in a reply by chance, and redacting it would corrupt the reply.
MIN_REDACTABLE_LENGTH: Final = 20


@attrs.define(repr=False, eq=False)
class ActiveToken:
    """Access token that calls send now. It is compared by identity.

    All calls with the session's token share one object; a call with a token of its own has an object of its own.
    `generation` numbers the tokens of a platform; it is 0 for a token that the caller passed. `accepted` is set once
    the platform has accepted the token in any call.
    """

    value: Secret
    generation: int
    accepted: bool = False


class CallCredentials(Protocol):
    """Where a call gets its token, and reports that it was rejected: the session's `TokenCache`, or a `StaticToken`.

    Whether an endpoint needs a token at all is its `Credential`.
    """

    def cached(self) -> ActiveToken | None:
        """Return a token that can be used at once, or None if `get` must decide."""
        ...

    async def get(self) -> ActiveToken:
        """Return a valid token, fetching one if needed; raise the reason if none can be obtained."""
        ...

    def invalidate(self, token: ActiveToken, errcode: int, /) -> bool:
        """Record that the platform rejected *token*; return whether `get` can return another one."""
        ...


@attrs.frozen(eq=False)
class StaticToken:
    """Credentials with a token that the caller passed; it is never refreshed."""

    token: ActiveToken

    def cached(self) -> ActiveToken:
        return self.token

    async def get(self) -> ActiveToken:
        return self.token

    def invalidate(self, _token: ActiveToken, _errcode: int, /) -> bool:
        return False


@attrs.define(repr=False, eq=False)
class _Call(Generic[R]):
    """Arguments and progress of one call.

    - `number`: number of the call within its session, in its events.
    - `attempts`: attempts so far, the current one included.
    - `counted_failures`: failed attempts that count towards the retry limits, so without those that led to a resend.
    - `retry_time`: seconds spent in attempts and backoffs, without other waits.
    - `maybe_acted`: failed attempts that may have taken effect.
    - `token_resends`: resends after a rejected token.
    - `resends_since_accepted`: the same, counted from the last rejected token that had been accepted before.
    - `reservation`: a pass of its path that its caller has made already.
    - `attempt_started_at`: when the current attempt began, on the clock of the event loop.
    """

    endpoint: Endpoint[R]
    body: RequestBody
    query: Mapping[str, str] | None
    retry_policy: RetryPolicy
    credentials: CallCredentials
    dispatcher: HookDispatcher
    number: int
    may_send: Callable[[], bool] | None
    reservation: PathReservation | None
    attempts: int = 0
    counted_failures: int = 0
    retry_time: float = 0.0
    maybe_acted: int = 0
    token_resends: int = 0
    resends_since_accepted: int = 0
    attempt_started_at: float = 0.0
    holds_slot: bool = False

    def annotate(self, error: WxtcbError) -> None:
        """Add the name of the call, the number of attempts and of possible effects to *error*."""
        path, name, message = self.endpoint.path, self.endpoint.name, str(error)
        # The path alone does not say which coroutine failed: one path may serve several.
        if message.startswith(f"{path}: ") and not path.endswith(f"/{name}"):
            error.args = (f"{name} ({path}){message[len(path) :]}",)
        error.maybe_acted = self.maybe_acted
        # After one attempt the number says nothing.
        if self.attempts > 1:
            error.add_note(f"tried {self.attempts} times; attempts and backoffs took {self.retry_time:.1f} s")
        if self.maybe_acted:
            unsafe = self.endpoint.repeat.is_unsafe_to_repeat
            advice = "; check whether the call took effect before retrying" if unsafe else ""
            error.add_note(f"{self.maybe_acted} of {self.attempts} attempts may have taken effect{advice}")


@attrs.define(repr=False, eq=False)
class RequestExecutor:
    """Executor of calls for one session: all calls share its transport, its limiter and its retry quota.

    `now` is the clock of the event loop, and `uniform` draws the jitter of backoffs.
    """

    transport: Transport
    limiter: RequestLimiter
    now: Callable[[], float]
    quota: RetryQuota = attrs.field(factory=RetryQuota)
    uniform: Callable[[float, float], float] = random.uniform
    _call_numbers: itertools.count[int] = attrs.field(init=False, factory=itertools.count)

    def execute(
        self,
        endpoint: Endpoint[R],
        body: RequestBody,
        *,
        retry_policy: RetryPolicy,
        credentials: CallCredentials,
        dispatcher: HookDispatcher,
        query: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
        reservation: PathReservation | None = None,
    ) -> Coroutine[None, None, R]:
        """Run one call: send *body* to *endpoint* until it succeeds or must not be sent again.

        The coroutine returns the reply. If the last attempt failed, it raises its error, or `OutcomeUnknown`. If no
        token can be obtained, it raises the reason; if the session closes during a wait, `SessionClosed`. *may_send* is
        called before each request is sent; unless it returns True, the call ends with `SendVetoed`. With *reservation*
        it does not wait for its path again.
        """
        number = next(self._call_numbers)
        call = _Call(endpoint, body, query, retry_policy, credentials, dispatcher, number, may_send, reservation)
        # This method is not a coroutine function itself: one coroutine less to step through makes every call faster.
        return self._execute_with_events(call) if dispatcher.is_observed else self._execute(call)

    async def _execute_with_events(self, call: _Call[R]) -> R:
        """Run the call between its `CallStarted` and `CallFinished` events."""
        path, started = call.endpoint.path, self.now()
        call.dispatcher.emit(events.CallStarted(path, call.number))
        error: WxtcbError | None = None
        cancelled = False
        try:
            return await self._execute(call)
        except WxtcbError as caught:
            error = caught
            raise
        except BaseException:
            # CancelledError, GeneratorExit of a coroutine that is closed, and bugs: the call ended without a result.
            cancelled = True
            raise
        finally:
            elapsed = self.now() - started
            call.dispatcher.emit(events.CallFinished(path, call.number, call.attempts, elapsed, error, cancelled))

    async def _execute(self, call: _Call[R]) -> R:
        """Run the attempts of the call, annotate its error, and release its slot."""
        try:
            return await self._run_attempts(call)
        except WxtcbError as error:
            call.annotate(error)
            raise
        except asyncio.CancelledError:
            # A cancelled call has no error to put `maybe_acted` on, so an event reports it.
            if call.maybe_acted and call.endpoint.repeat.is_unsafe_to_repeat:
                call.dispatcher.emit(events.Abandoned(call.endpoint.path, call.maybe_acted))
            raise
        finally:
            # During a backoff, and while it waits for admission, the call holds no slot.
            if call.holds_slot:
                self.limiter.release()

    async def _run_attempts(self, call: _Call[R]) -> R:
        """Send the request until an attempt succeeds; `_on_failure` raises when there must be no further attempt."""
        endpoint = call.endpoint
        while True:
            # A call that is resent with a newer token still holds its slot. `try_acquire` does not wait; with it, most
            # calls need no further coroutine.
            if call.reservation is not None:
                reservation, call.reservation = call.reservation, None
                await self.limiter.acquire_reserved(endpoint.path, reservation)
            elif not (call.holds_slot or self.limiter.try_acquire(endpoint.path)):
                await self.limiter.acquire(endpoint.path)
            call.holds_slot = True

            # The token is read after admission, because it could be replaced while the call queues. The call holds its
            # slot while it waits for a token; fetching one takes no slot. `cached`, like `try_acquire`, does not wait.
            token = None
            if endpoint.credential is Credential.COMPONENT:
                token = call.credentials.cached() or await call.credentials.get()

            call.attempt_started_at = self.now()
            # Counted first: a call that is cancelled in this attempt must report it, too.
            call.attempts += 1
            secret = token.value if token else None
            request = Request(endpoint.path, call.body, secret, call.query, call.may_send, endpoint.max_reply_bytes)
            result = await self.send_once(endpoint, request)
            if isinstance(result, Reply):
                return self._on_success(call, result, token)
            if isinstance(result, SendCancelled):
                # A read has no effect.
                if result.sent and endpoint.repeat is not Repeat.READ:
                    call.maybe_acted += 1
                # A new CancelledError: the transport's own one refers to frames that hold the token. It has the same
                # arguments, because anyio recognises its cancellations by them.
                raise asyncio.CancelledError(*result.args)
            # Any other result is an error.
            call.retry_time += self.now() - call.attempt_started_at
            if isinstance(result, SendVetoed):
                # The caller forbade this attempt, so it does not count.
                call.attempts -= 1
            await self._on_failure(call, result, token)

    async def send_once(self, endpoint: Endpoint[R], request: Request) -> R | WxtcbError | SendCancelled:
        """Send *request* once and return the reply, the error or the cancellation.

        Errors are returned, so that no traceback refers to the frames of the transport, which hold the token. No slot
        is taken: a token is fetched with this method while calls that wait for it may hold all slots.
        """
        outcome = await self.transport.send(request)
        if isinstance(outcome, SendCancelled):
            return outcome
        # The token is redacted from the body, because the reply keeps its raw JSON. The `secrets` are redacted from
        # error messages only: a reply may legitimately return a value that was sent.
        outcome = _redact_token(outcome, request.token)
        secrets = request.body.secrets if request.token is None else (*request.body.secrets, request.token)
        if isinstance(outcome, Response) and outcome.status == 200 and len(outcome.body) > LARGE_REPLY_BYTES:
            # A large reply is decoded in slices between which other tasks run, so this is a point of cancellation.
            try:
                return await read_large_reply(endpoint, outcome.body, secrets)
            except asyncio.CancelledError as error:
                return SendCancelled(error.args, sent=True)
        return read_result(endpoint, outcome, secrets)

    def _on_success(self, call: _Call[R], reply: R, token: ActiveToken | None) -> R:
        """Record the success and return *reply*, marked if earlier attempts may have taken effect as well."""
        if token is not None:
            token.accepted = True
        self.quota.record_success()
        if call.maybe_acted and call.endpoint.repeat.is_unsafe_to_repeat:
            attach_metadata(reply, maybe_acted=call.maybe_acted)
            call.dispatcher.emit(events.PossibleDuplicate(call.endpoint.path, call.maybe_acted))
        return reply

    async def _on_failure(self, call: _Call[R], error: WxtcbError, token: ActiveToken | None) -> None:
        """Prepare the next attempt (a newer token, a paused path, a backoff), or raise if there must be none."""
        repeat, failure = call.endpoint.repeat, classify(error)
        # A lost reply does not show whether the call took effect. A read has no effect.
        if failure in AMBIGUOUS_FAILURES and repeat is not Repeat.READ:
            call.maybe_acted += 1
        if token is not None and failure is not FailureKind.INVALID_TOKEN and isinstance(error, ApiError):
            # The platform checks the token first, so any other errcode shows that it accepted this one.
            token.accepted = True

        match decide(repeat, failure, busy_creates=call.retry_policy.busy_creates):
            case RetryDecision.REFRESH_TOKEN if token is not None:
                # The slot is held during the refresh, because another call that got it would wait for the same refresh.
                await self._refresh_token(call, error, token)
            case RetryDecision.WAIT_FOR_RATE_LIMIT:
                # The call gives its slot to calls of other paths, and waits in `acquire` until its path is no longer
                # paused. Such resends are unlimited: the rejected request had no effect, and the pause bounds their
                # rate.
                call.holds_slot = False
                self.limiter.release()
                seconds = self.limiter.pause(call.endpoint.path, sent_at=call.attempt_started_at)
                # None: another call was rejected first, and has paused the path already.
                if seconds is not None:
                    call.dispatcher.emit(events.EndpointRateLimited(call.endpoint.path, seconds))
                self._emit_resent(call, error, failure)
            case RetryDecision.RETRY:
                call.holds_slot = False
                self.limiter.release()
                await self._backoff(call, error, failure)
            case RetryDecision.RAISE_OUTCOME_UNKNOWN:
                raise OutcomeUnknown(error, endpoint=call.endpoint.path) from error
            # RAISE, and a rejected token of a call that sent none.
            case _:
                raise error

    async def _refresh_token(self, call: _Call[R], error: WxtcbError, token: ActiveToken) -> None:
        """Return once a newer token than *token* is available; raise *error* if the call may not be resent.

        A resend needs no backoff, because a rejected request had no effect. `MAX_TOKEN_RESENDS` and
        `MAX_RESENDS_SINCE_ACCEPTED` end a call whose tokens keep being rejected.
        """
        # Always an ApiError: `classify` returns INVALID_TOKEN for no other error.
        errcode = error.errcode if isinstance(error, ApiError) else 0
        # False only for a token that the caller passed.
        if not call.credentials.invalidate(token, errcode):
            error.add_hint("The token is your own (token=), so wxtcb did not refresh it; pass a valid token.")
            raise error
        call.token_resends += 1
        # A token that was accepted before has expired or was replaced. That is normal, so the count begins anew.
        call.resends_since_accepted = 1 if token.accepted else call.resends_since_accepted + 1
        if call.token_resends <= MAX_TOKEN_RESENDS and call.resends_since_accepted <= MAX_RESENDS_SINCE_ACCEPTED:
            newer = await call.credentials.get()
            # Always true: `TokenCache` returns another object, and `StaticToken` has ended the call above. The check
            # keeps a wrong implementation of `CallCredentials` from resending a rejected token.
            if newer is not token:
                self._emit_resent(call, error, FailureKind.INVALID_TOKEN)
                return
        error.add_hint(
            "Refreshing the token did not help. If another program fetches tokens for this platform, "
            "share one token_store with it."
        )
        raise error

    async def _backoff(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        """Wait before the next attempt; raise *error* if the policy or the retry quota allows none."""
        call.counted_failures += 1
        policy, path = call.retry_policy, call.endpoint.path
        delay = policy.backoff(call.counted_failures, self.uniform)
        is_last = call.counted_failures >= policy.max_attempts(call.endpoint.repeat)
        # The quota comes last, so that a call which ends anyway takes nothing from what all calls share.
        if is_last or call.retry_time + delay > policy.window or not self.quota.acquire_retry(error):
            raise error
        call.dispatcher.emit(
            events.RetryScheduled(
                path, call.number, attempt=call.counted_failures, delay=delay, error=error, reason=failure.label
            )
        )
        # This sleep ends with SessionClosed as soon as the session closes.
        await self.limiter.sleep(delay)
        call.retry_time += delay

    def _emit_resent(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        # One invalid token can fail thousands of calls at once, so the event is built only if it has an observer.
        if call.dispatcher.is_observed:
            call.dispatcher.emit(events.RequestResent(call.endpoint.path, call.number, error, failure.label))


def _redact_token(outcome: SendOutcome, token: Secret | None) -> SendOutcome:
    """Return *outcome* with the token redacted, if the response echoes it."""
    if token is not None and isinstance(outcome, Response):
        value = token.reveal().encode()
        if len(value) >= MIN_REDACTABLE_LENGTH and value in outcome.body:
            return attrs.evolve(outcome, body=outcome.body.replace(value, b"***"))
    return outcome


def read_result(endpoint: Endpoint[R], outcome: SendOutcome, secrets: tuple[Secret, ...]) -> R | WxtcbError:
    """Return the reply or the error for the *outcome* of one attempt; *secrets* are redacted from error messages."""
    match outcome:
        case Response(200, body):
            return read_reply(endpoint, body, secrets)
        case Response(status, body):
            redirect = 300 <= status < 400
            # A redirect is not followed: it would send the token to another host.
            reason = "a redirect, which wxtcb does not follow" if redirect else excerpt(endpoint, body, secrets)
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=redirect)
        case ResponseTooLarge(status):
            reason = f"a reply of more than {endpoint.max_reply_bytes:,} bytes"
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=True)
        case Vetoed():
            return SendVetoed(endpoint=endpoint.path)
        case SendFailure(reason, closed=True):
            return SessionClosed(f"{reason}; no request was sent")
        case _:
            error = TransportError(
                outcome.reason,
                endpoint=endpoint.path,
                sent=outcome.sent,
                timeout=outcome.timeout,
                permanent=outcome.permanent,
            )
            if outcome.hint:
                error.add_hint(outcome.hint)
            return error
