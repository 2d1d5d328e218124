"""One session per platform: opens and closes everything, and calls."""

from __future__ import annotations

import asyncio
import copy
import ssl as tls
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar, cast

import aiohttp
import attrs

from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._concurrency.shared_poll import Poller, SharedPoller
from wxtcb._http.aiohttp_connector import open_transport
from wxtcb._http.executor import RequestExecutor
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Timeout
from wxtcb._protocol.codec import add_action, check_action, check_reply_class, encode_body
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import InvalidArgument, PartialFailure, SessionClosed
from wxtcb.events import Hook, Stats
from wxtcb.options import (
    StoreURL,
    check_partial,
    combine_may_send,
    to_app_secret,
    to_may_send,
    to_proxy,
    to_static_token,
    to_ticket_source,
    to_token_source,
    to_token_store,
)
from wxtcb.running import SessionLifecycle, SessionResources
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher, notify_open, to_hooks
from wxtcb.tokens.providers import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import TokenStore
from wxtcb.validation import (
    check_base_url,
    check_positive_int,
    check_query,
    check_seconds,
    check_string,
    hide_arguments_in_traceback,
    instance_validator,
    to_secret_or_none,
    validator,
)

if TYPE_CHECKING:
    from types import TracebackType

    from wxtcb._object_storage.client import StorageClient
    from wxtcb.tokens.health import Health


R = TypeVar("R", bound=Reply)
T = TypeVar("T")

PartialMode = Literal["raise", "return"]


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


_OPTION_VALIDATORS: Final = {
    "retry": instance_validator(RetryPolicy, optional=False),
    "partial": validator(check_partial),
}


def _validated_option(name: str, session: Session, value: object) -> object:
    """Return the option that a view has: *value*, held to the rule of its field, or that of *session*."""
    if value is None:
        return getattr(session, name)
    _OPTION_VALIDATORS[name](session, attrs.fields_dict(Session)[name], value)
    return value


@hide_arguments_in_traceback
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

    component_appid: str = attrs.field(validator=validator(check_string))
    component_appsecret: Secret = attrs.field(converter=to_app_secret)
    ticket: TicketSource | None = attrs.field(default=None, converter=to_ticket_source, repr=False)
    token_store: TokenStore | StoreURL | None = attrs.field(default=None, converter=to_token_store)
    token_source: TokenSource | ReadOnly | None = attrs.field(
        default=None, converter=to_token_source, repr=False, validator=_check_token_source
    )
    ticket_timeout: float | None = attrs.field(default=None, validator=validator(check_seconds, optional=True))
    retry: RetryPolicy = attrs.field(factory=RetryPolicy, validator=_OPTION_VALIDATORS["retry"])
    timeout: Timeout = attrs.field(factory=Timeout, validator=instance_validator(Timeout, optional=False))
    connections: int = attrs.field(default=100, validator=validator(check_positive_int))
    max_fetches_per_hour: int | None = attrs.field(default=30, validator=validator(check_positive_int, optional=True))
    allow_http: bool = False
    base_url: str = attrs.field(
        default="https://api.weixin.qq.com",
        validator=_check_base_url,
    )
    proxy: Secret | None = attrs.field(default=None, converter=to_proxy)
    ssl: tls.SSLContext | None = attrs.field(default=None, repr=False, validator=instance_validator(tls.SSLContext))
    http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(
        default=None, repr=False, validator=instance_validator(aiohttp.ClientSession, aiohttp.TCPConnector)
    )
    hooks: tuple[Hook, ...] = attrs.field(default=(), converter=to_hooks)
    partial: PartialMode = attrs.field(default="raise", validator=_OPTION_VALIDATORS["partial"])
    _dispatcher: HookDispatcher = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: HookDispatcher.create(self, self.hooks), takes_self=True),
    )
    _lifecycle: SessionLifecycle = attrs.field(init=False, repr=False, factory=SessionLifecycle)
    _is_view: bool = attrs.field(init=False, repr=False, default=False)
    _may_send: Callable[[], bool] | None = attrs.field(init=False, repr=False, default=None)

    async def __aenter__(self) -> Self:
        self._raise_if_view("entered")
        if self._lifecycle.resources is not None or self._lifecycle.closed:
            raise SessionClosed("a session can be entered once; build another one")
        self._lifecycle.resources = self._open_resources()
        notify_open(self, self.hooks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections and end every wait with `SessionClosed`.

        A call under way fails as if disconnected; with an aiohttp session of yours it goes on to its end.
        """
        self._raise_if_view("closed")
        if self._lifecycle.resources is None:
            return
        running = self._lifecycle.require_current_loop()
        self._lifecycle.resources, self._lifecycle.closed = None, True
        await running.aclose()

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        partial: PartialMode | None = None,
        hooks: Iterable[Hook] = (),
        may_send: Callable[[], bool] | None = None,
    ) -> Self:
        """Return a view with other options on the same connections and token; it cannot be entered or closed.

        Its calls are told to *hooks* besides those of the session; renewals of the token are not. *may_send* is asked
        right before each of its requests would leave, those of later attempts too; whatever is not True ends the call
        with `SendVetoed`. In a view of a view both are asked, the outer one first, and both must say yes.
        """
        view = copy.copy(self)
        more = to_hooks(hooks)
        changed = {
            "retry": _validated_option("retry", self, retry),
            "partial": _validated_option("partial", self, partial),
            "hooks": (*self.hooks, *more),
            "_dispatcher": self._dispatcher.with_hooks(self, more),
            "_may_send": combine_may_send(self._may_send, to_may_send(may_send)),
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
        was sent), `SendVetoed`, `SessionClosed`, `WrongLoop`, and what keeps the token from being renewed: `TicketError`,
        `TokenFetchLimit`.
        """
        secret = to_secret_or_none(token)
        del token
        own = None if secret is None else to_static_token(secret)
        running = self._lifecycle.require_current_loop()
        check_reply_class(endpoint)
        if query is not None:
            check_query(f"{endpoint.path}: the query", query)
        if endpoint.action is not None:
            check_action(endpoint.action, query or {}, "query")
            body, query = add_action(endpoint.action, body), {**(query or {}), "action": endpoint.action}
        encoded = encode_body(body, endpoint=endpoint.path)
        del body
        credentials = own or running.token_cache
        reply = await running.executor.execute(
            endpoint,
            encoded,
            policy=self.retry,
            credentials=credentials,
            dispatcher=self._dispatcher,
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
        return self._lifecycle.require_open().stats()

    async def token(self) -> Secret:
        """Return the component_access_token that calls are made with, renewed where that is due.

        For requests to WeChat that wxtcb does not make: a token fetched in any other way voids this one. Use it at
        once, and ask again for the next request. Raises what keeps the token from being renewed, as `call` does.
        """
        cache = self._lifecycle.require_current_loop().token_cache
        return (cache.cached() or await cache.get()).value

    async def health(self) -> Health:
        """Return how old token and ticket are, who renewed the token last and why, and what is wrong, if anything is.

        Looks into the token store; sends nothing to the platform, and raises nothing because of what it finds. Raises
        `SessionClosed` and `WrongLoop`.
        """
        from wxtcb.tokens.health import read_health

        return await read_health(self._lifecycle.require_current_loop().token_cache)

    def shared_poller(self, endpoint: Endpoint[R]) -> SharedPoller[R]:
        """Return the one sweep over *endpoint* (a read without arguments) that all who wait in this session share."""
        if endpoint.repeat is not Repeat.READ or endpoint.action is not None:
            raise InvalidArgument(f"{endpoint.path}: only a read without an action can be looked at again and again")
        running = self._lifecycle.require_current_loop()
        sweep = running.shared_pollers.get(endpoint)
        if sweep is None:
            sweep = running.shared_pollers[endpoint] = running.create_shared_poller(endpoint)
        return cast("SharedPoller[R]", sweep)

    def poller(self, fetch: Callable[[], Awaitable[T]]) -> Poller[T]:
        """Return looks that one waiter makes alone; they end when the session closes."""
        running = self._lifecycle.require_current_loop()
        return Poller(fetch, running.loop.time, running.limiter.sleep)

    @property
    def storage_client(self) -> StorageClient:
        """What files go to and from object storage by; see `api.storage` and `api.hosting`."""
        return self._lifecycle.require_current_loop().storage_client

    def _raise_if_view(self, action: str) -> None:
        if self._is_view:
            raise InvalidArgument(f"a view made by with_options cannot be {action}; its session is")

    def _open_resources(self) -> SessionResources:
        from wxtcb._object_storage.client import StorageClient
        from wxtcb.tokens.cache import create_token_cache

        loop = asyncio.get_running_loop()
        observers = self._dispatcher
        transport = open_transport(
            self.base_url.rstrip("/"), self.timeout, http=self.http, proxy=self.proxy, ssl=self.ssl
        )
        gate = RequestLimiter(self.connections, loop.time)
        exchange = RequestExecutor(transport, gate, loop.time)
        turns = RequestLimiter(self.connections, loop.time)
        transfers = StorageClient(self.timeout, turns, self.allow_http, self.http, self.proxy, self.ssl)
        store, owned = self.token_store, None
        if isinstance(store, StoreURL):
            store = owned = store.open()
        cache = create_token_cache(
            exchange,
            observers,
            component_appid=self.component_appid,
            component_appsecret=self.component_appsecret,
            ticket=self.ticket,
            token_source=self.token_source,
            store=store,
            push_timeout=self.ticket_timeout,
            timeout=self.timeout.total,
            max_fetches_per_hour=self.max_fetches_per_hour,
        )
        return SessionResources(loop, transport, gate, exchange, cache, self.retry, observers, transfers, owned)
