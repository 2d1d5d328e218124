"""Environments of the platform: their delayed status, and their list as JSON that is rebuilt only after a change."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final

import orjson
from attrs import Factory, asdict, define, evolve, field, frozen

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


@frozen
class Environment:
    """One environment; the times are strings as in the reply of `describeenvs`."""

    env: str
    alias: str
    status: str
    create_time: str
    update_time: str
    env_type: str | None = None


@frozen(order=True)
class _ScheduledChange:
    """A change of an environment, due once the clock or the poll counter reaches `at`."""

    at: float
    # Among changes due at the same time, the one scheduled first comes first.
    sequence: int
    env: str
    policy: ReadyPolicy = field(order=False)


@define(eq=False)
class EnvironmentRegistry:
    """Owner of the environments.

    A new environment passes three heaps: it waits to become visible, then for its seconds, then for its polls. So the
    cost of a poll depends on what changed since the last one, not on the number of environments.
    """

    poll_count: int = 0
    _environments: dict[str, Environment] = Factory(dict[str, Environment])
    _encoded: dict[str, bytes] = Factory(dict[str, bytes])
    _encoded_list: bytes | None = None
    _awaiting_visibility: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _awaiting_seconds: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _awaiting_polls: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _sequence: int = 0

    @property
    def environments(self) -> Mapping[str, Environment]:
        return MappingProxyType(self._environments)

    def create(self, environment: Environment, *, visible_at: float, policy: ReadyPolicy) -> None:
        """Add a new environment, which the first poll from `visible_at` on lists and starts."""
        self._sequence += 1
        self._environments[environment.env] = environment
        heappush(self._awaiting_visibility, _ScheduledChange(visible_at, self._sequence, environment.env, policy))

    def put(self, environment: Environment) -> None:
        self._environments[environment.env] = environment
        self._update_encoded(environment)

    def remove(self, env: str) -> None:
        # Its scheduled change stays in the heap and is ignored when it is due.
        del self._environments[env]
        if self._encoded.pop(env, None) is not None:
            self._encoded_list = None

    def set_status(self, env: str, status: str, update_time: str) -> None:
        """Set the status of an environment; one that is not yet visible stays so."""
        updated = self._environments[env] = evolve(self._environments[env], status=status, update_time=update_time)
        if env in self._encoded:
            self._update_encoded(updated)

    def poll(self, now: float, timestamp: str) -> bytes:
        """Count a poll, start the environments that became visible, and return all visible ones as a JSON array."""
        self.poll_count += 1
        while self._awaiting_visibility and self._awaiting_visibility[0].at <= now:
            change = heappop(self._awaiting_visibility)
            environment = self._environments.get(change.env)
            if environment is not None:
                self._update_encoded(environment)
                # From here on `sequence` holds the number of the first poll, from which `polls` is counted.
                started = evolve(change, at=now + change.policy.seconds, sequence=self.poll_count)
                heappush(self._awaiting_seconds, started)
        self.update_statuses(now, timestamp)
        if self._encoded_list is None:
            self._encoded_list = b"[" + b",".join(self._encoded.values()) + b"]"
        return self._encoded_list

    def update_statuses(self, now: float, timestamp: str) -> None:
        """Set every environment to NORMAL whose time has come, without counting a poll."""
        while self._awaiting_seconds and self._awaiting_seconds[0].at <= now:
            change = heappop(self._awaiting_seconds)
            heappush(self._awaiting_polls, evolve(change, at=change.sequence + change.policy.polls))
        while self._awaiting_polls and self._awaiting_polls[0].at <= self.poll_count:
            environment = self._environments.get(heappop(self._awaiting_polls).env)
            # It may be gone or HALTED by now.
            if environment is not None and environment.status == UNAVAILABLE:
                self.set_status(environment.env, NORMAL, timestamp)

    def _update_encoded(self, environment: Environment) -> None:
        row = asdict(environment, filter=lambda attribute, _value: attribute.name != "env_type")
        # The platform assigns package, database and bucket during the initialisation, so an UNAVAILABLE one has none.
        if environment.status != UNAVAILABLE:
            row |= {"package_id": "basic", "package_name": "基础版 1", "dbinstance_id": f"tnt-{environment.env[-9:]}"}
            row["bucket_id"] = f"6d79-{environment.env}-1304480914"
        self._encoded[environment.env] = orjson.dumps(row)
        self._encoded_list = None
