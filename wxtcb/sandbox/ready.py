"""When a new environment becomes usable."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Ready"]


@frozen
class Ready:
    """A new environment turns NORMAL when both bounds are met, each counted from the first look at it.

    A look is a `describeenvs` call: the platform documents the first one after `createenv` as required, because
    it starts the initialisation. Nobody looks: the environment stays UNAVAILABLE for ever, under every policy.
    """

    seconds: float = 0.0
    looks: int = 0

    @classmethod
    def at_once(cls) -> Ready:
        """Let the first look show it NORMAL already."""
        return cls()

    @classmethod
    def after_seconds(cls, seconds: float) -> Ready:
        """Let it turn NORMAL so many seconds after the first look, by the world's clock."""
        return cls(seconds=seconds)

    @classmethod
    def after_looks(cls, looks: int) -> Ready:
        """Let so many looks show it UNAVAILABLE, and the next one NORMAL."""
        return cls(looks=looks)
