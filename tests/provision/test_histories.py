"""The rules of provisioning hold in every history of processes, platform faults and manual changes."""

from __future__ import annotations

import os

import attrs
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wxtcb.sandbox import Fault, FaultKind

from .constants import CREATE, LIST
from .fake_platform import NetworkFault, StorageFault
from .simulated_history import SETTLE, InMemoryStore, OnDiskStore, SimulatedHistory

FULL = bool(os.environ.get("WXTCB_SOAK"))
AMBIGUOUS_FAULTS = [
    FaultKind.BUSY,
    FaultKind.BUSY_AFTER,
    FaultKind.DROP,
    FaultKind.DROP_AFTER,
    FaultKind.HTTP,
    FaultKind.HTTP_AFTER,
]
CREATE_FAULTS = [
    None,
    *map(Fault, AMBIGUOUS_FAULTS),
    NetworkFault.LATE,
    NetworkFault.LATE,
    Fault(FaultKind.SLOW, seconds=20.0),
    Fault(FaultKind.SLOW, seconds=60.0),
    Fault(FaultKind.HANG_AFTER),
    Fault(FaultKind.SYSTEM_ERROR_AFTER),
    Fault(FaultKind.EXPIRE_TOKEN),
    Fault(FaultKind.ERRCODE, errcode=45011),
    Fault(FaultKind.ERRCODE, errcode=40097),
]
LIST_FAULTS = [
    None,
    Fault(FaultKind.SLOW, seconds=4.0),
    Fault(FaultKind.SLOW, seconds=30.0),
    Fault(FaultKind.HTTP),
    Fault(FaultKind.ERRCODE, errcode=40097),
]
INCOMPLETE_LISTS = [
    NetworkFault.LACKS_NEWEST,
    NetworkFault.LACKS_OLDEST,
    NetworkFault.LACKS_ALL,
    NetworkFault.LACKS_ALL,
]
COMMIT_FAULTS = [None, 0.5, 8.0, 60.0, StorageFault.STORED, StorageFault.NOT_STORED]
VISIBILITY_DELAYS = [0.0, SETTLE / 2, SETTLE - 0.1]
COUNTED_EVENTS = [
    *(f"{event} {CREATE}" for event in ("sent", "acted", "answered")),
    *(f"{event} commit" for event in ("requested", "stored")),
    *(f"{event} {LIST}" for event in ("sent", "answered")),
]
POINTS = st.one_of(
    st.tuples(st.sampled_from(COUNTED_EVENTS), st.integers(1, 4)),
    st.tuples(st.just("turn"), st.integers(1, 80)),
)
SECONDS = st.sampled_from([0.1, 1.0, 4.0, 10.0, 20.0, 46.0, 66.0, 120.0])
CLOCK_JUMPS = st.sampled_from([0.0, -100_000.0, -30.0, 30.0, 100_000.0])
INDEXES = st.integers(0, 5)
SKEWS = st.sampled_from([0.0, 0.0, -3600.0, 3600.0])
CALL_FAULTS = [None, 0.5, 8.0, 45.0, StorageFault.STORED, StorageFault.NOT_STORED]


class RandomHistory(RuleBasedStateMachine):
    """What may happen at any moment in every history.

    `visibility_delays` are the seconds until a new environment is listed. Only violations that contain
    `expected_violation` count.
    """

    store = InMemoryStore
    visibility_delays = VISIBILITY_DELAYS
    expected_violation = ""

    def __init__(self):
        super().__init__()
        self.history = self.create_history()
        self.holds = True

    def create_history(self):
        return SimulatedHistory(self.store())

    def restart(self, skew):
        self.history.begin(skew=skew)

    @rule(faults=st.lists(st.sampled_from(CREATE_FAULTS), min_size=1, max_size=3))
    def add_create_faults(self, faults):
        self.history.platform.faults[CREATE].extend(faults)

    @rule(fault=st.sampled_from(LIST_FAULTS), times=st.integers(1, 4))
    def add_list_faults(self, fault, times):
        self.history.platform.faults[LIST].extend([fault] * times)

    @rule(incomplete_list=st.sampled_from(INCOMPLETE_LISTS), seconds=SECONDS)
    def make_lists_incomplete(self, incomplete_list, seconds):
        platform = self.history.platform
        platform.incomplete_list, platform.incomplete_until = incomplete_list, self.history.timeline.now + seconds

    @rule(faults=st.lists(st.sampled_from(COMMIT_FAULTS), min_size=1, max_size=2))
    def add_commit_faults(self, faults):
        self.history.backend.faults.extend(faults)

    @rule(faults=st.lists(st.sampled_from(CALL_FAULTS), min_size=1, max_size=3))
    def add_call_faults(self, faults):
        self.history.backend.call_faults.extend(faults)

    @rule(seconds=SECONDS)
    def take_storage_away(self, seconds):
        self.history.backend.away_until = self.history.timeline.now + seconds

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 20.0, 34.0]))
    def slow_down(self, data, seconds):
        self.history.sandbox.world.visible_after = data.draw(st.sampled_from(self.visibility_delays))
        self.history.platform.token_delay = seconds

    @precondition(lambda self: self.history.processes)
    @rule(point=POINTS)
    def run_to(self, point):
        self._run_to(point)

    @rule(seconds=SECONDS)
    def wait(self, seconds):
        self.history.timeline.advance(seconds)

    @precondition(lambda self: self.history.processes)
    @rule(point=POINTS, stored=st.booleans(), restart=st.booleans(), index=INDEXES, seconds=CLOCK_JUMPS, skew=SKEWS)
    def crash(self, *, point, stored, restart, index, seconds, skew):
        """Kill a process, and perhaps start one at once, as after a reboot with another wall clock."""
        self._run_to(point)
        if process := self._pick(index):
            process.kill(stored=stored)
            if restart:
                self.history.timeline.skew += seconds
                self.restart(skew)

    @precondition(lambda self: self.history.processes)
    @rule(point=POINTS, index=INDEXES)
    def freeze(self, point, index):
        self._run_to(point)
        if process := self._pick(index):
            process.freeze()

    @precondition(lambda self: self.history.processes)
    @rule(index=INDEXES)
    def thaw(self, index):
        self._pick(index).thaw()

    @precondition(lambda self: self.history.processes)
    @rule(index=INDEXES)
    def cancel(self, index):
        self._pick(index).cancel()

    @rule(seconds=CLOCK_JUMPS)
    def set_clock(self, seconds):
        self.history.timeline.skew += seconds

    @rule(index=INDEXES, action=st.sampled_from(["create", "delete"]))
    def change_by_hand(self, index, action):
        """Create or delete an environment at the platform's console."""
        envs, alias = [*self.history.environments()], f"a{index % 3}"
        if action == "create":
            self.history.create_by_hand(alias)
        elif envs:
            self.history.delete_by_hand(envs[index % len(envs)])

    @precondition(lambda self: self.history.ambiguous_aliases() and self.history.bound_envs())
    @rule(index=INDEXES)
    def give_ambiguous_alias(self, index):
        """Change the alias of a bound environment to that of a tenant whose create is ambiguous."""
        bound, ambiguous = self.history.bound_envs(), self.history.ambiguous_aliases()
        self.history.change_alias_by_hand(bound[index % len(bound)], ambiguous[index % len(ambiguous)])

    def _run_to(self, point):
        event, count = point
        counts = self.history.timeline.counts
        goal, limit = counts[event] + count, self.history.timeline.now + 300.0
        self.history.timeline.run(lambda: counts[event] >= goal, limit)

    def _pick(self, index):
        processes = self.history.processes
        return processes[index % len(processes)] if processes else None

    @invariant()
    def no_rule_is_broken(self):
        violations = [each for each in self.history.violations() if self.expected_violation in each]
        self.holds = not violations
        assert self.holds, violations

    def teardown(self):
        try:
            if self.holds:
                last = self.history.finish()
                self.no_rule_is_broken()
                unfinished = [each for each in self.history.unfinished(last) if self.expected_violation in str(each)]
                assert not unfinished, unfinished
        finally:
            self.history.close()


class Histories(RandomHistory):
    """At most two processes at a time provision the same tenants, without an election."""

    @initialize(faults=st.lists(st.sampled_from(CREATE_FAULTS), max_size=6), concurrency=st.sampled_from([1, 4]))
    def begin_first(self, faults, concurrency):
        self.history.platform.faults[CREATE].extend(faults)
        self.history.sandbox.world.visible_after = self.visibility_delays[0]
        self.history.begin(concurrency=concurrency)

    @precondition(lambda self: len(self.history.processes) < 2)
    @rule(
        pause=st.sampled_from([0.0, 0.0, 8.0]),
        concurrency=st.sampled_from([1, 4]),
        all_tenants=st.booleans(),
        skew=SKEWS,
    )
    def start(self, pause, concurrency, all_tenants, skew):
        self.history.begin(pause=pause, concurrency=concurrency, all_tenants=all_tenants, skew=skew)

    @precondition(lambda self: len(self.history.processes) < 2)
    @rule(decision=st.sampled_from(["adopt", "forget", "removed"]), index=INDEXES)
    def start_with_decision(self, decision, index):
        """Start a process with an operator's decision."""
        self.history.begin(all_tenants=True, **self._decide(decision, index))

    def _decide(self, decision, index):
        if decision == "removed":
            return {"removed": True}
        if decision == "forget":
            return {"forget": self.history.deleted_envs()}
        listed = self.history.environments()
        pairs = [
            (tenant, env) for tenant in self.history.tenants for env in listed if listed[env].alias == tenant.alias
        ]
        if not pairs:
            return {}
        tenant, env = pairs[index % len(pairs)]
        self.history.touched_aliases.add(tenant.alias.lower())
        return {"adopt": {tenant.name: env}}

    @precondition(lambda self: self.history.tenants)
    @rule(index=INDEXES, action=st.sampled_from(["remove", "rename", "give alias", "restore"]))
    def edit_tenants(self, index, action):
        """Edit the list of the tenants."""
        tenants = self.history.tenants
        place = index % len(tenants)
        if action == "remove" and len(tenants) > 1:
            self.history.removed_tenants.append(tenants.pop(place))
        elif action == "rename":
            tenants[place] = attrs.evolve(tenants[place], name=f"{tenants[place].name}x")
        elif action == "give alias":
            tenants[place] = attrs.evolve(tenants[place], alias=f"{tenants[place].alias}b")
        elif self.history.removed_tenants:
            tenants.append(self.history.removed_tenants.pop())


class TwoProcessHistories(Histories):
    """Two processes begin together and no person interferes: no tenant may ever be in conflict."""

    start_with_decision = change_by_hand = give_ambiguous_alias = edit_tenants = None

    @initialize(
        faults=st.lists(st.sampled_from(CREATE_FAULTS), max_size=6), concurrency=st.sampled_from([1, 4]), skew=SKEWS
    )
    def begin_first(self, faults, concurrency, skew):
        self.history.checker.conflicts_are_false = True
        super().begin_first(faults=faults, concurrency=concurrency)
        self.history.begin(concurrency=concurrency, skew=skew)


class HistoriesOnDisk(Histories):
    """The same histories with a journal in a file."""

    store = OnDiskStore


def quick_settings(max_examples):
    return settings(
        max_examples=10 * max_examples if FULL else max_examples,
        stateful_step_count=30 if FULL else 15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


TestHistories = Histories.TestCase
TestHistories.settings = quick_settings(120)
TestTwoProcessHistories = TwoProcessHistories.TestCase
TestTwoProcessHistories.settings = quick_settings(100)
TestHistoriesOnDisk = HistoriesOnDisk.TestCase
TestHistoriesOnDisk.settings = quick_settings(25)
