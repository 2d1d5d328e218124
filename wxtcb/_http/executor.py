"""The one loop: admit, take the credential, send, judge, and again or return."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import attrs

from wxtcb._http.retry import MAY_HAVE_ACTED, Cause, RetryPolicy, RetryQuota, Verdict, cause_of, judge
from wxtcb._http.transport import MAX_REPLY, Answer, Cancelled, Failure, HeldBack, Request, TooLarge, Transport
from wxtcb._protocol.codec import LARGE, Body, excerpt, read_large_reply, read_reply
from wxtcb._protocol.endpoint import Credential, Endpoint, Repeat, Reply, mark
from wxtcb.errors import ApiError, BadReply, OutcomeUnknown, SessionClosed, TransportError, Withheld, WxtcbError
from wxtcb.events import Abandoned, CallFinished, CallStarted, MayHaveActed, PathPaused, Resending, Retrying
from wxtcb.telemetry.dispatch import Observers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from wxtcb._concurrency.limiter import Gate
    from wxtcb.secret import Secret

R = TypeVar("R", bound=Reply)

Result = Answer | Failure | TooLarge | HeldBack

MOST_RESENDS: Final = 10
MOST_UNACCEPTED: Final = 3
LONG: Final = 20


@attrs.define(repr=False, eq=False)
class Token:
    """A component_access_token as the calls of this process know it; `accepted` once the platform took it."""

    value: Secret
    generation: int
    accepted: bool = False


class Credentials(Protocol):
    """Where a call gets its token from."""

    def get(self) -> Token | None:
        """Return the token if it is good to use, without waiting."""
        ...

    async def wait(self) -> Token:
        """Wait for a token that is good to use; raise why there is none."""
        ...

    def expire(self, token: Token, errcode: int, /) -> bool:
        """Hear that the platform calls *token* dead; return whether `wait` may give another one."""
        ...


@attrs.frozen(eq=False)
class FixedToken:
    """A caller's own token: sent as it is, never renewed."""

    token: Token

    def get(self) -> Token:
        return self.token

    async def wait(self) -> Token:
        return self.token

    def expire(self, _token: Token, _errcode: int, /) -> bool:
        return False


@attrs.define(repr=False, eq=False)
class _Call(Generic[R]):
    """One call, and what it has been through so far."""

    endpoint: Endpoint[R]
    body: Body
    query: Mapping[str, str] | None
    policy: RetryPolicy
    credentials: Credentials
    observers: Observers
    number: int
    may_send: Callable[[], bool] | None
    sends: int = 0
    attempts: int = 0
    spent: float = 0.0
    maybe_acted: int = 0
    resends: int = 0
    unaccepted: int = 0
    sent_at: float = 0.0
    holds_slot: bool = False

    def may_resend(self, token: Token) -> bool:
        """Count another send after *token* was called dead, or return False when there were enough."""
        if token.accepted:
            self.unaccepted = 0
        self.resends += 1
        self.unaccepted += 1
        return self.resends <= MOST_RESENDS and self.unaccepted <= MOST_UNACCEPTED

    def may_retry(self, wait: float) -> bool:
        """Tell whether the policy allows another attempt after *wait* seconds."""
        most = self.policy.most_attempts(self.endpoint.repeat)
        return self.attempts < most and self.spent + wait <= self.policy.window

    def conclude(self, error: WxtcbError) -> None:
        """Write on *error* what the call went through."""
        error.maybe_acted = self.maybe_acted
        if self.sends > 1:
            error.add_note(f"sent {self.sends} times in {self.spent:.1f} s")
        if self.maybe_acted:
            advice = ": look before you send it again" if self.endpoint.repeat.is_once else ""
            error.add_note(f"{self.maybe_acted} of these may have taken effect{advice}")


@attrs.define(repr=False, eq=False)
class Exchange:
    """Brings calls to the platform and back, by the rules of `wxtcb._http.retry`."""

    transport: Transport
    gate: Gate
    now: Callable[[], float]
    quota: RetryQuota = attrs.field(factory=RetryQuota)
    uniform: Callable[[float, float], float] = random.uniform
    _numbers: itertools.count[int] = attrs.field(init=False, factory=itertools.count)

    def call(
        self,
        endpoint: Endpoint[R],
        body: Body,
        *,
        policy: RetryPolicy,
        credentials: Credentials,
        observers: Observers,
        query: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Coroutine[None, None, R]:
        """Send *body* until it is answered or may not be sent again; return the reply or raise the last real error."""
        call = _Call(endpoint, body, query, policy, credentials, observers, next(self._numbers), may_send)
        return self._observed(call) if observers else self._guarded(call)

    async def attempt(self, endpoint: Endpoint[R], request: Request) -> R | WxtcbError | Cancelled:
        """Send once; what went wrong is returned, not raised, so that no traceback passes the token."""
        outcome = await self.transport.send(request)
        if isinstance(outcome, Cancelled):
            return outcome
        hide = request.body.secrets if request.token is None else (*request.body.secrets, request.token)
        outcome = _blot(outcome, request.token)
        if not (isinstance(outcome, Answer) and outcome.status == 200 and len(outcome.body) > LARGE):
            return read_outcome(endpoint, outcome, hide)
        try:
            return await read_large_reply(endpoint, outcome.body, hide)
        except asyncio.CancelledError as error:
            return Cancelled(error.args, sent=True)

    async def _observed(self, call: _Call[R]) -> R:
        path, started = call.endpoint.path, self.now()
        call.observers.emit(CallStarted(path, call.number))
        error: WxtcbError | None = None
        cancelled = False
        try:
            return await self._guarded(call)
        except WxtcbError as caught:
            error = caught
            raise
        except BaseException:
            cancelled = True
            raise
        finally:
            elapsed = self.now() - started
            call.observers.emit(CallFinished(path, call.number, call.sends, elapsed, error, cancelled))

    async def _guarded(self, call: _Call[R]) -> R:
        try:
            return await self._loop(call)
        except WxtcbError as error:
            call.conclude(error)
            raise
        except asyncio.CancelledError:
            if call.maybe_acted and call.endpoint.repeat.is_once:
                call.observers.emit(Abandoned(call.endpoint.path, call.maybe_acted))
            raise
        finally:
            if call.holds_slot:
                self.gate.leave()

    async def _loop(self, call: _Call[R]) -> R:
        endpoint = call.endpoint
        while True:
            if not (call.holds_slot or self.gate.try_enter(endpoint.path)):
                await self.gate.enter(endpoint.path)
            call.holds_slot = True
            token = None
            if endpoint.credential is Credential.COMPONENT:
                token = call.credentials.get() or await call.credentials.wait()
            call.sent_at = self.now()
            call.sends += 1
            request = Request(endpoint.path, call.body, token.value if token else None, call.query, call.may_send)
            result = await self.attempt(endpoint, request)
            if isinstance(result, Reply):
                return self._welcome(call, result, token)
            if isinstance(result, Cancelled):
                call.maybe_acted += result.sent and endpoint.repeat is not Repeat.READ
                raise asyncio.CancelledError(*result.args)
            call.spent += self.now() - call.sent_at
            call.sends -= isinstance(result, Withheld)
            await self._recover(call, result, token)

    def _give_slot_back(self, call: _Call[R]) -> None:
        call.holds_slot = False
        self.gate.leave()

    def _welcome(self, call: _Call[R], reply: R, token: Token | None) -> R:
        if token is not None:
            token.accepted = True
        self.quota.give_back()
        if call.maybe_acted and call.endpoint.repeat.is_once:
            mark(reply, maybe_acted=call.maybe_acted)
            call.observers.emit(MayHaveActed(call.endpoint.path, call.maybe_acted))
        return reply

    async def _recover(self, call: _Call[R], error: WxtcbError, token: Token | None) -> None:
        """Return when the call may be sent again, having waited as long as that takes; else raise."""
        repeat, cause = call.endpoint.repeat, cause_of(error)
        if cause in MAY_HAVE_ACTED and repeat is not Repeat.READ:
            call.maybe_acted += 1
        if token is not None and cause is not Cause.TOKEN_DEAD and isinstance(error, ApiError):
            token.accepted = True
        match judge(repeat, cause, busy_creates=call.policy.busy_creates):
            case Verdict.RENEW if token is not None:
                await self._renew(call, error, token)
            case Verdict.PAUSE:
                self._give_slot_back(call)
                self._pause(call, error)
            case Verdict.RETRY:
                self._give_slot_back(call)
                await self._back_off(call, error, cause)
            case Verdict.UNKNOWN:
                raise OutcomeUnknown(error, endpoint=call.endpoint.path)
            case _:
                raise error

    async def _renew(self, call: _Call[R], error: WxtcbError, token: Token) -> None:
        errcode = error.errcode if isinstance(error, ApiError) else 0
        if not call.credentials.expire(token, errcode):
            error.advise("It is a token of your own, so it was not renewed.")
            raise error
        if not call.may_resend(token) or await call.credentials.wait() is token:
            error.advise(
                "It was renewed as often as is sensible: if another program fetches tokens too, share one token_store."
            )
            raise error
        self._tell_of_resend(call, error, Cause.TOKEN_DEAD)

    def _pause(self, call: _Call[R], error: WxtcbError) -> None:
        seconds = self.gate.pause(call.endpoint.path, sent_at=call.sent_at)
        if seconds is not None:
            call.observers.emit(PathPaused(call.endpoint.path, seconds))
        self._tell_of_resend(call, error, Cause.MINUTE_LIMIT)

    def _tell_of_resend(self, call: _Call[R], error: WxtcbError, cause: Cause) -> None:
        if call.observers:
            call.observers.emit(Resending(call.endpoint.path, call.number, error, cause.word))

    async def _back_off(self, call: _Call[R], error: WxtcbError, cause: Cause) -> None:
        call.attempts += 1
        wait = call.policy.backoff(call.attempts, self.uniform)
        if not call.may_retry(wait) or not self.quota.take(error):
            raise error
        call.observers.emit(Retrying(call.endpoint.path, call.number, call.attempts, wait, error, cause.word))
        await self.gate.rest(wait)
        call.spent += wait


def _blot(outcome: Result, token: Secret | None) -> Result:
    """Take the token out of an answer that repeats it; it is too long to stand there by chance."""
    if token is None or not isinstance(outcome, Answer):
        return outcome
    value = token.reveal().encode()
    if len(value) < LONG or value not in outcome.body:
        return outcome
    return attrs.evolve(outcome, body=outcome.body.replace(value, b"***"))


def read_outcome(endpoint: Endpoint[R], outcome: Result, hide: tuple[Secret, ...]) -> R | WxtcbError:
    """Turn what came back over HTTP into the reply or the error it stands for."""
    match outcome:
        case Answer(200, body):
            return read_reply(endpoint, body, hide)
        case Answer(status, body):
            redirect = 300 <= status < 400
            reason = "a redirect, which is never followed" if redirect else excerpt(endpoint, body, hide)
            return BadReply(reason, endpoint=endpoint.path, status=status, lasting=redirect)
        case TooLarge(status):
            reason = f"a reply of more than {MAX_REPLY >> 20} MiB"
            return BadReply(reason, endpoint=endpoint.path, status=status, lasting=True)
        case HeldBack():
            return Withheld(endpoint=endpoint.path)
    if outcome.closed:
        return SessionClosed(f"{outcome.reason}; nothing was sent")
    return TransportError(outcome.reason, endpoint=endpoint.path, sent=outcome.sent, timeout=outcome.timeout)
