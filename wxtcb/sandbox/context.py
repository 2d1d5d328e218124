"""What every part of the simulated cloud stands on, and how what takes time gets ready."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import define, field, frozen

from wxtcb.sandbox.environments import Ready

__all__ = ["Ground", "Ripening"]


@define
class Ripening:
    """Something that is ready once so many seconds have passed and so many looks were made, this one not counted."""

    began: float
    after: Ready
    looks: int = 0

    def look(self, now: float) -> bool:
        """Count a look; tell whether it shows the thing ready."""
        self.looks += 1
        return self.is_ready(now)

    def is_ready(self, now: float) -> bool:
        """Tell whether the thing is ready, without counting a look."""
        return now >= self.began + self.after.seconds and self.looks > self.after.looks


@frozen
class Ground:
    """The clock, chance, and the environments.

    `stamp` gives the time of day as the platform writes it, `need_normal` refuses an environment that is not there or
    not NORMAL, `after` says when an operation that begins now will be ready, `origin` where the sandbox is reached.
    """

    clock: Callable[[], float]
    random: Random = field(repr=False)
    stamp: Callable[[], str]
    need_normal: Callable[[str], None]
    after: Callable[[], Ready]
    origin: Callable[[], str]

    def begin(self) -> Ripening:
        """Begin an operation that takes time."""
        return Ripening(self.clock(), self.after())
