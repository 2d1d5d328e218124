"""The cloud functions of the environments."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["Functions"]


@define(eq=False)
class Functions:
    """The cloud functions of the environments."""

    _ground: Ground = field(repr=False)
