"""Routes: the handler of each path, collected from the groups in `wxtcb.sandbox.services`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services import cloudrun, containers, environment, functions, hosting, storage, token
from wxtcb.sandbox.services.database import databases
from wxtcb.sandbox.world import Handler, World


def _with_encoded_reply(handler: Handler) -> Callable[[World, Body], bytes]:
    def handle(world: World, body: Body) -> bytes:
        reply = handler(world, body)
        return reply if isinstance(reply, bytes) else success(**(reply or {}))

    return handle


HANDLERS: Final = {
    path: _with_encoded_reply(handler)
    for group in (environment, databases, storage, hosting, functions, cloudrun, containers, token)
    for path, handler in group.HANDLERS.items()
}
