"""Reconciliation with the platform's environment list: fresh listings, and outcomes of ambiguous creates.

A list may be incomplete, and shows a new environment only after the propagation delay ("settle"). A missing alias is
therefore no proof by itself that a create had no effect.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import EnvList, UnreadableEnv
from wxtcb.errors import WxtcbError
from wxtcb.provision.error_policy import IncompleteListing, is_fatal
from wxtcb.provision.journal import Journal
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.record import Binding, recently_opened

REQUIRED_COMPLETE_LISTINGS: Final = 2
MAX_LISTING_AGE: Final = 5.0
MAX_SLOW_LISTING_AGE: Final = 30.0


@attrs.frozen(eq=False)
class ListingDiff:
    """Comparison of one listing with the journal: its environments by alias, and the `missing` ones.

    `unknown_rows` are rows whose id or alias cannot be read, except those of known environments.
    """

    snapshot: Snapshot[EnvList]
    alias_index: AliasIndex
    missing: tuple[str, ...]
    unknown_rows: tuple[UnreadableEnv, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        return bool(self.missing or self.unknown_rows)

    @property
    def missing_message(self) -> str:
        if not self.missing:
            return unknown_rows_message(self.unknown_rows)
        first, *others = self.missing
        more = f" and {len(others)} more" if others else ""
        return f"did not show environment {first}{more}, which should be there"


def unknown_rows_message(rows: Sequence[UnreadableEnv]) -> str:
    """Return what is wrong with *rows* of the list, as the predicate of a sentence about the list."""
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return (
        f"has a row whose id or alias cannot be read ({rows[0].reason}{more}), so that a missing alias proves nothing"
    )


@attrs.define(eq=False)
class ExpectedEnvironments:
    """The environments that a complete listing contains.

    Each must be listed `settle` seconds after `bound_since`, in loop time, and once listed.
    """

    settle: float
    bound_since: dict[str, float] = attrs.field(factory=dict)
    _last_diff: ListingDiff | None = attrs.field(init=False, default=None)

    def update(self, bindings: Mapping[str, Binding], wall_time: float, read_at: float) -> None:
        """Expect the environments of *bindings*, which were read at loop time *read_at*, and those bound since then."""
        recent, known = recently_opened(bindings, wall_time, self.settle), self.bound_since
        # An environment that is new here may not be listed yet. One that another process bound long ago must be.
        since = {
            env: known.get(env, read_at - (wall_time - binding.since) if env in recent else -math.inf)
            for env, binding in bindings.items()
        }
        self.bound_since = since | {env: at for env, at in known.items() if at > read_at}
        self._last_diff = None

    def compare(self, snapshot: Snapshot[EnvList]) -> ListingDiff:
        # Cached: thousands of tenants may wait for the same snapshot.
        if self._last_diff is None or self._last_diff.snapshot is not snapshot:
            listed, settled = snapshot.value.by_env, snapshot.started_at - self.settle
            missing = tuple(env for env, since in self.bound_since.items() if since <= settled and env not in listed)
            seen = [env for env, since in self.bound_since.items() if since > settled and env in listed]
            self.bound_since.update(dict.fromkeys(seen, -math.inf))
            unknown_rows = snapshot.value.unknown_rows(self.bound_since)
            self._last_diff = ListingDiff(snapshot, AliasIndex.from_list(snapshot.value), missing, unknown_rows)
        return self._last_diff


@attrs.define(eq=False)
class KnownBindings:
    """The bindings of the journal, and the environments that are expected because of them.

    Other processes change them too, so they are read again after a while: rarely if this one is elected.
    """

    journal: Journal
    expected: ExpectedEnvironments
    wall_clock: Callable[[], float]
    is_elected: Callable[[], bool]
    _bindings: dict[str, Binding] = attrs.field(init=False, factory=dict[str, Binding])
    _added: dict[str, Binding] = attrs.field(init=False, factory=dict[str, Binding])
    _read_at: float = attrs.field(init=False, default=-math.inf)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def read(self) -> Mapping[str, Binding]:
        """Return the bindings, which may be some seconds old; this process's own are always there."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            # What was bound after the last read is recent for at least as long: no listing needs to show it yet.
            max_age = min(60.0 if self.is_elected() else MAX_LISTING_AGE, self.expected.settle / 2)
            if now - self._read_at > max_age:
                wall_time, added = self.wall_clock(), dict[str, Binding]()
                # What this process binds during the read may be missing from its result.
                self._added = added
                bindings = await self.journal.bindings(wall_time)
                self.expected.update(bindings, wall_time, now)
                self._bindings, self._read_at = {**bindings, **added}, now
            return self._bindings

    def add(self, env: str, binding: Binding) -> None:
        self._bindings[env] = self._added[env] = binding
        self.expected.bound_since[env] = asyncio.get_running_loop().time()

    def expire(self) -> None:
        self._read_at = -math.inf


@attrs.define(eq=False)
class EnvironmentListing:
    """A fresh listing of the environments, shared by all tenants that create at the same time.

    A listing is fresh if it started at most 5 seconds ago; with a slow platform, twice the time it took, but at most 30
    seconds. If it lacks known environments for 30 seconds, it is used, or `IncompleteListing` is raised if the journal
    knows one of them.
    """

    poller: SharedPoller[EnvList]
    bindings: KnownBindings
    alias_index: AliasIndex = attrs.field(init=False, factory=lambda: AliasIndex(frozenset(), {}))
    started_at: float = attrs.field(init=False, default=-math.inf)
    _last_duration: float = attrs.field(init=False, default=0.0)

    def offer(self, alias_index: AliasIndex, started_at: float, *, forgotten: frozenset[str] = frozenset()) -> None:
        """Use the listing of a plan if it is newer, and shows all that were listed before, except *forgotten* ones."""
        if started_at > self.started_at and self.alias_index.envs - forgotten <= alias_index.envs:
            self.alias_index, self.started_at = alias_index, started_at

    @property
    def expected(self) -> ExpectedEnvironments:
        return self.bindings.expected

    def is_fresh(self, now: float) -> bool:
        # Without the second limit, no create would ever be sent where a listing takes longer than 5 seconds.
        return self.started_at >= now - max(MAX_LISTING_AGE, min(2 * self._last_duration, MAX_SLOW_LISTING_AGE))

    async def refresh(self, now: float) -> None:
        """Poll a listing that shows everything expected; raise `IncompleteListing`, or the errors of listing."""
        loop, requested_at = asyncio.get_running_loop(), now
        snapshot = await self._poll_with_retries(now - MAX_LISTING_AGE)
        # Before the journal is read: a slow journal makes no listing fresh for longer.
        answered_at = loop.time()
        # After the listing: what was bound before it must be in it, or be recent.
        await self.bindings.read()
        first_started_at = snapshot.started_at
        # `IncompleteListing` names these 30 s.
        while snapshot.started_at < first_started_at + 30 and not self._is_complete(snapshot):
            await self.poller.sleep(self.poller.min_interval)
            snapshot = await self._poll_with_retries(snapshot.started_at + self.poller.min_interval)
            answered_at = loop.time()
        if (diff := self.expected.compare(snapshot)).is_incomplete:
            raise IncompleteListing(diff.missing_message)
        # Another tenant may have refreshed the listing in the meantime; an older one must not replace it.
        if snapshot.started_at > self.started_at:
            self.alias_index, self.started_at = diff.alias_index, snapshot.started_at
            # A snapshot that was there already took no time here, so it says nothing about the platform's speed.
            self._last_duration = answered_at - snapshot.started_at if answered_at > requested_at else 0.0

    def _is_complete(self, snapshot: Snapshot[EnvList]) -> bool:
        diff = self.expected.compare(snapshot)
        if diff.is_incomplete:
            return False
        # Identical if another tenant has used this snapshot already: 10,000 environments are not compared once more.
        return self.alias_index is diff.alias_index or self.alias_index.envs <= snapshot.value.by_env.keys()

    async def _poll_with_retries(self, newer_than: float) -> Snapshot[EnvList]:
        """Poll at most three times: one failed listing would fail all tenants that create within 5 seconds."""
        for _ in range(2):
            try:
                return await self.poller.poll(newer_than)
            except WxtcbError as error:
                if is_fatal(error):
                    raise
                # The shared poller returns the failed poll again unless a newer one is requested.
                newer_than = asyncio.get_running_loop().time()
        return await self.poller.poll(newer_than)


class CheckResult(Enum):
    """Result of an `OutcomeCheck`."""

    FOUND = "one environment has the alias"
    MULTIPLE = "several environments have the alias"
    ABSENT = "no environment has the alias"
    INCONCLUSIVE = "the listings were incomplete"


@attrs.define(eq=False)
class OutcomeCheck:
    """Wait until listings after `due_at` show whether an ambiguous create under *alias* took effect.

    One shows that it did; two consecutive complete ones that it did not. At `deadline` the check is inconclusive.
    """

    alias: str
    due_at: float
    deadline: float
    compare: Callable[[Snapshot[EnvList]], ListingDiff]
    found_envs: tuple[str, ...] = ()
    result: CheckResult | None = None
    reason: str = "no listing has succeeded since then"
    # The last listing that could show the outcome.
    snapshot: Snapshot[EnvList] | None = None
    _complete_listings: int = 0

    def describe(self, now: float, /) -> tuple[str, float]:
        if now < self.due_at:
            return "the propagation delay of ambiguous creates", self.due_at
        return "listings that show the outcome of creates", self.deadline

    def evaluate(self, snapshot: Snapshot[EnvList]) -> bool:
        # The create may take effect until `due_at`, so an earlier listing without the alias proves nothing.
        if snapshot.started_at < self.due_at:
            return False
        diff, self.snapshot = self.compare(snapshot), snapshot
        self.found_envs = diff.alias_index.find(self.alias)
        # The result of the create may be the row whose id cannot be read; such a listing is also incomplete.
        if self.found_envs and not diff.alias_index.has_unreadable(self.alias):
            return self._finish(CheckResult.FOUND if len(self.found_envs) == 1 else CheckResult.MULTIPLE)
        if diff.is_incomplete:
            # A listing that lacks a known environment may lack the new one too: the count starts again.
            self._complete_listings = 0
            self.reason = f"the listings since then {diff.missing_message}"
            return self.check_timeout(snapshot.started_at)
        self._complete_listings += 1
        if self._complete_listings < REQUIRED_COMPLETE_LISTINGS:
            return False
        return self._finish(CheckResult.ABSENT)

    def check_timeout(self, now: float) -> bool:
        return now >= self.deadline and self._finish(CheckResult.INCONCLUSIVE)

    def _finish(self, result: CheckResult) -> bool:
        self.result = result
        return True
