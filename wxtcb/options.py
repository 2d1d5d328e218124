"""What a session may be given: each option in the form it is kept in, or the reason why it cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from wxtcb.arguments import check_proxy, check_secret
from wxtcb.errors import InvalidArgument
from wxtcb.events import Hook
from wxtcb.exchange import FixedToken, Token
from wxtcb.secret import Secret
from wxtcb.tokens.sources import TicketSource
from wxtcb.tokens.stores import TokenStore


def as_secret(value: str | Secret) -> Secret:
    """Keep the app secret; a text that is empty is none."""
    if not isinstance(value, str | Secret) or not value:
        raise InvalidArgument("component_appsecret must be a text that is not empty")
    return Secret.of(value)


def as_proxy(value: str | Secret | None) -> Secret | None:
    """Keep the URL of a proxy, which may hold a password."""
    if value is None:
        return None
    kept = Secret.of(value)
    check_proxy(kept.reveal())
    return kept


def as_ticket_source(ticket: str | Secret | TicketSource | None) -> TicketSource:
    """Return what gives the newest ticket; a text is given for ever."""
    if callable(ticket):
        return ticket
    if ticket is not None and (not isinstance(ticket, str | Secret) or not ticket):
        raise InvalidArgument("ticket must be a text that is not empty, or an async callable that gives the newest one")
    kept = None if ticket is None else Secret.of(ticket)

    async def constant() -> str | None:
        return kept.reveal() if kept else None

    return constant


def check_partial(name: str, value: object) -> None:
    """Refuse what is no way to treat a batch that failed in part."""
    if value not in ("raise", "return"):
        raise InvalidArgument(f"{name} must be 'raise' or 'return', not {value!r}")


def as_store(store: TokenStore | str | None) -> TokenStore | None:
    """Refuse a URL: this version has no store for any."""
    if isinstance(store, str):
        raise InvalidArgument(
            "token_store: this version has no store for a URL; give a store, or None for this process"
        )
    return store


def as_fixed_token(token: str | Secret) -> FixedToken:
    """Return a caller's own token as credentials."""
    check_secret("token", token)
    return FixedToken(Token(Secret.of(token), 0))


def as_hooks(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Refuse what cannot be called, and what would have to be awaited."""
    if not isinstance(hooks, Iterable):
        raise InvalidArgument(f"hooks must be a list of callables, not {type(hooks).__name__}")
    kept = tuple(hooks)
    if not all(callable(hook) and not _is_awaited(hook) for hook in kept):
        raise InvalidArgument("hooks must be a list of callables, none of them a coroutine function")
    return kept


def as_asker(may_send: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Refuse what cannot be called, and what would have to be awaited."""
    if may_send is not None and (not callable(may_send) or _is_awaited(may_send)):
        raise InvalidArgument("may_send must be a callable that returns a bool, and no coroutine function")
    return may_send


def both_agree(outer: Callable[[], bool] | None, inner: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Return what says yes when both do, asking *outer* first."""
    if outer is None or inner is None:
        return inner if outer is None else outer
    return lambda: outer() is True and inner() is True


def _is_awaited(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
