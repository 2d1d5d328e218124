"""Any history of processes, platform and people keeps the rules of provisioning."""

from __future__ import annotations

import os

import attrs
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wxtcb.sandbox import Fault, FaultKind

from .constants import CREATE, LIST
from .fake_platform import Lost, Odd
from .simulated_history import SETTLE, InMemory, OnDisk, Past

FULL = bool(os.environ.get("WXTCB_SOAK"))
UNCLEAR = [
    FaultKind.BUSY,
    FaultKind.BUSY_AFTER,
    FaultKind.DROP,
    FaultKind.DROP_AFTER,
    FaultKind.HTTP,
    FaultKind.HTTP_AFTER,
]
CREATES = [
    None,
    *map(Fault, UNCLEAR),
    Odd.LATE,
    Odd.LATE,
    Fault(FaultKind.SLOW, seconds=20.0),
    Fault(FaultKind.SLOW, seconds=60.0),
    Fault(FaultKind.HANG_AFTER),
    Fault(FaultKind.SYSTEM_ERROR_AFTER),
    Fault(FaultKind.EXPIRE_TOKEN),
    Fault(FaultKind.ERRCODE, errcode=45011),
    Fault(FaultKind.ERRCODE, errcode=40097),
]
LISTS = [
    None,
    Fault(FaultKind.SLOW, seconds=4.0),
    Fault(FaultKind.SLOW, seconds=30.0),
    Fault(FaultKind.HTTP),
    Fault(FaultKind.ERRCODE, errcode=40097),
]
LACKING = [Odd.LACKS_NEWEST, Odd.LACKS_OLDEST, Odd.LACKS_ALL, Odd.LACKS_ALL]
COMMITS = [None, 0.5, 8.0, 60.0, Lost.KEPT, Lost.NOT_KEPT]
VISIBLE = [0.0, SETTLE / 2, SETTLE - 0.1]
MARKS = [
    *(f"{what} {CREATE}" for what in ("sent", "acted", "told")),
    *(f"{what} commit" for what in ("asked", "kept")),
    *(f"{what} {LIST}" for what in ("sent", "told")),
]
POINTS = st.one_of(
    st.tuples(st.sampled_from(MARKS), st.integers(1, 4)),
    st.tuples(st.just("turn"), st.integers(1, 80)),
)
TIMES = st.sampled_from([0.1, 1.0, 4.0, 10.0, 20.0, 46.0, 66.0, 120.0])
JUMPS = st.sampled_from([0.0, -100_000.0, -30.0, 30.0, 100_000.0])
WHICH = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    """Two processes at most at a time; everything else may happen at any moment.

    An environment is visible after one of `visible` seconds. Of what is wrong counts what has `words` in it.
    """

    store = InMemory
    visible = VISIBLE
    words = ""

    def __init__(self):
        super().__init__()
        self.past = Past(self.store())
        self.holds = True

    @initialize(acts=st.lists(st.sampled_from(CREATES), max_size=6), concurrency=st.sampled_from([1, 4]))
    def begin_first(self, acts, concurrency):
        self.past.platform.acts[CREATE].extend(acts)
        self.past.box.world.visible_after = self.visible[0]
        self.past.begin(concurrency=concurrency)

    @rule(acts=st.lists(st.sampled_from(CREATES), min_size=1, max_size=3))
    def creates(self, acts):
        self.past.platform.acts[CREATE].extend(acts)

    @rule(act=st.sampled_from(LISTS), times=st.integers(1, 4))
    def lists(self, act, times):
        self.past.platform.acts[LIST].extend([act] * times)

    @rule(what=st.sampled_from(LACKING), seconds=TIMES)
    def lists_lack(self, what, seconds):
        self.past.platform.lacking, self.past.platform.lacks_until = what, self.past.line.now + seconds

    @rule(acts=st.lists(st.sampled_from(COMMITS), min_size=1, max_size=2))
    def commits(self, acts):
        self.past.desk.acts.extend(acts)

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 20.0, 34.0]))
    def slowness(self, data, seconds):
        self.past.box.world.visible_after = data.draw(st.sampled_from(self.visible))
        self.past.platform.token_seconds = seconds

    @precondition(lambda self: len(self.past.processes) < 2)
    @rule(pause=st.sampled_from([0.0, 0.0, 8.0]), concurrency=st.sampled_from([1, 4]), whole=st.booleans())
    def start(self, pause, concurrency, whole):
        self.past.begin(pause=pause, concurrency=concurrency, whole=whole)

    @precondition(lambda self: len(self.past.processes) < 2)
    @rule(word=st.sampled_from(["adopt", "forget", "removed"]), which=WHICH)
    def start_with_word(self, word, which):
        """Start a process with something that a person has decided."""
        self.past.begin(whole=True, **self._decide(word, which))

    def _decide(self, word, which):
        if word == "removed":
            return {"removed": True}
        if word == "forget":
            return {"forget": self.past.deleted()}
        listed = self.past.listed()
        pairs = [(tenant, env) for tenant in self.past.tenants for env in listed if listed[env].alias == tenant.alias]
        if not pairs:
            return {}
        tenant, env = pairs[which % len(pairs)]
        self.past.touched.add(tenant.alias.lower())
        return {"adopt": {tenant.name: env}}

    @precondition(lambda self: self.past.processes)
    @rule(point=POINTS)
    def go(self, point):
        self._reach(point)

    @rule(seconds=TIMES)
    def wait(self, seconds):
        self.past.line.pass_time(seconds)

    @precondition(lambda self: self.past.processes)
    @rule(point=POINTS, kept=st.booleans(), again=st.booleans(), which=WHICH, seconds=JUMPS)
    def crash(self, point, kept, again, which, seconds):
        """Let a process be killed, and perhaps started again at once, after the machine with another clock."""
        self._reach(point)
        if process := self._pick(which):
            process.kill(kept=kept)
            if again:
                self.past.line.skew += seconds
                self.past.begin()

    @precondition(lambda self: self.past.processes)
    @rule(point=POINTS, which=WHICH)
    def freeze(self, point, which):
        self._reach(point)
        if process := self._pick(which):
            process.freeze()

    @precondition(lambda self: self.past.processes)
    @rule(which=WHICH)
    def thaw(self, which):
        self._pick(which).thaw()

    @precondition(lambda self: self.past.processes)
    @rule(which=WHICH)
    def cancel(self, which):
        self._pick(which).cancel()

    @rule(seconds=JUMPS)
    def set_clock(self, seconds):
        self.past.line.skew += seconds

    @rule(which=WHICH, how=st.sampled_from(["open", "delete"]))
    def meddle(self, which, how):
        """Let somebody do something at the platform's console."""
        envs, alias = [*self.past.listed()], f"a{which % 3}"
        if how == "open":
            self.past.open_by_hand(alias)
        elif envs:
            self.past.delete_by_hand(envs[which % len(envs)])

    @precondition(lambda self: self.past.in_doubt() and self.past.known())
    @rule(which=WHICH)
    def give_alias_in_doubt(self, which):
        """Let somebody give an environment of one tenant the alias of another whose create is unclear."""
        known, doubtful = self.past.known(), self.past.in_doubt()
        self.past.give_alias_by_hand(known[which % len(known)], doubtful[which % len(doubtful)])

    @precondition(lambda self: self.past.tenants)
    @rule(which=WHICH, how=st.sampled_from(["remove", "rename", "give alias", "restore"]))
    def edit(self, which, how):
        """Let somebody edit the list of the tenants."""
        tenants = self.past.tenants
        place = which % len(tenants)
        if how == "remove" and len(tenants) > 1:
            self.past.removed.append(tenants.pop(place))
        elif how == "rename":
            tenants[place] = attrs.evolve(tenants[place], name=f"{tenants[place].name}x")
        elif how == "give alias":
            tenants[place] = attrs.evolve(tenants[place], alias=f"{tenants[place].alias}b")
        elif self.past.removed:
            tenants.append(self.past.removed.pop())

    def _reach(self, point):
        mark, count = point
        marks = self.past.line.marks
        goal, limit = marks[mark] + count, self.past.line.now + 300.0
        self.past.line.run(lambda: marks[mark] >= goal, limit)

    def _pick(self, which):
        living = self.past.processes
        return living[which % len(living)] if living else None

    @invariant()
    def nothing_is_wrong(self):
        wrongs = [wrong for wrong in self.past.wrongs() if self.words in wrong]
        self.holds = not wrongs
        assert self.holds, wrongs

    def teardown(self):
        try:
            if self.holds:
                last = self.past.finish()
                self.nothing_is_wrong()
                left = self.past.unsettled(last)
                assert self.words or not left, left
        finally:
            self.past.close()


class HistoriesOnDisk(Histories):
    """The same with a journal in a file."""

    store = OnDisk


def _settings(most):
    return settings(
        max_examples=10 * most if FULL else most,
        stateful_step_count=30 if FULL else 15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


TestHistories = Histories.TestCase
TestHistories.settings = _settings(250)
TestHistoriesOnDisk = HistoriesOnDisk.TestCase
TestHistoriesOnDisk.settings = _settings(25)
