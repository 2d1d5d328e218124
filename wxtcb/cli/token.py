"""`wxtcb token`: what there is to buy a token with, and a token only on request."""

from __future__ import annotations

import asyncio
import os
import sys

from wxtcb.api.token import api_component_token
from wxtcb.cli.output import be_private
from wxtcb.cli.settings import STORE, VARIABLES, Settings, read_settings
from wxtcb.errors import InvalidArgument
from wxtcb.tokens.sources import ComponentToken


def token(*, fetch: bool, reveal: bool, own_token: bool) -> int:
    """Print which variables are set, or fetch a token and print its life; its value only if *reveal*."""
    if not fetch:
        if reveal:
            raise InvalidArgument("--reveal: there is no token to show without --fetch; nothing was sent")
        sys.stdout.write("".join(f"{name}: {_state(name)}\n" for name in (*VARIABLES, STORE)))
        sys.stdout.write("No token was fetched, and none is kept between commands; --fetch fetches one.\n")
        return 0
    be_private()
    settings = read_settings(os.environ)
    if not settings.on_loopback and not own_token:
        raise InvalidArgument(
            f"--fetch: a new token of {settings.base_url} may void the one your backend works with; nothing was sent. "
            "Add --own-token if no other program uses this platform"
        )
    bought = asyncio.run(_buy(settings))
    sys.stdout.write(f"A token was fetched; it lives {bought.expires_in} s.\n")
    if reveal:
        sys.stdout.write(f"{bought.component_access_token.reveal()}\n")
    return 0


def _state(name: str) -> str:
    return "set" if os.environ.get(name, "").strip() else "not set"


async def _buy(settings: Settings) -> ComponentToken:
    ticket = await settings.newest_ticket()
    async with settings.session() as session:
        return await api_component_token(session, component_verify_ticket=ticket)
