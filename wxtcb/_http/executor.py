"""Request executor: runs one call from admission to its reply.

For each attempt the executor takes a slot from the limiter, gets a token, sends the request and classifies the result.
A failure is retried, resent with a newer token, delayed until the rate limit allows it again, or raised. The rules are
in `wxtcb._http.retry`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb._http.retry import AMBIGUOUS_FAILURES, FailureKind, RetryDecision, RetryPolicy, RetryQuota, classify, decide
from wxtcb._http.transport import (
    MAX_REPLY_BYTES,
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
from wxtcb.events import (
    Abandoned,
    CallFinished,
    CallStarted,
    EndpointRateLimited,
    PossibleDuplicate,
    RequestResent,
    RetryScheduled,
)
from wxtcb.telemetry.dispatch import HookDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from wxtcb._concurrency.limiter import RequestLimiter
    from wxtcb.secret import Secret

R = TypeVar("R", bound=Reply)

CompletedSend = Response | SendFailure | ResponseTooLarge | Vetoed

# Limits for a call whose tokens keep being rejected, for example because another program fetches tokens as well:
# resends in all, and tokens in a row that the platform accepted for no call of this process.
MAX_RESENDS: Final = 10
MAX_UNACCEPTED_TOKENS: Final = 3
MIN_REDACTABLE_LENGTH: Final = 20


@attrs.define(repr=False, eq=False)
class Token:
    """Access token in use by the calls of this process; `accepted` is set once the platform has accepted it."""

    value: Secret
    generation: int
    accepted: bool = False


class Credentials(Protocol):
    """Source of the token for a call."""

    def cached(self) -> Token | None:
        """Return a valid token that is available without waiting, or None."""
        ...

    async def get(self) -> Token:
        """Return a valid token, fetching one if needed; raise the reason if none can be obtained."""
        ...

    def invalidate(self, token: Token, errcode: int, /) -> bool:
        """Record that the platform rejected *token* with *errcode*; return whether `get` can return another one."""
        ...


@attrs.frozen(eq=False)
class StaticToken:
    """Credentials with a token that the caller passed; it is never refreshed."""

    token: Token

    def cached(self) -> Token:
        return self.token

    async def get(self) -> Token:
        return self.token

    def invalidate(self, _token: Token, _errcode: int, /) -> bool:
        return False


@attrs.define(repr=False, eq=False)
class _Call(Generic[R]):
    """Arguments and progress of one call.

    `sends` counts the requests that were sent. `attempts` counts those that failed within the retry budget, and
    `elapsed` the seconds spent sending and backing off. `maybe_acted` counts the sends that may have taken effect.
    """

    endpoint: Endpoint[R]
    body: RequestBody
    query: Mapping[str, str] | None
    policy: RetryPolicy
    credentials: Credentials
    dispatcher: HookDispatcher
    number: int
    may_send: Callable[[], bool] | None
    sends: int = 0
    attempts: int = 0
    elapsed: float = 0.0
    maybe_acted: int = 0
    resends: int = 0
    unaccepted_tokens: int = 0
    sent_at: float = 0.0
    holds_slot: bool = False

    def annotate(self, error: WxtcbError) -> None:
        """Add the number of sends and of possible effects to *error*."""
        error.maybe_acted = self.maybe_acted
        if self.sends > 1:
            error.add_note(f"sent {self.sends} times in {self.elapsed:.1f} s")
        if self.maybe_acted:
            unsafe = self.endpoint.repeat.is_unsafe_to_repeat
            advice = "; check whether it took effect before retrying" if unsafe else ""
            error.add_note(f"{self.maybe_acted} of these may have taken effect{advice}")


@attrs.define(repr=False, eq=False)
class RequestExecutor:
    """Executor of calls for one session: all calls share its transport, its limiter and its retry quota."""

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
        policy: RetryPolicy,
        credentials: Credentials,
        dispatcher: HookDispatcher,
        query: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Coroutine[None, None, R]:
        """Run one call: send *body* to *endpoint* until it succeeds or must not be sent again.

        The coroutine returns the reply, or raises the error of the last attempt. Before each send *may_send* is called;
        unless it returns True, the call ends with `SendVetoed`.
        """
        call = _Call(endpoint, body, query, policy, credentials, dispatcher, next(self._call_numbers), may_send)
        # This method is not a coroutine function itself: one coroutine less to step through makes every call faster.
        return self._execute_with_events(call) if dispatcher else self._execute(call)

    async def _execute_with_events(self, call: _Call[R]) -> R:
        """Run the call between its `CallStarted` and `CallFinished` events."""
        path, started = call.endpoint.path, self.now()
        call.dispatcher.emit(CallStarted(path, call.number))
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
            call.dispatcher.emit(CallFinished(path, call.number, call.sends, elapsed, error, cancelled))

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
                call.dispatcher.emit(Abandoned(call.endpoint.path, call.maybe_acted))
            raise
        finally:
            # During a backoff, and while it waits for admission, the call holds no slot.
            if call.holds_slot:
                self.limiter.release()

    async def _run_attempts(self, call: _Call[R]) -> R:
        """Send the request until an attempt succeeds; `_on_failure` raises when there must be no further attempt."""
        endpoint = call.endpoint
        while True:
            # A call that is resent with a newer token still holds its slot. `try_acquire` saves most calls an await.
            if not (call.holds_slot or self.limiter.try_acquire(endpoint.path)):
                await self.limiter.acquire(endpoint.path)
            call.holds_slot = True

            # The token is read after admission: a token read before it could be replaced while the call queues.
            token = None
            if endpoint.credential is Credential.COMPONENT:
                token = call.credentials.cached() or await call.credentials.get()

            call.sent_at = self.now()
            # Count before sending: a call that is cancelled during the send must report this send, too.
            call.sends += 1
            request = Request(endpoint.path, call.body, token.value if token else None, call.query, call.may_send)
            result = await self.send_once(endpoint, request)
            if isinstance(result, Reply):
                return self._on_success(call, result, token)
            if isinstance(result, SendCancelled):
                if result.sent and endpoint.repeat is not Repeat.READ:
                    call.maybe_acted += 1
                # A new CancelledError: the transport's own one refers to frames that hold the token. It has the same
                # arguments, because anyio recognises its cancellations by them.
                raise asyncio.CancelledError(*result.args)
            call.elapsed += self.now() - call.sent_at
            # A vetoed attempt was counted above, but it sent nothing.
            if isinstance(result, SendVetoed):
                call.sends -= 1
            await self._on_failure(call, result, token)

    async def send_once(self, endpoint: Endpoint[R], request: Request) -> R | WxtcbError | SendCancelled:
        """Send *request* once and return the reply, the error or the cancellation.

        Errors are returned, not raised, so that no traceback refers to the frames of the transport, which hold the
        token.
        """
        outcome = await self.transport.send(request)
        if isinstance(outcome, SendCancelled):
            return outcome
        secrets = request.body.secrets if request.token is None else (*request.body.secrets, request.token)
        outcome = _redact_token(outcome, request.token)
        if not (isinstance(outcome, Response) and outcome.status == 200 and len(outcome.body) > LARGE_REPLY_BYTES):
            return read_result(endpoint, outcome, secrets)
        # A large reply is decoded in slices between which other tasks run, so this is a point of cancellation.
        try:
            return await read_large_reply(endpoint, outcome.body, secrets)
        except asyncio.CancelledError as error:
            return SendCancelled(error.args, sent=True)

    def _on_success(self, call: _Call[R], reply: R, token: Token | None) -> R:
        """Record the success and return *reply*, marked if earlier attempts may have taken effect as well."""
        if token is not None:
            token.accepted = True
        self.quota.release()
        if call.maybe_acted and call.endpoint.repeat.is_unsafe_to_repeat:
            attach_metadata(reply, maybe_acted=call.maybe_acted)
            call.dispatcher.emit(PossibleDuplicate(call.endpoint.path, call.maybe_acted))
        return reply

    async def _on_failure(self, call: _Call[R], error: WxtcbError, token: Token | None) -> None:
        """Wait until the call may be sent again and return, or raise if it must not be."""
        repeat, failure = call.endpoint.repeat, classify(error)
        if failure in AMBIGUOUS_FAILURES and repeat is not Repeat.READ:
            call.maybe_acted += 1
        if token is not None and failure is not FailureKind.INVALID_TOKEN and isinstance(error, ApiError):
            # The platform checks the token first, so any other errcode shows that it accepted this one.
            token.accepted = True

        match decide(repeat, failure, busy_creates=call.policy.busy_creates):
            case RetryDecision.REFRESH_TOKEN if token is not None:
                # The slot is held during the refresh: other calls would only meet the same invalid token.
                await self._refresh_token(call, error, token)
            case RetryDecision.WAIT_FOR_RATE_LIMIT:
                # Without its slot the call waits in `acquire` for its path, and other paths can use the slot.
                call.holds_slot = False
                self.limiter.release()
                seconds = self.limiter.pause(call.endpoint.path, sent_at=call.sent_at)
                if seconds is not None:
                    call.dispatcher.emit(EndpointRateLimited(call.endpoint.path, seconds))
                self._emit_resent(call, error, failure)
            case RetryDecision.RETRY:
                call.holds_slot = False
                self.limiter.release()
                await self._backoff(call, error, failure)
            case RetryDecision.RAISE_OUTCOME_UNKNOWN:
                raise OutcomeUnknown(error, endpoint=call.endpoint.path)
            case _:
                raise error

    async def _refresh_token(self, call: _Call[R], error: WxtcbError, token: Token) -> None:
        """Return once a newer token than *token* is available; raise *error* if the call may not be resent.

        A resend needs no backoff, because a rejected request had no effect. Two limits end a call whose tokens keep
        being rejected: `MAX_RESENDS` in all, and `MAX_UNACCEPTED_TOKENS` in a row of tokens that were never accepted.
        """
        errcode = error.errcode if isinstance(error, ApiError) else 0
        if not call.credentials.invalidate(token, errcode):
            error.add_hint("The token is your own (token=), so wxtcb did not refresh it; pass a valid token.")
            raise error
        if token.accepted:
            call.unaccepted_tokens = 0
        call.unaccepted_tokens += 1
        call.resends += 1
        if (
            call.resends > MAX_RESENDS
            or call.unaccepted_tokens > MAX_UNACCEPTED_TOKENS
            or await call.credentials.get() is token
        ):
            error.add_hint(
                "Refreshing the token did not help. If another program fetches tokens for this platform, "
                "share one token_store with it."
            )
            raise error
        self._emit_resent(call, error, FailureKind.INVALID_TOKEN)

    async def _backoff(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        """Wait before the next attempt; raise *error* if the policy or the retry quota allows none."""
        call.attempts += 1
        policy = call.policy
        delay = policy.backoff(call.attempts, self.uniform)
        if call.attempts >= policy.max_attempts(call.endpoint.repeat) or call.elapsed + delay > policy.window:
            raise error
        # The quota is drawn on last, so that a call which ends anyway takes nothing from the others.
        if not self.quota.acquire(error):
            raise error
        call.dispatcher.emit(
            RetryScheduled(call.endpoint.path, call.number, call.attempts, delay, error, failure.label)
        )
        await self.limiter.sleep(delay)
        call.elapsed += delay

    def _emit_resent(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        # One invalid token can fail thousands of calls at once, so the event is built only if it has an observer.
        if call.dispatcher:
            call.dispatcher.emit(RequestResent(call.endpoint.path, call.number, error, failure.label))


def _redact_token(response: CompletedSend, token: Secret | None) -> CompletedSend:
    """Redact the token if the response echoes it."""
    if token is None or not isinstance(response, Response):
        return response
    value = token.reveal().encode()
    # A short token, as in tests, could occur in a reply by chance, and redacting it would corrupt the reply.
    if len(value) < MIN_REDACTABLE_LENGTH or value not in response.body:
        return response
    return attrs.evolve(response, body=response.body.replace(value, b"***"))


def read_result(endpoint: Endpoint[R], result: CompletedSend, secrets: tuple[Secret, ...]) -> R | WxtcbError:
    """Return the reply or the error for the *result* of one attempt; *secrets* are redacted from error messages."""
    match result:
        case Response(200, body):
            return read_reply(endpoint, body, secrets)
        case Response(status, body):
            redirect = 300 <= status < 400
            # A redirect is not followed: it would send the token to another host.
            reason = "a redirect, which wxtcb does not follow" if redirect else excerpt(endpoint, body, secrets)
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=redirect)
        case ResponseTooLarge(status):
            reason = f"a reply larger than {MAX_REPLY_BYTES >> 20} MiB"
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=True)
        case Vetoed():
            return SendVetoed(endpoint=endpoint.path)
    if result.closed:
        return SessionClosed(f"{result.reason}; no request was sent")
    return TransportError(result.reason, endpoint=endpoint.path, sent=result.sent, timeout=result.timeout)
