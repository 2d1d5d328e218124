"""One session per platform: opens and closes everything, and calls."""

from __future__ import annotations

import asyncio
import copy
import ssl as tls
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar, cast

import aiohttp
import attrs

from wxtcb._concurrency.limiter import Gate
from wxtcb._concurrency.shared_poll import OwnLooks, Sweep
from wxtcb._http.aiohttp_connector import open_transport
from wxtcb._http.executor import Exchange
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Timeout
from wxtcb._protocol.codec import check_action, check_readable, encode, with_action
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import InvalidArgument, PartialFailure, SessionClosed
from wxtcb.events import Hook, Stats
from wxtcb.options import (
    StoreURL,
    as_asker,
    as_fixed_token,
    as_proxy,
    as_secret,
    as_store,
    as_ticket_source,
    as_token_source,
    both_agree,
    check_partial,
)
from wxtcb.running import Lifetime, Running
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import Observers, as_hooks, introduce
from wxtcb.tokens.sources import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import TokenStore
from wxtcb.validation import (
    as_secret_or_none,
    check_base_url,
    check_count,
    check_query,
    check_seconds,
    check_text,
    field_is,
    forgetful,
    instance_is,
)

if TYPE_CHECKING:
    from types import TracebackType

    from wxtcb._object_storage.client import Transfers
    from wxtcb.tokens.health import Health


R = TypeVar("R", bound=Reply)
T = TypeVar("T")

Partial = Literal["raise", "return"]


def _check_base_url(session: Session, _: attrs.Attribute[str], value: str) -> None:
    check_base_url(value, allow_http=session.allow_http)


def _check_token_source(
    session: Session, _: attrs.Attribute[TokenSource | ReadOnly | None], source: TokenSource | ReadOnly | None
) -> None:
    if source is None and not session.component_appsecret:
        raise InvalidArgument("component_appsecret is missing; only with a token_source none is needed")
    if source is not None and session.ticket is not None:
        raise InvalidArgument("ticket: with a token_source no token is bought, so leave the ticket out")
    if isinstance(source, ReadOnly) and session.token_store is None:
        raise InvalidArgument("token_source: ReadOnly() takes tokens from a shared token_store, and there is none")


_RULES: Final = {"retry": instance_is(RetryPolicy, optional=False), "partial": field_is(check_partial)}


def _checked(name: str, session: Session, value: object) -> object:
    """Return the option that a view has: *value*, held to the rule of its field, or that of *session*."""
    if value is None:
        return getattr(session, name)
    _RULES[name](session, attrs.fields_dict(Session)[name], value)
    return value


@forgetful
@attrs.frozen(eq=False, kw_only=True)
class Session:
    """The platform's connections, its token, and the way to call; one per platform and process.

    Use it with ``async with``; it may be built before a fork and outside of a loop, and belongs to the loop that
    enters it. `ticket` is the newest component_verify_ticket or an async callable that gives it. `timeout` bounds one
    attempt, `connections` the calls under way and, apart from them, the files, `max_fetches_per_hour` the tokens minted
    (None: no ceiling). `base_url` may be plain http to this machine only, unless `allow_http`. An aiohttp session given
    as `http` is used with its connector and its TLS settings, but without its middlewares, and stays yours to close.
    `hooks` are called with every event of `wxtcb.events`. With ``partial="return"`` a batch that failed in part is
    returned, not raised.

    More than one process needs a shared `token_store`: without one each fetches a token, and the fetch of one voids the
    token of the other.

    Raises `InvalidArgument` for what cannot work. Secrets are in no repr.
    """

    component_appid: str = attrs.field(validator=field_is(check_text))
    component_appsecret: Secret = attrs.field(converter=as_secret)
    ticket: TicketSource | None = attrs.field(default=None, converter=as_ticket_source, repr=False)
    token_store: TokenStore | StoreURL | None = attrs.field(default=None, converter=as_store)
    token_source: TokenSource | ReadOnly | None = attrs.field(
        default=None, converter=as_token_source, repr=False, validator=_check_token_source
    )
    await_push: float | None = attrs.field(default=None, validator=field_is(check_seconds, optional=True))
    retry: RetryPolicy = attrs.field(factory=RetryPolicy, validator=_RULES["retry"])
    timeout: Timeout = attrs.field(factory=Timeout, validator=instance_is(Timeout, optional=False))
    connections: int = attrs.field(default=100, validator=field_is(check_count))
    max_fetches_per_hour: int | None = attrs.field(default=30, validator=field_is(check_count, optional=True))
    allow_http: bool = False
    base_url: str = attrs.field(
        default="https://api.weixin.qq.com",
        validator=_check_base_url,
    )
    proxy: Secret | None = attrs.field(default=None, converter=as_proxy)
    ssl: tls.SSLContext | None = attrs.field(default=None, repr=False, validator=instance_is(tls.SSLContext))
    http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(
        default=None, repr=False, validator=instance_is(aiohttp.ClientSession, aiohttp.TCPConnector)
    )
    hooks: tuple[Hook, ...] = attrs.field(default=(), converter=as_hooks)
    partial: Partial = attrs.field(default="raise", validator=_RULES["partial"])
    _observers: Observers = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: Observers.of(self, self.hooks), takes_self=True)
    )
    _core: Lifetime = attrs.field(init=False, repr=False, factory=Lifetime)
    _is_view: bool = attrs.field(init=False, repr=False, default=False)
    _may_send: Callable[[], bool] | None = attrs.field(init=False, repr=False, default=None)

    async def __aenter__(self) -> Self:
        self._refuse_on_view("entered")
        if self._core.running is not None or self._core.ended:
            raise SessionClosed("a session can be entered once; build another one")
        self._core.running = self._open()
        introduce(self, self.hooks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections and end every wait with `SessionClosed`.

        A call under way fails as if disconnected; with an aiohttp session of yours it goes on to its end.
        """
        self._refuse_on_view("closed")
        if self._core.running is None:
            return
        running = self._core.get()
        self._core.running, self._core.ended = None, True
        await running.aclose()

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        partial: Partial | None = None,
        hooks: Iterable[Hook] = (),
        may_send: Callable[[], bool] | None = None,
    ) -> Self:
        """Return a view with other options on the same connections and token; it cannot be entered or closed.

        Its calls are told to *hooks* besides those of the session; renewals of the token are not. *may_send* is asked
        right before each of its requests would leave, those of later attempts too; whatever is not True ends the call
        with `Withheld`. In a view of a view both are asked, the outer one first, and both must say yes.
        """
        view = copy.copy(self)
        more = as_hooks(hooks)
        changed = {
            "retry": _checked("retry", self, retry),
            "partial": _checked("partial", self, partial),
            "hooks": (*self.hooks, *more),
            "_observers": self._observers.with_hooks(self, more),
            "_may_send": both_agree(self._may_send, as_asker(may_send)),
            "_is_view": True,
        }
        for name, value in changed.items():
            object.__setattr__(view, name, value)
        return view

    async def call(
        self,
        endpoint: Endpoint[R],
        body: Mapping[str, object] | bytes,
        *,
        query: Mapping[str, str] | None = None,
        token: str | Secret | None = None,
    ) -> R:
        """Make one call and return its typed reply; what every endpoint coroutine stands on.

        Values of None are left out of *body*; bytes are sent as they are, and refused by a call that needs an action in
        it. With a *token* of your own a dead one is raised, never renewed. The overall deadline is yours
        (``asyncio.timeout``).

        Raises `ApiError`, `TransportError`, `BadReply`, `OutcomeUnknown`, `PartialFailure`, `InvalidArgument` (nothing
        was sent), `Withheld`, `SessionClosed`, `WrongLoop`, and what keeps the token from being renewed: `TicketError`,
        `TokenCeiling`.
        """
        secret = as_secret_or_none(token)
        del token
        own = None if secret is None else as_fixed_token(secret)
        running = self._core.get()
        check_readable(endpoint)
        if query is not None:
            check_query(f"{endpoint.path}: the query", query)
        if endpoint.action is not None:
            check_action(endpoint.action, query or {}, "query")
            body, query = with_action(endpoint.action, body), {**(query or {}), "action": endpoint.action}
        encoded = encode(body, endpoint=endpoint.path)
        del body
        credentials = own or running.cache
        reply = await running.exchange.call(
            endpoint,
            encoded,
            policy=self.retry,
            credentials=credentials,
            observers=self._observers,
            query=query,
            may_send=self._may_send,
        )
        if (failed := reply.failed) and self.partial == "raise":
            raise PartialFailure(reply, failed, endpoint=endpoint.path, maybe_acted=reply.maybe_acted)
        return reply

    def stats(self) -> Stats:
        """Return what is under way and waiting, and how old the token is, at this moment; any thread may ask.

        Raises `SessionClosed` outside of ``async with``.
        """
        return self._core.peek().stats()

    async def token(self) -> Secret:
        """Return the component_access_token that calls are made with, renewed where that is due.

        For requests to WeChat that wxtcb does not make: a token fetched in any other way voids this one. Use it at
        once, and ask again for the next request. Raises what keeps the token from being renewed, as `call` does.
        """
        cache = self._core.get().cache
        return (cache.get() or await cache.wait()).value

    async def health(self) -> Health:
        """Return how old token and ticket are, who renewed the token last and why, and what is wrong, if anything is.

        Looks into the token store; sends nothing to the platform, and raises nothing because of what it finds. Raises
        `SessionClosed` and `WrongLoop`.
        """
        from wxtcb.tokens.health import look_at

        return await look_at(self._core.get().cache)

    def sweep(self, endpoint: Endpoint[R]) -> Sweep[R]:
        """Return the one sweep over *endpoint* (a read without arguments) that all who wait in this session share."""
        if endpoint.repeat is not Repeat.READ or endpoint.action is not None:
            raise InvalidArgument(f"{endpoint.path}: only a read without an action can be looked at again and again")
        running = self._core.get()
        sweep = running.sweeps.get(endpoint)
        if sweep is None:
            sweep = running.sweeps[endpoint] = running.new_sweep(endpoint)
        return cast("Sweep[R]", sweep)

    def looks(self, look: Callable[[], Awaitable[T]]) -> OwnLooks[T]:
        """Return looks that one waiter makes alone; they end when the session closes."""
        running = self._core.get()
        return OwnLooks(look, running.loop.time, running.gate.rest)

    @property
    def transfers(self) -> Transfers:
        """What files go to and from object storage by; see `api.storage` and `api.hosting`."""
        return self._core.get().transfers

    def _refuse_on_view(self, what: str) -> None:
        if self._is_view:
            raise InvalidArgument(f"a view made by with_options cannot be {what}; its session is")

    def _open(self) -> Running:
        from wxtcb._object_storage.client import Transfers
        from wxtcb.tokens.opening import open_cache

        loop = asyncio.get_running_loop()
        observers = self._observers
        transport = open_transport(
            self.base_url.rstrip("/"), self.timeout, http=self.http, proxy=self.proxy, ssl=self.ssl
        )
        gate = Gate(self.connections, loop.time)
        exchange = Exchange(transport, gate, loop.time)
        turns = Gate(self.connections, loop.time)
        transfers = Transfers(self.timeout, turns, self.allow_http, self.http, self.proxy, self.ssl)
        store, owned = self.token_store, None
        if isinstance(store, StoreURL):
            store = owned = store.open()
        cache = open_cache(
            exchange,
            observers,
            component_appid=self.component_appid,
            component_appsecret=self.component_appsecret,
            ticket=self.ticket,
            token_source=self.token_source,
            store=store,
            await_push=self.await_push,
            patience=self.timeout.whole,
            max_fetches_per_hour=self.max_fetches_per_hour,
        )
        return Running(loop, transport, gate, exchange, cache, self.retry, observers, transfers, owned)
