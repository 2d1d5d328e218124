"""`wxtcb token`: what there is to buy a token with, and a token only on request."""

from __future__ import annotations

import os
import sys

from wxtcb.api.token import api_component_token
from wxtcb.cli.output import columns, say_below
from wxtcb.cli.settings import STORE, VARIABLES, Settings, read_settings
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.cli.streams import be_private
from wxtcb.errors import InvalidArgument, WxtcbError
from wxtcb.tokens.sources import ComponentToken


def token(*, fetch: bool, reveal: bool, own_token: bool) -> int:
    """Print which credentials are set, or fetch a token and print its life; its value only if *reveal*."""
    if fetch:
        return _fetch(reveal=reveal, own_token=own_token)
    if reveal:
        raise InvalidArgument("--reveal: there is no token to show without --fetch; nothing was sent")
    lines = columns([(name, _state(name)) for name in (*VARIABLES, STORE)])
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{_readiness()}\nNo token was fetched, and none is kept between commands; --fetch fetches one.\n")
    return 0


def _state(name: str) -> str:
    return "set" if os.environ.get(name, "").strip() else "not set"


def _readiness() -> str:
    """Say whether these credentials would do, as far as can be known without a request."""
    try:
        settings = read_settings(os.environ)
    except WxtcbError as error:
        return f"Not ready: {error}."
    demand = "" if settings.on_loopback else "; what fetches a token there needs --own-token"
    return f"Ready for {settings.base_url}{demand}."


def _fetch(*, reveal: bool, own_token: bool) -> int:
    settings = read_settings(os.environ)
    settings.demand_own_token("--fetch", given=own_token)
    be_private()
    bought = run_until_signal(_buy(settings))
    return _tell_end(bought) if isinstance(bought, Ended) else _show(bought, reveal=reveal)


def _tell_end(ended: Ended) -> int:
    say_below(f"{ended.name} cut the fetch off: a token may have been minted, which may void another one.")
    return ended.exit_code


def _show(bought: ComponentToken, *, reveal: bool) -> int:
    sys.stdout.write(f"A token was fetched; it lives {bought.expires_in} s.\n")
    if reveal:
        sys.stdout.write(f"{bought.component_access_token.reveal()}\n")
    return 0


async def _buy(settings: Settings) -> ComponentToken:
    ticket = await settings.newest_ticket()
    async with settings.session() as session:
        return await api_component_token(session, component_verify_ticket=ticket)
