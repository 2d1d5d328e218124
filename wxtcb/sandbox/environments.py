"""The environments of the platform: how they ripen, and their list as bytes that are only rebuilt when it changed."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final

import orjson
from attrs import Factory, define, evolve, field, frozen

__all__ = ["HALTED", "NORMAL", "UNAVAILABLE", "Environment", "Ready", "Roster"]

NORMAL: Final = "NORMAL"
UNAVAILABLE: Final = "UNAVAILABLE"
HALTED: Final = "HALTED"


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
class _Due:
    """Something that happens to an environment once a clock or a look counter reaches `at`."""

    at: float
    turn: int
    env: str = ""
    ready: Ready = field(default=Ready(), order=False)


def _encode(row: Environment) -> bytes:
    shown = {
        "env": row.env,
        "alias": row.alias,
        "create_time": row.create_time,
        "update_time": row.update_time,
        "status": row.status,
    }
    if row.status != UNAVAILABLE:
        tail = row.env[-9:]
        shown |= {"package_id": "basic", "package_name": "基础版 1", "dbinstance_id": f"tnt-{tail}"}
        shown["bucket_id"] = f"6d79-{row.env}-1304480914"
    return orjson.dumps(shown)


@define(eq=False)
class Roster:
    """Owner of the environments; the cost of a look is that of what changed since the last one."""

    looks: int = 0
    _rows: dict[str, Environment] = Factory(dict[str, Environment])
    _encoded: dict[str, bytes] = Factory(dict[str, bytes])
    _page: bytes | None = None
    _hidden: list[_Due] = Factory(list[_Due])
    _warming: list[_Due] = Factory(list[_Due])
    _waiting: list[_Due] = Factory(list[_Due])
    _turn: int = 0

    @property
    def rows(self) -> Mapping[str, Environment]:
        """All environments, those not yet visible included, oldest first."""
        return MappingProxyType(self._rows)

    def open(self, row: Environment, *, visible_at: float, ready: Ready) -> None:
        """Take in a new environment that the first look from `visible_at` on will show and start."""
        self._turn += 1
        self._rows[row.env] = row
        heappush(self._hidden, _Due(visible_at, self._turn, row.env, ready))

    def put(self, row: Environment) -> None:
        """Take in, or overwrite, an environment as it is, and show it from now on."""
        self._rows[row.env] = row
        self._show(row)

    def remove(self, env: str) -> None:
        """Forget an environment; what was due for it is dropped when its time comes."""
        del self._rows[env]
        if self._encoded.pop(env, None) is not None:
            self._page = None

    def set_status(self, env: str, status: str, update_time: str) -> None:
        """Give an environment another status; a hidden one stays hidden."""
        row = self._rows[env] = evolve(self._rows[env], status=status, update_time=update_time)
        if env in self._encoded:
            self._show(row)

    def look(self, now: float, stamp: str) -> bytes:
        """Count a look, start what is newly visible, and return the JSON array of all that can be seen."""
        self.looks += 1
        while self._hidden and self._hidden[0].at <= now:
            self._reveal(heappop(self._hidden), now)
        self.ripen(now, stamp)
        if self._page is None:
            self._page = b"[" + b",".join(self._encoded.values()) + b"]"
        return self._page

    def ripen(self, now: float, stamp: str) -> None:
        """Bring every status up to date without counting a look."""
        while self._warming and self._warming[0].at <= now:
            due = heappop(self._warming)
            heappush(self._waiting, evolve(due, at=due.turn + due.ready.looks))
        while self._waiting and self._waiting[0].at <= self.looks:
            self._finish(heappop(self._waiting).env, stamp)

    def _reveal(self, due: _Due, now: float) -> None:
        if due.env in self._rows:
            self._show(self._rows[due.env])
            heappush(self._warming, _Due(now + due.ready.seconds, self.looks, due.env, due.ready))

    def _finish(self, env: str, stamp: str) -> None:
        row = self._rows.get(env)
        if row is not None and row.status == UNAVAILABLE:
            self.set_status(env, NORMAL, stamp)

    def _show(self, row: Environment) -> None:
        self._encoded[row.env] = _encode(row)
        self._page = None
