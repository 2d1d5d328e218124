"""What every part of the simulated cloud stands on, and how what takes time gets ready."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import define, field, frozen

from wxtcb.sandbox.environments import ReadyPolicy

__all__ = ["Readiness", "ServiceContext"]


@define
class Readiness:
    """Something that is ready once so many seconds have passed and so many looks were made, this one not counted."""

    started_at: float
    policy: ReadyPolicy
    poll_count: int = 0

    def poll(self, now: float) -> bool:
        """Count a look; tell whether it shows the thing ready."""
        self.poll_count += 1
        return self.is_ready(now)

    def is_ready(self, now: float) -> bool:
        """Tell whether the thing is ready, without counting a look."""
        return now >= self.started_at + self.policy.seconds and self.poll_count > self.policy.polls


@frozen
class ServiceContext:
    """The clock, chance, and the environments.

    `format_now` gives the time of day as the platform writes it, `require_normal` refuses an environment that is not there or
    not NORMAL, `after` says when an operation that begins now will be ready, `base_url` where the sandbox is reached.
    """

    clock: Callable[[], float]
    random: Random = field(repr=False)
    format_now: Callable[[], str]
    require_normal: Callable[[str], None]
    operation_policy: Callable[[], ReadyPolicy]
    base_url: Callable[[], str]

    def start_operation(self) -> Readiness:
        """Begin an operation that takes time."""
        return Readiness(self.clock(), self.operation_policy())
