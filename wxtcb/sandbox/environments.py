"""The environments of the platform: how they ripen, and their list as bytes that are only rebuilt when it changed."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final

import orjson
from attrs import Factory, define, evolve, field, frozen

__all__ = ["HALTED", "NORMAL", "UNAVAILABLE", "Environment", "EnvironmentRegistry", "ReadyPolicy"]

NORMAL: Final = "NORMAL"
UNAVAILABLE: Final = "UNAVAILABLE"
HALTED: Final = "HALTED"


@frozen
class ReadyPolicy:
    """A new environment turns NORMAL when both bounds are met, each counted from the first look at it.

    A look is a `describeenvs` call: the platform documents the first one after `createenv` as required, because
    it starts the initialisation. Nobody looks: the environment stays UNAVAILABLE for ever, under every policy.
    """

    seconds: float = 0.0
    polls: int = 0

    @classmethod
    def immediately(cls) -> ReadyPolicy:
        """Let the first look show it NORMAL already."""
        return cls()

    @classmethod
    def after_seconds(cls, seconds: float) -> ReadyPolicy:
        """Let it turn NORMAL so many seconds after the first look, by the world's clock."""
        return cls(seconds=seconds)

    @classmethod
    def after_polls(cls, polls: int) -> ReadyPolicy:
        """Let so many looks show it UNAVAILABLE, and the next one NORMAL."""
        return cls(polls=polls)


@frozen
class Environment:
    """One environment as it stands; times of day are the strings that `describeenvs` shows."""

    env: str
    alias: str
    status: str
    create_time: str
    update_time: str
    env_type: str | None = None


@frozen(order=True)
class _ScheduledChange:
    """Something that happens to an environment once a clock or a look counter reaches `at`."""

    at: float
    sequence: int
    env: str = ""
    policy: ReadyPolicy = field(default=ReadyPolicy(), order=False)


def _encode_environment(environment: Environment) -> bytes:
    shown = {
        "env": environment.env,
        "alias": environment.alias,
        "create_time": environment.create_time,
        "update_time": environment.update_time,
        "status": environment.status,
    }
    if environment.status != UNAVAILABLE:
        tail = environment.env[-9:]
        shown |= {"package_id": "basic", "package_name": "基础版 1", "dbinstance_id": f"tnt-{tail}"}
        shown["bucket_id"] = f"6d79-{environment.env}-1304480914"
    return orjson.dumps(shown)


@define(eq=False)
class EnvironmentRegistry:
    """Owner of the environments; the cost of a look is that of what changed since the last one."""

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
        """All environments, those not yet visible included, oldest first."""
        return MappingProxyType(self._environments)

    def create(self, environment: Environment, *, visible_at: float, policy: ReadyPolicy) -> None:
        """Take in a new environment that the first look from `visible_at` on will show and start."""
        self._sequence += 1
        self._environments[environment.env] = environment
        heappush(self._awaiting_visibility, _ScheduledChange(visible_at, self._sequence, environment.env, policy))

    def put(self, environment: Environment) -> None:
        """Take in, or overwrite, an environment as it is, and show it from now on."""
        self._environments[environment.env] = environment
        self._update_encoded(environment)

    def remove(self, env: str) -> None:
        """Forget an environment; what was due for it is dropped when its time comes."""
        del self._environments[env]
        if self._encoded.pop(env, None) is not None:
            self._encoded_list = None

    def set_status(self, env: str, status: str, update_time: str) -> None:
        """Give an environment another status; a hidden one stays hidden."""
        row = self._environments[env] = evolve(self._environments[env], status=status, update_time=update_time)
        if env in self._encoded:
            self._update_encoded(row)

    def poll(self, now: float, timestamp: str) -> bytes:
        """Count a look, start what is newly visible, and return the JSON array of all that can be seen."""
        self.poll_count += 1
        while self._awaiting_visibility and self._awaiting_visibility[0].at <= now:
            self._make_visible(heappop(self._awaiting_visibility), now)
        self.update_statuses(now, timestamp)
        if self._encoded_list is None:
            self._encoded_list = b"[" + b",".join(self._encoded.values()) + b"]"
        return self._encoded_list

    def update_statuses(self, now: float, timestamp: str) -> None:
        """Bring every status up to date without counting a look."""
        while self._awaiting_seconds and self._awaiting_seconds[0].at <= now:
            due = heappop(self._awaiting_seconds)
            heappush(self._awaiting_polls, evolve(due, at=due.sequence + due.policy.polls))
        while self._awaiting_polls and self._awaiting_polls[0].at <= self.poll_count:
            self._mark_normal(heappop(self._awaiting_polls).env, timestamp)

    def _make_visible(self, change: _ScheduledChange, now: float) -> None:
        if change.env in self._environments:
            self._update_encoded(self._environments[change.env])
            heappush(
                self._awaiting_seconds,
                _ScheduledChange(now + change.policy.seconds, self.poll_count, change.env, change.policy),
            )

    def _mark_normal(self, env: str, timestamp: str) -> None:
        row = self._environments.get(env)
        if row is not None and row.status == UNAVAILABLE:
            self.set_status(env, NORMAL, timestamp)

    def _update_encoded(self, environment: Environment) -> None:
        self._encoded[environment.env] = _encode_environment(environment)
        self._encoded_list = None
