"""`wxtcb token`: how token and ticket are; a token only on request."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs

from wxtcb.api.token import api_component_token
from wxtcb.cli.config import (
    RECEIVER_VARS,
    SESSION_VARS,
    TICKET_FILE_VAR,
    TICKET_VAR,
    Settings,
    TicketFile,
    read_settings,
)
from wxtcb.cli.console import (
    align_columns,
    as_command,
    echo_err_newline,
    echo_out,
    escape_unprintable,
    mark_stdout_sensitive,
    print_json_bytes,
)
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument, WxtcbError
from wxtcb.secret import Secret
from wxtcb.tokens import Health
from wxtcb.tokens.state import TICKET_TTL


@attrs.frozen
class TokenResult:
    """A token, and how to tell of it."""

    value: Secret
    message: str


def token(*, fetch: bool, reveal: bool, own_token: bool) -> int:
    """Print which credentials are set and what the store keeps, or see to a living token and print its life."""
    if fetch:
        return _fetch_and_print(reveal=reveal, own_token=own_token)
    if reveal:
        raise InvalidArgument("--reveal: there is no token to show without --fetch; nothing was sent")
    for line in align_columns([(name, _variable_state(name)) for name in (*SESSION_VARS, *RECEIVER_VARS)]):
        echo_out(line)
    try:
        settings = read_settings(os.environ)
    except WxtcbError as error:
        echo_out(f"Not ready: {escape_unprintable(str(error))}.")
        return 0
    return _print_state(settings)


def _variable_state(name: str) -> str:
    return "set" if os.environ.get(name, "").strip() else "not set"


def _print_state(settings: Settings) -> int:
    demand = "" if settings.on_loopback or settings.store else "; what fetches a token there needs --own-token"
    echo_out(f"Ready for {settings.base_url}{demand}.")
    if settings.store is None:
        echo_out("No token was fetched, and none is kept between commands; --fetch fetches one.")
        return 0
    health = run_until_signal(_read_health(settings))
    if isinstance(health, Interrupted):
        return health.exit_code
    for line in (*_describe_health(health), *_describe_ticket_source(settings, health)):
        echo_out(line)
    return 0


async def _read_health(settings: Settings) -> Health:
    async with settings.session() as session:
        return await session.health()


def _describe_health(health: Health) -> Iterator[str]:
    """Say how the token and the ticket of the store are, and what is wrong."""
    if health.fetches_last_hour is not None:  # else the store is down, which is the problem
        yield from _describe_store(health)
    yield from map(_describe_error, health.problems)


def _describe_store(health: Health) -> Iterator[str]:
    if health.token_expires_in is None:
        yield "The store keeps no token yet."
    else:
        life = f"lives {_format_duration(health.token_expires_in)} more" if health.token_expires_in > 0 else "is over"
        yield (
            f"The token in the store {life}; {health.token_fetched_by} fetched it {_format_duration(health.token_age)} ago "
            f"({health.token_fetch_reason})."
        )
    if health.ticket_age is not None:
        yield f"The ticket in the store came {_format_duration(health.ticket_age)} ago."
    yield f"Tokens fetched within the last hour: {health.fetches_last_hour}."
    if health.lease_owner is not None:
        yield f"{health.lease_owner} fetches a token just now."


def _describe_error(error: WxtcbError) -> str:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return as_command(escape_unprintable(f"Problem: {error}{notes}"))


def _describe_ticket_source(settings: Settings, health: Health) -> Iterator[str]:
    """Say which ticket is used, where one is given beside the store."""
    if settings.ticket and health.fetches_last_hour is not None:
        name = TICKET_FILE_VAR if isinstance(settings.ticket, TicketFile) else TICKET_VAR
        is_good = health.ticket_age is not None and health.ticket_age <= TICKET_TTL
        yield (
            f"The ticket in the store is used, and {name} is not."
            if is_good
            else f"{name} is used, for the store keeps no ticket of the last 12 hours."
        )


def _format_duration(seconds: float | None) -> str:
    whole = round(seconds or 0)
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"


def _fetch_and_print(*, reveal: bool, own_token: bool) -> int:
    settings = read_settings(os.environ)
    settings.require_fetch_permission("--fetch", own_token=own_token)
    mark_stdout_sensitive()
    living = run_until_signal(_fetch_token(settings) if settings.store is None else _get_shared_token(settings))
    return _report_interruption(living) if isinstance(living, Interrupted) else _print_token(living, reveal=reveal)


def _report_interruption(interruption: Interrupted) -> int:
    echo_err_newline(
        f"{interruption.signal_name} cut the fetch off: a token may have been minted, which may void another one."
    )
    return interruption.exit_code


def _print_token(result: TokenResult, *, reveal: bool) -> int:
    echo_out(result.message)
    if reveal:
        print_json_bytes(result.value.reveal().encode())
    return 0


async def _fetch_token(settings: Settings) -> TokenResult:
    ticket = await settings.newest_ticket()
    async with settings.session() as session:
        bought = await api_component_token(session, component_verify_ticket=ticket)
    return TokenResult(bought.component_access_token, f"A token was fetched; it lives {bought.expires_in} s.")


async def _get_shared_token(settings: Settings) -> TokenResult:
    """Take the token of the store, renewed where that is due: to fetch another would void it."""
    async with settings.session() as session:
        value = await session.token()
        left = session.stats().token_expires_in or 0.0
    return TokenResult(value, f"The token in the store lives {_format_duration(left)} more.")
