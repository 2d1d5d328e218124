"""Command `wxtcb token`: the state of token and ticket, and a valid token on request."""

from __future__ import annotations

from collections.abc import Iterator

from wxtcb.api.token import api_component_token
from wxtcb.cli import console
from wxtcb.cli.config import newest_ticket, require_fetch_permission
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument, TicketError, WxtcbError
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.telemetry.dispatch import describe_refresh_reason
from wxtcb.tokens import Health
from wxtcb.tokens.env_vars import NAMES, PlatformSettings, Variables, read_platform
from wxtcb.tokens.store_urls import StoreURL
from wxtcb.tokens.stores import store_name
from wxtcb.tokens.token_state import TICKET_TTL
from wxtcb.validation import check_appid, check_base_url, is_loopback


def token(*, fetch: bool, reveal: bool, own_token: bool) -> int:
    """Print the state of credentials and token store, or with *fetch* how long a valid token is valid.

    With *reveal*, print the fetched token itself as well. Return the exit code. Raises `WxtcbError` if the command is
    rejected, or if no token can be obtained.
    """
    if fetch:
        return _fetch_and_print(reveal=reveal, own_token=own_token)
    if reveal:
        raise InvalidArgument("--reveal: there is no token to print without --fetch; no request was sent")
    for line in describe_variables(Variables.read(None, None, None)):
        console.echo_out(line)
    try:
        settings = read_platform()
    except WxtcbError as error:
        # Missing credentials are the state to be shown, so this is not a failure of the command.
        _echo_not_ready(error)
        return 0
    return _print_state(settings)


def describe_variables(variables: Variables) -> Iterator[str]:
    """Iterate over a line for each variable, with its value if that is public, and for the file of variables."""
    rows: list[tuple[str, str]] = []
    for name in NAMES:
        state = "set" if name in variables.values else "not set"
        if name == "TICKET" and variables.ticket_file is not None:
            state = f"in the file {variables.ticket_file.absolute()}"
        elif name in ("COMPONENT_APPID", "BASE_URL") and _is_public(name, variables.text(name)):
            state = variables.text(name)
        rows.append((variables.prefix + name, console.escape_unprintable(state)))
    yield from console.align_columns(rows)
    if variables.env_file is not None:
        yield console.escape_unprintable(
            f"Variables that are not set in the process are read from {variables.env_file}."
        )


def _is_public(name: str, value: str) -> bool:
    """Return whether *value* has the form of an appid or a base URL: any other one may be a misplaced secret."""
    try:
        if name == "BASE_URL":
            check_base_url(value, allow_http=True)
        else:
            check_appid(name, value)
    except InvalidArgument:
        return False
    return True


def _echo_not_ready(error: WxtcbError) -> None:
    console.echo_out(console.as_command(f"Not ready: {console.escape_unprintable(str(error)).removesuffix('.')}."))


def _print_state(settings: PlatformSettings) -> int:
    store = "none" if settings.store is None else store_name(StoreURL.from_settings(settings.store).open())
    console.echo_out(console.escape_unprintable(f"Platform: {settings.component_appid}. Token store: {store}."))
    try:
        health = run_until_signal(_read_health(settings))
    except TicketError as error:
        _echo_not_ready(error)
        return 0
    if isinstance(health, Interrupted):
        return health.exit_code
    if health is not None and not health.ok:
        console.echo_out(f"Not ready for {settings.base_url}: see the problems below.")
    else:
        needs_permission = settings.store is None and not is_loopback(settings.base_url)
        permission = "; fetching a token from it requires --own-token" if needs_permission else ""
        console.echo_out(f"Ready for {settings.base_url}{permission}.")
    if health is None:
        console.echo_out(
            "No token was fetched, and none is stored between commands without a token store; --fetch fetches one."
        )
        return 0
    for line in (*describe_health(health), *_describe_ticket_source(settings, health)):
        console.echo_out(line)
    return 0


async def _read_health(settings: PlatformSettings) -> Health | None:
    """Return the health of the token store, or None without one; then raise `TicketError` if there is no ticket."""
    if settings.store is None:
        await newest_ticket(settings)
        return None
    async with Session.from_settings(settings, store_required=False) as session:
        return await session.health()


def describe_health(health: Health) -> Iterator[str]:
    """Iterate over lines with the state of the token, the ticket and the lease, and with all problems."""
    # None means that the store could not be read. That is one of the problems, and nothing else is known.
    if health.fetches_last_hour is not None:
        if health.token_expires_in is None:
            yield f"The store contains no token yet{'; --fetch fetches one' if health.ok else ''}."
        else:
            remaining, age = _format_duration(health.token_expires_in), _format_duration(health.token_age)
            validity = f"expires in {remaining}" if health.token_expires_in > 0 else "has expired"
            reason = describe_refresh_reason(health.token_fetch_reason or "")
            fetched = f"{health.token_fetched_by} fetched it {age} ago, because {reason}"
            yield f"The token in the store {validity}; {fetched}."
        if health.ticket_age is not None:
            yield f"The ticket in the store was received {_format_duration(health.ticket_age)} ago."
        yield f"Tokens fetched within the last hour: {health.fetches_last_hour}."
        if health.lease_owner is not None:
            yield f"{health.lease_owner} is fetching a token."
    for error in health.problems:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        yield console.as_command(console.escape_unprintable(f"Problem: {error}{notes}"))


def _describe_ticket_source(settings: PlatformSettings, health: Health) -> Iterator[str]:
    """Iterate over at most one line, which names the ticket that is used if one is set next to the store."""
    if settings.ticket and health.fetches_last_hour is not None:
        name = f"{settings.prefix}TICKET{'' if isinstance(settings.ticket, Secret) else '_FILE'}"
        if health.ticket_age is not None and health.ticket_age <= TICKET_TTL:
            yield f"The ticket in the store is used; {name} is ignored."
        else:
            yield f"{name} is used, because the store contains no ticket of the last 12 hours."


def _format_duration(seconds: float | None) -> str:
    total = round(seconds or 0)
    return f"{total // 3600} h {total % 3600 // 60} min" if total >= 3600 else f"{total // 60} min {total % 60} s"


def _fetch_and_print(*, reveal: bool, own_token: bool) -> int:
    settings = read_platform()
    require_fetch_permission(settings, "--fetch", own_token=own_token)
    result = run_until_signal(_fetch_token(settings) if settings.store is None else _get_shared_token(settings))
    return _report_interruption(result) if isinstance(result, Interrupted) else _print_token(*result, reveal=reveal)


def _report_interruption(interrupted: Interrupted) -> int:
    console.echo_err_newline(
        f"{interrupted.signal_name} interrupted the fetch: a token may have been issued, which may have invalidated "
        "the previous one."
    )
    return interrupted.exit_code


def _print_token(value: Secret, message: str, *, reveal: bool) -> int:
    console.echo_out(message)
    if reveal:
        # The token alone, on a line of its own, so that a shell can read it.
        console.print_json_bytes(value.reveal().encode())
    return 0


async def _fetch_token(settings: PlatformSettings) -> tuple[Secret, str]:
    ticket = await newest_ticket(settings)
    async with Session.from_settings(settings) as session:
        reply = await api_component_token(session, component_verify_ticket=ticket)
    return reply.component_access_token, f"A token was fetched; it expires in {reply.expires_in} s."


async def _get_shared_token(settings: PlatformSettings) -> tuple[Secret, str]:
    # A fetch of its own would invalidate the token that other processes use.
    async with Session.from_settings(settings) as session:
        value = await session.token()
        expires_in = session.stats().token_expires_in or 0.0
    return value, f"The token in the store expires in {_format_duration(expires_in)}."
