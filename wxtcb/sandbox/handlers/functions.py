"""What the calls of this group do to the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wxtcb.sandbox.asked import Body
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

HANDLERS: Final[dict[str, Callable[[World, Body], bytes]]] = {}
