"""`wxtcb token`: how token and ticket are; a token only on request."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs

from wxtcb.api.token import api_component_token
from wxtcb.cli.config import OF_THE_RECEIVER, TICKET, TICKET_FILE, VARIABLES, Settings, TicketFile, read_settings
from wxtcb.cli.console import as_typed, columns, print_document, print_line, printable, say_below
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.cli.streams import be_private
from wxtcb.errors import InvalidArgument, WxtcbError
from wxtcb.secret import Secret
from wxtcb.tokens import Health
from wxtcb.tokens.state import TICKET_LIFE


@attrs.frozen
class Living:
    """A token, and how to tell of it."""

    value: Secret
    told: str


def token(*, fetch: bool, reveal: bool, own_token: bool) -> int:
    """Print which credentials are set and what the store keeps, or see to a living token and print its life."""
    if fetch:
        return _fetch(reveal=reveal, own_token=own_token)
    if reveal:
        raise InvalidArgument("--reveal: there is no token to show without --fetch; nothing was sent")
    for line in columns([(name, _state(name)) for name in (*VARIABLES, *OF_THE_RECEIVER)]):
        print_line(line)
    try:
        settings = read_settings(os.environ)
    except WxtcbError as error:
        print_line(f"Not ready: {printable(str(error))}.")
        return 0
    return _show_state(settings)


def _state(name: str) -> str:
    return "set" if os.environ.get(name, "").strip() else "not set"


def _show_state(settings: Settings) -> int:
    demand = "" if settings.on_loopback or settings.store else "; what fetches a token there needs --own-token"
    print_line(f"Ready for {settings.base_url}{demand}.")
    if settings.store is None:
        print_line("No token was fetched, and none is kept between commands; --fetch fetches one.")
        return 0
    health = run_until_signal(_look(settings))
    if isinstance(health, Ended):
        return health.exit_code
    for line in (*_tell(health), *_tell_source(settings, health)):
        print_line(line)
    return 0


async def _look(settings: Settings) -> Health:
    async with settings.session() as session:
        return await session.health()


def _tell(health: Health) -> Iterator[str]:
    """Say how the token and the ticket of the store are, and what is wrong."""
    if health.fetches is not None:  # else the store is down, which is the problem
        yield from _tell_store(health)
    yield from map(_tell_problem, health.problems)


def _tell_store(health: Health) -> Iterator[str]:
    if health.token_left is None:
        yield "The store keeps no token yet."
    else:
        life = f"lives {_span(health.token_left)} more" if health.token_left > 0 else "is over"
        yield (
            f"The token in the store {life}; {health.token_by} fetched it {_span(health.token_age)} ago "
            f"({health.token_cause})."
        )
    if health.ticket_age is not None:
        yield f"The ticket in the store came {_span(health.ticket_age)} ago."
    yield f"Tokens fetched within the last hour: {health.fetches}."
    if health.renewing is not None:
        yield f"{health.renewing} fetches a token just now."


def _tell_problem(problem: WxtcbError) -> str:
    notes = "".join(f" ({note})" for note in getattr(problem, "__notes__", ()))
    return as_typed(printable(f"Problem: {problem}{notes}"))


def _tell_source(settings: Settings, health: Health) -> Iterator[str]:
    """Say which ticket is used, where one is given beside the store."""
    if settings.ticket and health.fetches is not None:
        name = TICKET_FILE if isinstance(settings.ticket, TicketFile) else TICKET
        is_good = health.ticket_age is not None and health.ticket_age <= TICKET_LIFE
        yield (
            f"The ticket in the store is used, and {name} is not."
            if is_good
            else f"{name} is used, for the store keeps no ticket of the last 12 hours."
        )


def _span(seconds: float | None) -> str:
    whole = round(seconds or 0)
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"


def _fetch(*, reveal: bool, own_token: bool) -> int:
    settings = read_settings(os.environ)
    settings.demand_own_token("--fetch", given=own_token)
    be_private()
    living = run_until_signal(_buy(settings) if settings.store is None else _share(settings))
    return _tell_end(living) if isinstance(living, Ended) else _show(living, reveal=reveal)


def _tell_end(ended: Ended) -> int:
    say_below(f"{ended.name} cut the fetch off: a token may have been minted, which may void another one.")
    return ended.exit_code


def _show(living: Living, *, reveal: bool) -> int:
    print_line(living.told)
    if reveal:
        print_document(living.value.reveal().encode())
    return 0


async def _buy(settings: Settings) -> Living:
    ticket = await settings.newest_ticket()
    async with settings.session() as session:
        bought = await api_component_token(session, component_verify_ticket=ticket)
    return Living(bought.component_access_token, f"A token was fetched; it lives {bought.expires_in} s.")


async def _share(settings: Settings) -> Living:
    """Take the token of the store, renewed where that is due: to fetch another would void it."""
    async with settings.session() as session:
        value = await session.token()
        left = session.stats().token_left or 0.0
    return Living(value, f"The token in the store lives {_span(left)} more.")
