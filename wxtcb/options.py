"""What a session may be given: each option in the form it is kept in, or the reason why it cannot work."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from wxtcb._http.executor import StaticToken, Token
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.telemetry.dispatch import is_async_callable
from wxtcb.tokens.providers import ReadOnly, TicketSource, TokenSource
from wxtcb.tokens.stores import ClosableTokenStore, TokenStore, is_token_store
from wxtcb.validation import check_proxy, check_secret


@attrs.frozen
class StoreURL:
    """A token store that is yet to be opened, by the session itself and in its own process; no repr shows the URL."""

    url: Secret

    def open(self) -> ClosableTokenStore:
        """Open the store; whoever does closes it."""
        from wxtcb.tokens.store_urls import open_store

        return open_store(self.url)


def to_app_secret(value: str | Secret | None) -> Secret:
    """Keep the app secret; a text that is empty is none. None, for who needs no secret, is kept as an empty one."""
    if value is None:
        return Secret("")
    if not isinstance(value, str | Secret) or not value:
        raise InvalidArgument("component_appsecret must be a text that is not empty")
    return Secret.of(value)


def to_proxy(value: str | Secret | None) -> Secret | None:
    """Keep the URL of a proxy, which may hold a password."""
    if value is None:
        return None
    kept = Secret.of(value)
    check_proxy(kept.reveal())
    return kept


def to_ticket_source(ticket: str | Secret | TicketSource | None) -> TicketSource | None:
    """Return what gives the newest ticket; a text is given for ever."""
    if ticket is None or callable(ticket):
        return ticket
    if not isinstance(ticket, str | Secret) or not ticket:
        raise InvalidArgument("ticket must be a text that is not empty, or an async callable that gives the newest one")
    kept = Secret.of(ticket)

    async def constant() -> Secret:
        return kept

    return constant


def to_token_source(source: TokenSource | ReadOnly | None) -> TokenSource | ReadOnly | None:
    """Refuse what gives no tokens."""
    if source is not None and not isinstance(source, ReadOnly) and not callable(source):
        raise InvalidArgument("token_source must be an async callable that gives a ComponentToken, or ReadOnly()")
    return source


def check_partial(name: str, value: object) -> None:
    """Refuse what is no way to treat a batch that failed in part."""
    if value not in ("raise", "return"):
        raise InvalidArgument(f"{name} must be 'raise' or 'return', not {value!r}")


def to_token_store(store: TokenStore | str | Secret | None) -> TokenStore | StoreURL | None:
    """Keep a store, or the URL of one, which may hold a password."""
    if isinstance(store, str | Secret):
        url = StoreURL(Secret.of(store))
        try:
            url.open()  # refuses what is no such URL; nothing is connected before the first use
        except InvalidArgument as error:
            reason = str(error)
        else:
            return url
        raise InvalidArgument(f"token_store: {reason}")
    if store is not None and not is_token_store(store):
        raise InvalidArgument(f"token_store must be a store, its URL, or None, not {type(store).__name__}")
    return store


def to_static_token(token: str | Secret) -> StaticToken:
    """Return a caller's own token as credentials."""
    check_secret("token", token)
    return StaticToken(Token(Secret.of(token), 0))


def to_may_send(may_send: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Refuse what cannot be called, and what would have to be awaited."""
    if may_send is not None and (not callable(may_send) or is_async_callable(may_send)):
        raise InvalidArgument("may_send must be a callable that returns a bool, and no coroutine function")
    return may_send


def combine_may_send(outer: Callable[[], bool] | None, inner: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Return what says yes when both do, asking *outer* first."""
    if outer is None or inner is None:
        return inner if outer is None else outer
    return lambda: outer() is True and inner() is True
