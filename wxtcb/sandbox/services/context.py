"""Context of all services: their view of the world, statuses, readiness of operations, and batch calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final

from attrs import define, field, frozen

from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.request import Body

# Statuses of the environments of cloud development and of cloud hosting.
NORMAL: Final = "NORMAL"
UNAVAILABLE: Final = "UNAVAILABLE"
HALTED: Final = "HALTED"


@frozen
class ReadyPolicy:
    """Readiness condition of something new: after `seconds` and after `polls` polls, whichever is later.

    For an environment, both are counted from the first `describeenvs` call that lists it, because it starts the
    initialisation. An environment that is never polled stays UNAVAILABLE.
    """

    seconds: float = 0.0
    polls: int = 0

    @classmethod
    def immediately(cls) -> ReadyPolicy:
        """Return the policy under which the first poll shows NORMAL."""
        return cls()

    @classmethod
    def after_seconds(cls, seconds: float) -> ReadyPolicy:
        """Return the policy of NORMAL so many seconds after the first poll, on the world's clock."""
        return cls(seconds=seconds)

    @classmethod
    def after_polls(cls, polls: int) -> ReadyPolicy:
        """Return the policy under which so many polls show UNAVAILABLE and the next one NORMAL."""
        return cls(polls=polls)


@define
class Readiness:
    """Readiness of an operation: ready `policy.seconds` after `started_at` and after `policy.polls` earlier polls."""

    started_at: float
    policy: ReadyPolicy
    poll_count: int = 0

    def poll(self, now: float) -> bool:
        self.poll_count += 1
        return self.is_ready(now)

    def is_ready(self, now: float) -> bool:
        return now >= self.started_at + self.policy.seconds and self.poll_count > self.policy.polls


@frozen
class ServiceContext:
    """Services' view of the world; `require_normal` raises `PlatformError` unless an environment is NORMAL."""

    clock: Callable[[], float]
    random: Random = field(repr=False)
    format_now: Callable[[], str]
    require_normal: Callable[[str], None]
    operation_policy: Callable[[], ReadyPolicy]
    base_url: Callable[[], str]

    def start_operation(self) -> Readiness:
        return Readiness(self.clock(), self.operation_policy())

    def utc_now(self) -> datetime:
        # Parsed from the local time of the replies, so that both always name the same second.
        return datetime.strptime(f"{self.format_now()} +0800", "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)


def run_batch(
    key_names: Sequence[str],
    items: Iterable[Body],
    action: Callable[[Body], Mapping[str, str] | None],
    message_name: str = "errmsg",
) -> dict[str, list[dict[str, str]]]:
    """Run *action* for each item, and list by their keys those that succeeded and those that were rejected."""
    succeeded: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []
    for item in items:
        keys = {name: item.string(name) for name in key_names}
        try:
            succeeded.append({**keys, **(action(item) or {})})
        except PlatformError as error:
            failed.append({**keys, message_name: error.message})
    return {"succ_list": succeeded, "fail_list": failed}
