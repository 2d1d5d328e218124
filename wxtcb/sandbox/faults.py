"""Which fault strikes which request: decided here, played elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import cast

from attrs import Factory, define, field

from wxtcb.sandbox.fault import BadFault, Fault, read_fault
from wxtcb.sandbox.recipes import Recipes
from wxtcb.sandbox.schema import CALLS, Credential

__all__ = ["Faults"]


@define
class _Armed:
    fault: Fault
    left: int | None


def _fits(fault: Fault, path: str) -> bool:
    if fault.path is None:
        return CALLS[path].credential is not Credential.NONE
    return fault.path == path


@define(eq=False)
class Faults(Recipes):
    """The faults in force.

    A path's script comes first: one entry per request, None for a request that nothing befalls. Then the first fault
    in order of adding that fits, has plays left and wins its toss. Tosses come from `seed`.

    `kill_token_every`: seconds of the world's clock after which the next call that carries a token finds the living
    one ended; None: never. Counted from the last such kill, at first from the first call; no timer runs.
    """

    seed: int = 0
    kill_token_every: float | None = None
    _random: Random = field(init=False, repr=False)
    _armed: list[_Armed] = field(init=False, repr=False, default=Factory(list[_Armed]))
    _scripts: dict[str, deque[Fault | None]] = field(
        init=False, repr=False, default=Factory(dict[str, deque[Fault | None]])
    )
    _killed_at: float | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"faults {self.seed}")

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force, behind those already there."""
        self._armed.append(_Armed(fault, fault.times))
        return fault

    def script(self, path: str, acts: Iterable[Fault | None]) -> None:
        """Lay down what befalls the next requests to a path, one each; scripts laid later are appended.

        `path`, `times` and `probability` of a scripted fault are not looked at.
        """
        self._scripts.setdefault(path, deque()).extend(acts)

    def clear(self) -> None:
        """Lift every fault and script, and stop killing tokens."""
        self._armed.clear()
        self._scripts.clear()
        self.kill_token_every = self._killed_at = None

    def load(self, entries: object) -> int:
        """Add faults described in JSON: all of them, or none and `BadFault`; returns how many."""
        if not isinstance(entries, list):
            raise BadFault("$ must be an array")
        faults = [read_fault(entry, f"$[{index}]") for index, entry in enumerate(cast("list[object]", entries))]
        for fault in faults:
            self.add(fault)
        return len(faults)

    def choose(self, path: str) -> Fault | None:
        """Decide what befalls this request, and use it up."""
        script = self._scripts.get(path)
        if script:
            return script.popleft()
        return next((armed.fault for armed in self._armed if self._strikes(armed, path)), None)

    def kill_due(self, now: float) -> bool:
        """Say whether a living token has to end now, and count the time from here if so."""
        if self.kill_token_every is None:
            return False
        if self._killed_at is None:
            self._killed_at = now
        if now - self._killed_at < self.kill_token_every:
            return False
        self._killed_at = now
        return True

    def _strikes(self, armed: _Armed, path: str) -> bool:
        if armed.left == 0 or not _fits(armed.fault, path):
            return False
        if self._random.random() >= armed.fault.probability:
            return False
        armed.left = armed.left and armed.left - 1
        return True
