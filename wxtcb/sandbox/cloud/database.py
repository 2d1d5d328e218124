"""The collections and records of the environments."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["Databases"]


@define(eq=False)
class Databases:
    """The collections and records of the environments."""

    _ground: Ground = field(repr=False)
