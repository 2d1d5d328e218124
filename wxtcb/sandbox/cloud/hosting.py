"""The static websites of the environments."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["Hosting"]


@define(eq=False)
class Hosting:
    """The static websites of the environments."""

    _ground: Ground = field(repr=False)
