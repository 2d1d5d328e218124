"""establishcloudbaserunserver."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.asked import Body, ok
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "establish_server"]


def establish_server(world: World, body: Body) -> bytes:
    """Open an empty service; the answer names nothing, as on the platform."""
    world.establish(body.text("env_id"), body.text("service_name"), body.fields)
    return ok()


HANDLERS: Final = {"/componenttcb/establishcloudbaserunserver": establish_server}
