"""The container services, the older family."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["Containers"]


@define(eq=False)
class Containers:
    """The container services, the older family."""

    _ground: Ground = field(repr=False)
