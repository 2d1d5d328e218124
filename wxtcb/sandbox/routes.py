"""Routes: the handlers by path, collected from the groups in `wxtcb.sandbox.services`."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services import cloudrun, containers, environment, functions, hosting, storage, token
from wxtcb.sandbox.services.database import databases
from wxtcb.sandbox.world import Handler, World

HANDLERS: Final[dict[str, Handler]] = {
    path: handler
    for group in (environment, databases, storage, hosting, functions, cloudrun, containers, token)
    for path, handler in group.HANDLERS.items()
}


def handle(world: World, path: str, body: Body) -> bytes:
    """Handle a validated call, and return its encoded reply."""
    reply = HANDLERS[path](world, body)
    return reply if isinstance(reply, bytes) else orjson.dumps({"errcode": 0, "errmsg": "ok", **(reply or {})})
