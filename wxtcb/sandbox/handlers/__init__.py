"""Handlers: what each validated call does to the world; one module for each group of `wxtcb.api`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wxtcb.sandbox.handlers import cloudrun, containers, database, environment, functions, hosting, storage, token
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "Handler"]

Handler = Callable[[World, Body], bytes]

HANDLERS: Final[dict[str, Handler]] = {
    **environment.HANDLERS,
    **database.HANDLERS,
    **storage.HANDLERS,
    **hosting.HANDLERS,
    **functions.HANDLERS,
    **cloudrun.HANDLERS,
    **containers.HANDLERS,
    **token.HANDLERS,
}
