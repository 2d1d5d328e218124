"""The one loop: admit, take the credential, send, judge, and again or return."""

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

MAX_RESENDS: Final = 10
MAX_UNACCEPTED_TOKENS: Final = 3
MIN_REDACTABLE_LENGTH: Final = 20


@attrs.define(repr=False, eq=False)
class Token:
    """A component_access_token as the calls of this process know it; `accepted` once the platform took it."""

    value: Secret
    generation: int
    accepted: bool = False


class Credentials(Protocol):
    """Where a call gets its token from."""

    def cached(self) -> Token | None:
        """Return the token if it is good to use, without waiting."""
        ...

    async def get(self) -> Token:
        """Wait for a token that is good to use; raise why there is none."""
        ...

    def invalidate(self, token: Token, errcode: int, /) -> bool:
        """Hear that the platform calls *token* dead; return whether `get` may give another one."""
        ...


@attrs.frozen(eq=False)
class StaticToken:
    """A caller's own token: sent as it is, never renewed."""

    token: Token

    def cached(self) -> Token:
        return self.token

    async def get(self) -> Token:
        return self.token

    def invalidate(self, _token: Token, _errcode: int, /) -> bool:
        return False


@attrs.define(repr=False, eq=False)
class _Call(Generic[R]):
    """One call, and what it has been through so far."""

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

    def count_resend(self, token: Token) -> bool:
        """Count another send after *token* was called dead, or return False when there were enough."""
        if token.accepted:
            self.unaccepted_tokens = 0
        self.resends += 1
        self.unaccepted_tokens += 1
        return self.resends <= MAX_RESENDS and self.unaccepted_tokens <= MAX_UNACCEPTED_TOKENS

    def can_retry(self, wait: float) -> bool:
        """Tell whether the policy allows another attempt after *wait* seconds."""
        most = self.policy.max_attempts(self.endpoint.repeat)
        return self.attempts < most and self.elapsed + wait <= self.policy.window

    def annotate(self, error: WxtcbError) -> None:
        """Write on *error* what the call went through."""
        error.maybe_acted = self.maybe_acted
        if self.sends > 1:
            error.add_note(f"sent {self.sends} times in {self.elapsed:.1f} s")
        if self.maybe_acted:
            advice = ": look before you send it again" if self.endpoint.repeat.is_unsafe_to_repeat else ""
            error.add_note(f"{self.maybe_acted} of these may have taken effect{advice}")


@attrs.define(repr=False, eq=False)
class RequestExecutor:
    """Brings calls to the platform and back, by the rules of `wxtcb._http.retry`."""

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
        """Send *body* until it is answered or may not be sent again; return the reply or raise the last real error."""
        call = _Call(endpoint, body, query, policy, credentials, dispatcher, next(self._call_numbers), may_send)
        return self._execute_with_events(call) if dispatcher else self._execute(call)

    async def send_once(self, endpoint: Endpoint[R], request: Request) -> R | WxtcbError | SendCancelled:
        """Send once; what went wrong is returned, not raised, so that no traceback passes the token."""
        outcome = await self.transport.send(request)
        if isinstance(outcome, SendCancelled):
            return outcome
        hide = request.body.secrets if request.token is None else (*request.body.secrets, request.token)
        outcome = _redact_token(outcome, request.token)
        if not (isinstance(outcome, Response) and outcome.status == 200 and len(outcome.body) > LARGE_REPLY_BYTES):
            return read_result(endpoint, outcome, hide)
        try:
            return await read_large_reply(endpoint, outcome.body, hide)
        except asyncio.CancelledError as error:
            return SendCancelled(error.args, sent=True)

    async def _execute_with_events(self, call: _Call[R]) -> R:
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
            cancelled = True
            raise
        finally:
            elapsed = self.now() - started
            call.dispatcher.emit(CallFinished(path, call.number, call.sends, elapsed, error, cancelled))

    async def _execute(self, call: _Call[R]) -> R:
        try:
            return await self._run_attempts(call)
        except WxtcbError as error:
            call.annotate(error)
            raise
        except asyncio.CancelledError:
            if call.maybe_acted and call.endpoint.repeat.is_unsafe_to_repeat:
                call.dispatcher.emit(Abandoned(call.endpoint.path, call.maybe_acted))
            raise
        finally:
            if call.holds_slot:
                self.limiter.release()

    async def _run_attempts(self, call: _Call[R]) -> R:
        endpoint = call.endpoint
        while True:
            if not (call.holds_slot or self.limiter.try_acquire(endpoint.path)):
                await self.limiter.acquire(endpoint.path)
            call.holds_slot = True
            token = None
            if endpoint.credential is Credential.COMPONENT:
                token = call.credentials.cached() or await call.credentials.get()
            call.sent_at = self.now()
            call.sends += 1
            request = Request(endpoint.path, call.body, token.value if token else None, call.query, call.may_send)
            result = await self.send_once(endpoint, request)
            if isinstance(result, Reply):
                return self._on_success(call, result, token)
            if isinstance(result, SendCancelled):
                call.maybe_acted += result.sent and endpoint.repeat is not Repeat.READ
                raise asyncio.CancelledError(*result.args)
            call.elapsed += self.now() - call.sent_at
            call.sends -= isinstance(result, SendVetoed)
            await self._on_failure(call, result, token)

    def _release_slot(self, call: _Call[R]) -> None:
        call.holds_slot = False
        self.limiter.release()

    def _on_success(self, call: _Call[R], reply: R, token: Token | None) -> R:
        if token is not None:
            token.accepted = True
        self.quota.release()
        if call.maybe_acted and call.endpoint.repeat.is_unsafe_to_repeat:
            attach_metadata(reply, maybe_acted=call.maybe_acted)
            call.dispatcher.emit(PossibleDuplicate(call.endpoint.path, call.maybe_acted))
        return reply

    async def _on_failure(self, call: _Call[R], error: WxtcbError, token: Token | None) -> None:
        """Return when the call may be sent again, having waited as long as that takes; else raise."""
        repeat, cause = call.endpoint.repeat, classify(error)
        if cause in AMBIGUOUS_FAILURES and repeat is not Repeat.READ:
            call.maybe_acted += 1
        if token is not None and cause is not FailureKind.INVALID_TOKEN and isinstance(error, ApiError):
            token.accepted = True
        match decide(repeat, cause, busy_creates=call.policy.busy_creates):
            case RetryDecision.REFRESH_TOKEN if token is not None:
                await self._refresh_token(call, error, token)
            case RetryDecision.WAIT_FOR_RATE_LIMIT:
                self._release_slot(call)
                self._pause_endpoint(call, error)
            case RetryDecision.RETRY:
                self._release_slot(call)
                await self._backoff(call, error, cause)
            case RetryDecision.RAISE_OUTCOME_UNKNOWN:
                raise OutcomeUnknown(error, endpoint=call.endpoint.path)
            case _:
                raise error

    async def _refresh_token(self, call: _Call[R], error: WxtcbError, token: Token) -> None:
        errcode = error.errcode if isinstance(error, ApiError) else 0
        if not call.credentials.invalidate(token, errcode):
            error.add_hint("It is a token of your own, so it was not renewed.")
            raise error
        if not call.count_resend(token) or await call.credentials.get() is token:
            error.add_hint(
                "It was renewed as often as is sensible: if another program fetches tokens too, share one token_store."
            )
            raise error
        self._emit_resent(call, error, FailureKind.INVALID_TOKEN)

    def _pause_endpoint(self, call: _Call[R], error: WxtcbError) -> None:
        seconds = self.limiter.pause(call.endpoint.path, sent_at=call.sent_at)
        if seconds is not None:
            call.dispatcher.emit(EndpointRateLimited(call.endpoint.path, seconds))
        self._emit_resent(call, error, FailureKind.RATE_LIMITED)

    def _emit_resent(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        if call.dispatcher:
            call.dispatcher.emit(RequestResent(call.endpoint.path, call.number, error, failure.label))

    async def _backoff(self, call: _Call[R], error: WxtcbError, failure: FailureKind) -> None:
        call.attempts += 1
        wait = call.policy.backoff(call.attempts, self.uniform)
        if not call.can_retry(wait) or not self.quota.acquire(error):
            raise error
        call.dispatcher.emit(RetryScheduled(call.endpoint.path, call.number, call.attempts, wait, error, failure.label))
        await self.limiter.sleep(wait)
        call.elapsed += wait


def _redact_token(response: CompletedSend, token: Secret | None) -> CompletedSend:
    """Take the token out of an answer that repeats it; it is too long to stand there by chance."""
    if token is None or not isinstance(response, Response):
        return response
    value = token.reveal().encode()
    if len(value) < MIN_REDACTABLE_LENGTH or value not in response.body:
        return response
    return attrs.evolve(response, body=response.body.replace(value, b"***"))


def read_result(endpoint: Endpoint[R], result: CompletedSend, secrets: tuple[Secret, ...]) -> R | WxtcbError:
    """Turn what came back over HTTP into the reply or the error it stands for."""
    match result:
        case Response(200, body):
            return read_reply(endpoint, body, secrets)
        case Response(status, body):
            redirect = 300 <= status < 400
            reason = "a redirect, which is never followed" if redirect else excerpt(endpoint, body, secrets)
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=redirect)
        case ResponseTooLarge(status):
            reason = f"a reply of more than {MAX_REPLY_BYTES >> 20} MiB"
            return BadReply(reason, endpoint=endpoint.path, status=status, permanent=True)
        case Vetoed():
            return SendVetoed(endpoint=endpoint.path)
    if result.closed:
        return SessionClosed(f"{result.reason}; nothing was sent")
    return TransportError(result.reason, endpoint=endpoint.path, sent=result.sent, timeout=result.timeout)
