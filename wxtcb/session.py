"""Session: the connections and the token of one platform, and the method that makes a call.

A call goes through `Session.call`, `wxtcb._protocol.codec.encode_request` and `wxtcb._http.executor`, in this order.
A session and its views share one `SessionLifecycle`, which has the `SessionResources` while the session is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack, cast

import aiohttp
import attrs

from wxtcb import validation
from wxtcb._concurrency.limiter import PathReservation, RequestLimiter
from wxtcb._concurrency.shared_poll import Poller, SharedPoller
from wxtcb._http import tls
from wxtcb._http.connector_transport import open_transport
from wxtcb._http.executor import ActiveToken, RequestExecutor, StaticToken
from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Timeout
from wxtcb._object_storage.link_policy import TRANSFER_HOSTS, LinkPolicy
from wxtcb._protocol.codec import encode_body, encode_request
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import InvalidArgument, PartialFailure, SessionClosed, WrongLoop
from wxtcb.events import Hook, Stats
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import HookDispatcher, notify_open, to_hooks
from wxtcb.tokens.configured_ticket import ConfiguredTicket
from wxtcb.tokens.env_vars import PlatformSettings, read_platform
from wxtcb.tokens.providers import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.store_urls import StoreURL
from wxtcb.tokens.stores import TokenStore, is_token_store

if TYPE_CHECKING:
    from types import TracebackType

    from wxtcb._object_storage.client import StorageClient
    from wxtcb.tokens.cache import TokenCache
    from wxtcb.tokens.health import Health


R = TypeVar("R", bound=Reply)
T = TypeVar("T")

# What a call does if part of its batch failed: raise `PartialFailure`, or return the reply.
PartialMode = Literal["raise", "return"]


# Converters and checks of the options. They raise `InvalidArgument` and quote no value that may be a secret.
# Converters accept their own results, because `attrs.evolve` passes them again.


def _to_token_store(store: TokenStore | StoreURL | str | Secret | None) -> TokenStore | StoreURL | None:
    if isinstance(store, str | Secret):
        url = StoreURL(Secret.of(store))
        try:
            # Validates the URL. The store connects when it is first used, so this one need not be closed.
            url.open()
        except InvalidArgument as error:
            reason = str(error)
        else:
            return url
        # Outside of `except`, so that the error has no cause or context: their frames contain the URL.
        raise InvalidArgument(f"token_store: {reason}")
    if store is None or isinstance(store, StoreURL) or is_token_store(store):
        return store
    raise InvalidArgument(f"token_store must be a store, its URL, or None, not {type(store).__name__}")


def _to_ticket_source(ticket: str | Secret | TicketSource | None) -> TicketSource | None:
    """Return an async callable for the newest ticket; a string becomes a source that always returns it."""
    if ticket is None or callable(ticket):
        return ticket
    if not isinstance(ticket, str | Secret) or not ticket:
        raise InvalidArgument("ticket must be a non-empty string, or an async callable that returns the newest ticket")
    secret = Secret.of(ticket)

    async def constant_ticket() -> Secret:
        return secret

    return constant_ticket


def _to_token_source(source: TokenSource | ReadOnly | None) -> TokenSource | ReadOnly | None:
    if source is not None and not isinstance(source, ReadOnly) and not callable(source):
        raise InvalidArgument("token_source must be an async callable that returns a ComponentToken, or ReadOnly()")
    return source


def _to_proxy(value: str | Secret | None) -> Secret | None:
    if value is None:
        return None
    proxy = Secret.of(value)
    validation.check_proxy(proxy.reveal())
    return proxy


def _combine_may_send(parent: Callable[[], bool] | None, added: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Return a callable that returns True only if both do; *parent* is called first."""
    if parent is None or added is None:
        # Compared with None: a callable object may be false.
        return added if parent is None else parent
    # Compared with True: any other result, such as a coroutine, forbids the request.
    return lambda: parent() is True and added() is True


class SessionOptions(TypedDict, total=False):
    """Options that `Session.from_env` accepts. `token_store` takes precedence over ``WXTCB_TOKEN_STORE``."""

    token_store: TokenStore | StoreURL | str | Secret | None
    store_required: bool
    ticket_timeout: float | None
    retry: RetryPolicy
    timeout: Timeout
    connections: int
    max_fetches_per_hour: int | None
    allow_http: bool
    allow_unverified: bool
    transfer_hosts: Iterable[str]
    proxy: str | Secret | None
    ssl: SSLContext | None
    http: aiohttp.ClientSession | aiohttp.TCPConnector | None
    hooks: Iterable[Hook]
    partial: PartialMode


def _check_base_url(session: Session, _: attrs.Attribute[str], value: str) -> None:
    validation.check_base_url(value, allow_http=session.allow_http)


def _check_verified(session: Session, attribute: attrs.Attribute[bool], value: bool) -> None:  # noqa: FBT001 - attrs
    """Check that the TLS settings of requests, those of `ssl` or else of `http`, verify the server, or may not."""
    validation.check_type(attribute.name, value, bool)
    option = "http" if session.ssl is None else "ssl"
    setting = tls.connector_setting(session.http) if session.ssl is None else session.ssl
    if not (value or tls.is_verified(setting)):
        raise InvalidArgument(
            f"{option} does not verify the server's certificate and host name, so anyone on the network could read "
            "every token; to trust an authority of your own, pass ssl=ssl.create_default_context(cafile=...), or "
            "set allow_unverified=True"
        )


def _check_transfer_hosts(session: Session, _: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    validation.check_strings("transfer_hosts", value)
    LinkPolicy.create(value, base_url=session.base_url, allow_http=session.allow_http)


def _check_credentials(
    session: Session, _: attrs.Attribute[TokenSource | ReadOnly | None], source: TokenSource | ReadOnly | None
) -> None:
    """Check that app secret, ticket, token store and token *source* fit together."""
    if source is None and session.component_appsecret is None:
        raise InvalidArgument("component_appsecret is missing; pass it, or a token_source")
    if source is not None and session.ticket is not None:
        raise InvalidArgument("ticket is not used with a token_source; pass only one of them")
    if isinstance(source, ReadOnly) and session.token_store is None:
        raise InvalidArgument("token_source=ReadOnly() needs a shared token_store to read tokens from")


def _check_partial(name: str, value: object) -> None:
    if value not in ("raise", "return"):
        raise InvalidArgument(f"{name} must be 'raise' or 'return', not {value!r}")


@attrs.define(repr=False, eq=False)
class SessionResources:
    """Open resources of a session. `exit_stack` closes them, and the token store if the session opened it by URL.

    `retry_policy` and `dispatcher` are those of the session itself, for `shared_pollers`; its views may have others.
    """

    loop: asyncio.AbstractEventLoop
    limiter: RequestLimiter
    executor: RequestExecutor
    token_cache: TokenCache
    retry_policy: RetryPolicy
    dispatcher: HookDispatcher
    storage_client: StorageClient
    exit_stack: contextlib.AsyncExitStack
    shared_pollers: dict[Endpoint[Reply], SharedPoller[Reply]] = attrs.field(factory=dict)

    async def aclose(self) -> None:
        # First everything that does not wait. So if this coroutine is cancelled in a wait below, every waiting call has
        # got its SessionClosed already, and every task is cancelled. Only waiting file transfers get it later, when the
        # stack closes the storage client.
        self.limiter.close()
        self.token_cache.close()
        for poller in self.shared_pollers.values():
            poller.close()
        # The stack closes everything in reverse order, also after an error or a cancellation: first the tasks that use
        # the store and the connections, then the store, and last the connections.
        async with self.exit_stack as stack:
            # Pushed last, so that they end first.
            for poller in self.shared_pollers.values():
                stack.push_async_callback(poller.aclose)


@attrs.define(repr=False, eq=False)
class SessionLifecycle:
    """The state that a session and its views share: not open yet, open (with `resources`), or closed."""

    resources: SessionResources | None = None
    closed: bool = False

    def require_open(self) -> SessionResources:
        """Return the resources; raise `SessionClosed` if the session is not open."""
        if self.resources is None:
            state = "is closed" if self.closed else "is not open yet; use it inside `async with`"
            raise SessionClosed(f"the session {state}; no request was sent")
        return self.resources

    def resources_in_current_loop(self) -> SessionResources:
        """Return the resources; raise `WrongLoop` if the session was entered in another event loop."""
        resources = self.require_open()
        # This detects a fork, too: the child inherits the session, but runs an event loop of its own.
        if resources.loop is not asyncio.get_running_loop():
            raise WrongLoop(
                "the session was entered in another event loop or before a fork; no request was sent. Enter one "
                "session per process and loop. Under pytest-asyncio, give the fixture and the tests the same "
                "loop_scope."
            )
        return resources

    # Not in `Session`: if only a view is left, the connections are still in use.
    def __del__(self) -> None:
        if self.resources is not None:
            warnings.warn("a wxtcb.Session was never closed", ResourceWarning, stacklevel=2, source=self)


# The decorator is outermost, because it wraps the `__init__` that attrs generates.
@validation.hide_arguments_in_traceback
@attrs.frozen(eq=False, kw_only=True)
class Session:
    """The connections and the token of one third-party platform (第三方平台); one per platform and process.

    Use it with ``async with``. It may be built outside of an event loop and before a fork; it belongs to the loop that
    enters it. Several processes need a shared `token_store`. Without one, each process fetches its own token, and each
    fetch invalidates the token of the others.

    Arguments:
        component_appid: AppID of the platform.
        component_appsecret: its app secret. None only with a `token_source`; the few calls that send the app secret
            itself then raise `InvalidArgument`.
        ticket: the newest component_verify_ticket (验证票据), or an async callable that returns it. None: the tickets
            that a `TicketReceiver` has written to the token store. Without a `token_store` there are none: then calls
            that need the session's token raise `TicketMissing`. Not allowed with a `token_source`.
        token_store: a store, or its URL (``sqlite:///...``, ``postgresql://...``, ``rediss://...``). None: the memory
            of this process.
        store_required: entering the session reads the store, and raises `TokenStoreError` if that fails. False: enter
            also without the store. A store that fails later never ends the session.
        token_source: an async callable that returns a `ComponentToken` of an external service, or `ReadOnly()` for a
            process that only reads the store. None: tokens are fetched with app secret and ticket.
        ticket_timeout: seconds to wait for a ticket after requesting a push. None: raise `TicketMissing` at once.
        retry: when and how often failed calls are retried.
        timeout: limits of one attempt, a `wxtcb.Timeout`. Its `connect` and `reply` together also limit each call of
            `ticket` and of `token_source`. For an overall deadline use ``asyncio.timeout``.
        connections: maximum number of concurrent calls, and separately of concurrent file transfers. If the connector
            of `http` has a limit of its own (100 by default), both share it: create it with ``limit=0``.
        max_fetches_per_hour: maximum number of token fetches by all processes that share the store; more raise
            `TokenFetchLimit`. None: no limit.
        base_url: URL of the platform; https, or plain http to this machine. A path, such as that of a gateway, is put
            before the path of every call.
        allow_http: accept plain http to another machine, which exposes the token to the network.
        transfer_hosts: hosts to which files are sent, and from which they are fetched: names, patterns such as
            ``*.example.com``, and networks such as ``10.0.0.0/8``. Other hosts are rejected, and so are names that
            lead to a private or link-local address outside of these networks. The default is `TRANSFER_HOSTS`.
            If `base_url` is on this machine, so may be the files.
        proxy: URL of an HTTP proxy.
        ssl: TLS settings. None: those of the connector in `http`, or else Python's defaults with at least TLS 1.2 and
            without SSLKEYLOGFILE.
        http: your own `aiohttp.ClientSession` or connector, which you close. Its connector, its TLS settings and its
            tracing are used. Its headers, cookies, credentials and middlewares are not.
        allow_unverified: accept TLS settings, of `ssl` or `http`, that do not verify the certificate and host name of
            the server; anyone on the network can then read every token.
        hooks: callables that receive every event of `wxtcb.events`.
        partial: "raise" raises `PartialFailure` for a batch that failed in part, "return" returns the reply.

    Raises `InvalidArgument` for an invalid option or combination. No secret is in a repr or in a traceback.
    """

    component_appid: str = attrs.field(validator=validation.validator(validation.check_appid))
    component_appsecret: Secret | None = attrs.field(
        default=None,
        converter=validation.to_secret,
        # An empty string is probably an environment variable that is not set.
        validator=validation.validator(validation.check_secret, optional=True),
    )
    ticket: TicketSource | None = attrs.field(default=None, converter=_to_ticket_source, repr=False)
    token_store: TokenStore | StoreURL | None = attrs.field(default=None, converter=_to_token_store)
    store_required: bool = attrs.field(default=True, validator=validation.type_validator(bool, optional=False))
    # Its validator reads the fields above. attrs runs validators after all fields are set.
    token_source: TokenSource | ReadOnly | None = attrs.field(
        default=None, converter=_to_token_source, repr=False, validator=_check_credentials
    )
    ticket_timeout: float | None = attrs.field(
        default=None, validator=validation.validator(validation.check_seconds, optional=True)
    )
    retry: RetryPolicy = attrs.field(
        factory=RetryPolicy, validator=validation.instance_validator(RetryPolicy, optional=False)
    )
    timeout: Timeout = attrs.field(factory=Timeout, validator=validation.instance_validator(Timeout, optional=False))
    connections: int = attrs.field(default=100, validator=validation.validator(validation.check_positive_int))
    max_fetches_per_hour: int | None = attrs.field(
        default=30, validator=validation.validator(validation.check_positive_int, optional=True)
    )
    allow_http: bool = attrs.field(default=False, validator=validation.type_validator(bool, optional=False))
    base_url: str = attrs.field(default="https://api.weixin.qq.com", validator=_check_base_url)
    transfer_hosts: tuple[str, ...] = attrs.field(
        default=TRANSFER_HOSTS, converter=validation.to_str_tuple, validator=_check_transfer_hosts
    )
    proxy: Secret | None = attrs.field(default=None, converter=_to_proxy)
    ssl: SSLContext | None = attrs.field(default=None, repr=False, validator=validation.instance_validator(SSLContext))
    http: aiohttp.ClientSession | aiohttp.TCPConnector | None = attrs.field(
        default=None, repr=False, validator=validation.instance_validator(aiohttp.ClientSession, aiohttp.TCPConnector)
    )
    # Its validator reads the two fields above.
    allow_unverified: bool = attrs.field(default=False, validator=_check_verified)
    hooks: tuple[Hook, ...] = attrs.field(default=(), converter=to_hooks)
    partial: PartialMode = attrs.field(default="raise", validator=validation.validator(_check_partial))
    # The rest are not arguments, so that `attrs.evolve` makes an independent session. Only `with_options` makes views.
    # `create` calls `bind` of each hook that is a `SessionHook`, with this session.
    _dispatcher: HookDispatcher = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: HookDispatcher.create(self, self.hooks), takes_self=True),
    )
    _lifecycle: SessionLifecycle = attrs.field(init=False, repr=False, factory=SessionLifecycle)
    _is_view: bool = attrs.field(init=False, repr=False, default=False)
    _may_send: Callable[[], bool] | None = attrs.field(init=False, repr=False, default=None)
    _reservation: PathReservation | None = attrs.field(init=False, repr=False, default=None)

    @classmethod
    def from_env(
        cls,
        *,
        env_file: str | Path | None = None,
        profile: str | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """Return a session with the settings of the environment variables, and with *options* of the constructor.

        - ``WXTCB_COMPONENT_APPID`` and ``WXTCB_COMPONENT_APPSECRET``: the credentials of the platform.
        - ``WXTCB_TOKEN_STORE``: URL of the shared token store; ``WXTCB_TOKEN_STORE_KEY`` is its key if it is encrypted.
        - ``WXTCB_TICKET`` or ``WXTCB_TICKET_FILE``: a ticket, used if the token store contains no valid one. The file
          is read for each token.
        - ``WXTCB_BASE_URL``: the URL of another platform, such as a sandbox.

        With the suffix ``_FILE``, each variable is the path of a file that contains the value. *env_file* is a file of
        lines ``NAME=VALUE`` for variables that are not set (default: the value of ``WXTCB_ENV_FILE``). A file that
        other users can read or change is rejected, unless it is on a read-only file system. With *profile* (default:
        the value of ``WXTCB_PROFILE``), every name starts with ``WXTCB_<PROFILE>_``.

        Raises one `InvalidArgument` for all variables that are missing or invalid.
        """
        allow_http = options.get("allow_http", False)
        settings = read_platform(env_file=env_file, profile=profile, allow_http=allow_http)
        return cls.from_settings(settings, **options)

    @classmethod
    def from_settings(cls, settings: PlatformSettings, **options: Unpack[SessionOptions]) -> Self:
        """Return a session with *settings*; for `from_env` and the command line, not public."""
        ticket = settings.ticket
        if settings.store is not None:
            options.setdefault("token_store", StoreURL.from_settings(settings.store))
        return cls(
            component_appid=settings.component_appid,
            component_appsecret=settings.component_appsecret,
            ticket=None if ticket is None else ConfiguredTicket(ticket, f"{settings.prefix}TICKET_FILE"),
            base_url=settings.base_url,
            **options,
        )

    if not TYPE_CHECKING:
        # For a type checker the methods do not exist, so that it reports the mistake.
        def __enter__(self) -> None:
            raise TypeError("a Session needs `async with`, not `with`")

        def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self:
        self._raise_if_view("entered")
        if self._lifecycle.resources is not None or self._lifecycle.closed:
            raise SessionClosed("a session can be entered only once; build another one")
        self._lifecycle.resources = await self._open_resources()
        # Not an event: it calls `on_session_open` of each hook that is a `SessionHook`.
        notify_open(self, self.hooks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; every waiting call raises `SessionClosed`.

        A call whose request was sent or is being sent loses its connection and fails. It continues to its end if `http`
        is your own `aiohttp.ClientSession`, or your own connector next to a `proxy`. Closing a session that is not open
        does nothing.
        """
        self._raise_if_view("closed")
        if self._lifecycle.resources is None:
            return
        resources = self._lifecycle.resources_in_current_loop()
        # Before the first await, so that a new call, and a second `aclose`, find the session closed.
        self._lifecycle.resources, self._lifecycle.closed = None, True
        await resources.aclose()

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        partial: PartialMode | None = None,
        hooks: Iterable[Hook] = (),
        _may_send: Callable[[], bool] | None = None,
        _reservation: PathReservation | None = None,
    ) -> Self:
        """Return a view with other options on the same connections and token; it cannot be entered or closed.

        None means the option of this session. *hooks* are added to those of this session; they receive the events of
        the view's calls, but not those of token refreshes.
        """
        # `_may_send` is for `wxtcb.provision` only. It is called right before a request of the view is sent, also
        # before a retry. Unless it returns True, the call raises the internal `SendVetoed`. `_reservation` is for
        # provisioning too, and for one call.
        added = to_hooks(hooks)
        changes = {
            "hooks": (*self.hooks, *added),
            # The hooks of the session stay bound to it.
            "_dispatcher": self._dispatcher.with_hooks(self, added),
            "_may_send": _combine_may_send(self._may_send, _may_send),
            "_reservation": _reservation,
            "_is_view": True,
            "retry": self.retry if retry is None else retry,
            "partial": self.partial if partial is None else partial,
        }
        # A shallow copy shares the lifecycle, and with it connections and token. `attrs.evolve` would make a new
        # lifecycle. The copy is still private, so its fields can be set, as the `__init__` of a frozen class does.
        view = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(view, name, value)
        # Of the changed fields only these two have validators. `attrs.validate` runs those of all fields, which would
        # take too long for each view, because views are also made for single calls.
        if retry is not None or partial is not None:
            attrs.validate(view)
        return view

    async def call(
        self,
        endpoint: Endpoint[R],
        body: Mapping[str, object] | bytes,
        *,
        query: Mapping[str, str] | None = None,
        token: str | Secret | None = None,
    ) -> R:
        """Make one call and return its typed reply; every endpoint coroutine uses this method.

        *body* is written as JSON without its values of None. Bytes are sent unchanged; they are rejected if the
        endpoint has an action. *query* is added to the URL. *token* is your own access token, sent instead of the
        session's. If the platform rejects it, the error is raised without a refresh. *token* is ignored if the endpoint
        needs none. For an overall deadline use ``asyncio.timeout``.

        Raises `InvalidArgument` before a request is sent; `ApiError`, `TransportError`, `BadReply`, `OutcomeUnknown`
        and `PartialFailure` for a failed call; `TicketError`, `TokenFetchLimit`, `TokenConflict` and `TokenStoreError`
        if there is no valid token; `SessionClosed` and `WrongLoop`.
        """
        # From here on, no frame of a traceback contains the token as a plain string.
        secret = validation.to_secret(token)
        del token
        # None: the token of the session.
        own_token = None
        if secret is not None:
            validation.check_secret("token", secret)
            own_token = StaticToken(ActiveToken(secret, generation=0))
        resources = self._lifecycle.resources_in_current_loop()
        # If the endpoint has an action, it is added to the body and to the query.
        encoded, query = encode_request(endpoint, body, query)
        # The call may wait for long; the frame must not keep a large body alive next to its encoded form.
        del body
        reply = await resources.executor.execute(
            endpoint,
            encoded,
            retry_policy=self.retry,
            credentials=own_token or resources.token_cache,
            dispatcher=self._dispatcher,
            query=query,
            may_send=self._may_send,
            reservation=self._reservation,
        )
        # The platform answers some calls with errcode 0 although entries of their batch failed.
        if (failed := reply.failed) and self.partial == "raise":
            raise PartialFailure(reply, failed, endpoint=endpoint.path, maybe_acted=reply.maybe_acted)
        return reply

    async def token(self) -> Secret:
        """Return a valid component_access_token, refreshed if necessary, for requests that wxtcb does not make.

        Use it immediately, and get it again for the next request: a refresh invalidates it. Do not fetch tokens in
        another way, because that invalidates the token of the session. Raises `TicketError`, `TokenFetchLimit`,
        `TokenConflict`, `TokenStoreError`, `ApiError` or `TransportError` if no token can be obtained.
        """
        cache = self._lifecycle.resources_in_current_loop().token_cache
        # `cached` returns None if `get` must decide whether the token can be used.
        return (cache.cached() or await cache.get()).value

    def stats(self) -> Stats:
        """Return the numbers of running and waiting calls and the age of the token; callable from any thread.

        Raises `SessionClosed` outside of ``async with``.
        """
        # `require_open` does not look for a running loop, which another thread does not have.
        resources = self._lifecycle.require_open()
        limiter, cache = resources.limiter, resources.token_cache
        age, remaining = cache.age_and_remaining() or (None, None)
        return Stats(
            calls_in_flight=limiter.in_use,
            calls_waiting=limiter.waiting,
            calls_paused=limiter.paused,
            token_age=age,
            token_expires_in=remaining,
            token_waiters=cache.waiters,
            retry_quota=resources.executor.quota.available,
        )

    async def health(self) -> Health:
        """Return the age of token and ticket, the last refresh and its reason, and the known problems.

        Reads the token store and sends nothing to the platform. Problems are returned, not raised. Raises
        `SessionClosed` and `WrongLoop`.
        """
        from wxtcb.tokens.health import read_health

        return await read_health(self._lifecycle.resources_in_current_loop().token_cache)

    # Not public: for the modules of `wxtcb.api` and `wxtcb.provision` only.

    def shared_poller(self, endpoint: Endpoint[R]) -> SharedPoller[R]:
        """Return the poller of *endpoint* that all waiters of this session share; not public.

        *endpoint* must be a read without arguments, because each poll calls it with an empty body.
        """
        if endpoint.repeat is not Repeat.READ or endpoint.action is not None:
            raise InvalidArgument(f"{endpoint.path}: only a read without an action can be polled")
        resources = self._lifecycle.resources_in_current_loop()
        poller = resources.shared_pollers.get(endpoint)
        if poller is None:
            # With the retry policy and hooks of the session, and without `may_send`: a shared poll belongs to no view.
            fetch = functools.partial(
                resources.executor.execute,
                endpoint,
                encode_body({}, endpoint=endpoint.path),
                retry_policy=resources.retry_policy,
                credentials=resources.token_cache,
                dispatcher=resources.dispatcher,
            )
            poller = cast("SharedPoller[Reply]", SharedPoller(fetch, resources.loop.time, resources.limiter.sleep))
            resources.shared_pollers[endpoint] = poller
        # The dictionary is keyed by endpoint, so its values cannot be typed by their replies.
        return cast("SharedPoller[R]", poller)

    def poller(self, fetch: Callable[[], Awaitable[T]]) -> Poller[T]:
        """Return a poller for one waiter; its waits end with `SessionClosed` when the session closes; not public."""
        resources = self._lifecycle.resources_in_current_loop()
        return Poller(fetch, resources.loop.time, resources.limiter.sleep)

    @property
    def storage_client(self) -> StorageClient:
        """The client for uploads to and downloads from object storage; not public."""
        return self._lifecycle.resources_in_current_loop().storage_client

    def _raise_if_view(self, action: str) -> None:
        if self._is_view:
            raise InvalidArgument(f"a view made by with_options cannot be {action}; use its session")

    async def _open_resources(self) -> SessionResources:
        # Imported here: a program that imports wxtcb may never open a session.
        from wxtcb._object_storage.client import StorageClient
        from wxtcb.tokens.cache import create_token_cache

        loop = asyncio.get_running_loop()
        # If a later step raises, the stack closes what was opened before.
        async with contextlib.AsyncExitStack() as stack:
            context = tls.effective_context(self.ssl, self.http)
            # Endpoint paths begin with a slash.
            transport = open_transport(
                self.base_url.rstrip("/"), self.timeout, http=self.http, proxy=self.proxy, ssl=context
            )
            stack.push_async_callback(transport.aclose)
            # The limiter admits calls in FIFO order and bounds them. aiohttp's own pool lets new requests overtake
            # waiting ones, so wxtcb's own connectors have no limit. A connector of the caller keeps its limit.
            limiter = RequestLimiter(self.connections, loop.time)
            executor = RequestExecutor(transport, limiter, loop.time)
            # Files have a limiter of their own, because a transfer may take minutes.
            transfer_limiter = RequestLimiter(self.connections, loop.time)
            link_policy = LinkPolicy.create(self.transfer_hosts, base_url=self.base_url, allow_http=self.allow_http)
            storage_client = StorageClient(
                self.timeout, transfer_limiter, link_policy, http=self.http, proxy=self.proxy, ssl=context
            )
            stack.push_async_callback(storage_client.aclose)
            store = self.token_store
            if isinstance(store, StoreURL):
                # Only this store is closed; one that the caller passed stays open.
                store = store.open()
                stack.push_async_callback(store.aclose)
            ticket = self.ticket
            if store is not None and isinstance(ticket, ConfiguredTicket):
                ticket = ticket.with_store(store, self.component_appid)
            token_cache = create_token_cache(
                executor,
                self._dispatcher,
                component_appid=self.component_appid,
                # None only with a `token_source`, which does not use it.
                component_appsecret=self.component_appsecret or Secret(""),
                ticket=ticket,
                token_source=self.token_source,
                store=store,
                ticket_timeout=self.ticket_timeout,
                timeout=self.timeout.total,
                max_fetches_per_hour=self.max_fetches_per_hour,
            )
            stack.push_async_callback(token_cache.aclose)
            if store is not None and self.store_required:
                await token_cache.refresher.state_repository.require_readable()
            return SessionResources(
                loop=loop,
                limiter=limiter,
                executor=executor,
                token_cache=token_cache,
                retry_policy=self.retry,
                dispatcher=self._dispatcher,
                storage_client=storage_client,
                exit_stack=stack.pop_all(),
            )


def try_reserve_path(session: Session, endpoint: Endpoint[R]) -> PathReservation | None:
    """Reserve a call of *endpoint* for the `_reservation` of a view; return None if its path is paused."""
    return session._lifecycle.resources_in_current_loop().limiter.try_reserve(endpoint.path)


async def reserve_path(session: Session, endpoint: Endpoint[R]) -> PathReservation:
    """Wait until the path of *endpoint* is not paused, and reserve a call of it."""
    return await session._lifecycle.resources_in_current_loop().limiter.reserve(endpoint.path)
