"""The cloud-hosting environments, and the versions of services."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["CloudRun"]


@define(eq=False)
class CloudRun:
    """The cloud-hosting environments, and the versions of services."""

    _ground: Ground = field(repr=False)
