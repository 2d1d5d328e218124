"""Each rule of provisioning is broken once, and the histories find it: they would find a bug too."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

from wxtcb.provision import MemoryJournal, looks, planner, reconciliation
from wxtcb.provision.context import StepContext
from wxtcb.provision.plan import Action
from wxtcb.provision.steps import environment
from wxtcb.provision.waiting import StepResult
from wxtcb.sandbox import Fault, FaultKind

from .simulated_history import SETTLE, WINDOW
from .test_histories import Histories


def no_settle(patch):
    real = environment._start_outcome_check

    def look_for(site, work, problem, seconds):
        return real(site, work, problem, seconds - SETTLE)

    patch.setattr(environment, "_start_outcome_check", look_for)
    patch.setattr(environment, "max", lambda _, seconds: seconds, raising=False)


def one_look(patch):
    patch.setattr(reconciliation, "REQUIRED_COMPLETE_LISTINGS", 1)


def known_not_minded(patch):
    real = reconciliation.ExpectedEnvironments.compare
    patch.setattr(
        reconciliation.ExpectedEnvironments,
        "compare",
        lambda self, look: attrs.evolve(real(self, look), missing_envs=()),
    )


def adopt_without_intent(patch):
    real = planner.plan_tenant

    def plan_tenant(tenant, alias, known, found, adopt=None):
        planned = real(tenant, alias, known, found, adopt)
        alike = found.taken.by(alias)
        if planned.action is Action.CONFLICT and len(alike) == 1 and alike[0] not in found.bound:
            return attrs.evolve(planned, action=Action.ADOPT, env=alike[0], existing=(), reason="")
        return planned

    patch.setattr("wxtcb.provision.planner.plan_tenant", plan_tenant)


def adopt_what_is_bound(patch):
    async def conclude(site, work, found):
        if found.verdict is reconciliation.CheckResult.FOUND:
            await site.bind(work, found.found[0])
            return StepResult.NEXT
        return await real(site, work, found)

    real = environment._apply_outcome
    patch.setattr(environment, "_apply_outcome", conclude)
    _take_every_environment(patch)


def _take_every_environment(patch):
    """Let the journal not mind either that an environment is another's."""
    real = MemoryJournal.commit

    async def commit(self, record, moment, giver=None):
        if record.env is not None:
            self._envs.pop(record.env, None)
        return await real(self, record, moment, giver)

    patch.setattr(MemoryJournal, "commit", commit)


def no_look(patch):
    async def find(self, alias, now):
        return ()

    patch.setattr(looks.EnvironmentListing, "find_by_alias", find)
    patch.setattr(looks.EnvironmentListing, "is_fresh", lambda self, now: True)


def stale_look(patch):
    patch.setattr(looks, "MAX_LISTING_AGE", 1000.0)


def intent_not_kept(patch):
    real = StepContext.commit

    async def commit(self, work, record):
        if record.intent is None:
            await real(self, work, record)

    patch.setattr(StepContext, "commit", commit)


def intent_taken_back(patch):
    real = environment._send_create

    async def create(site, work, deadline):
        move = await real(site, work, deadline)
        if move is StepResult.WAIT:
            work.waiting = work.doubt = None
            await environment._clear_intent(site, work)
            return StepResult.RETRY
        return move

    patch.setattr(environment, "_send_create", create)


def deadline_forgotten(patch):
    patch.setattr(environment, "_remaining_seconds", lambda site, intent: 0.0)


def wall_clock_trusted(patch):
    patch.setattr(
        environment, "_remaining_seconds", lambda site, intent: min(site.window, intent.deadline - site.wall())
    )


def version_not_compared(patch):
    real = MemoryJournal.commit

    async def commit(self, record, moment, giver=None):
        kept = self._records.get(record.tenant)
        if kept is not None and record.version <= kept.version:
            self._records[record.tenant] = attrs.evolve(kept, version=record.version - 1)
        return await real(self, record, moment, giver)

    patch.setattr(MemoryJournal, "commit", commit)


def answer_not_kept(patch):
    async def bind(self, work, env, tranid=None):
        work.env, work.doubt = env, None
        await self.commit(work, attrs.evolve(work.record, intent=None))

    patch.setattr(StepContext, "bind_environment", bind)


def busy_retried(patch):
    real = StepContext.__attrs_post_init__

    def begin(self):
        session = self.session
        real(self)
        self.session = session.with_options(partial="return", may_send=lambda: not self.halted)

    patch.setattr(StepContext, "__attrs_post_init__", begin)


LOOKED = "without proof"
FRESHLY = "without a fresh look"
BROKEN = {
    no_settle: LOOKED,
    one_look: LOOKED,
    known_not_minded: LOOKED,
    intent_taken_back: LOOKED,
    deadline_forgotten: LOOKED,
    wall_clock_trusted: LOOKED,
    busy_retried: LOOKED,
    no_look: FRESHLY,
    stale_look: FRESHLY,
    intent_not_kept: "without an intent",
    adopt_without_intent: "not known to be ours",
    adopt_what_is_bound: "of another",
    version_not_compared: "over a newer one",
    answer_not_kept: "is nobody's",
}


QUICK = {known_not_minded: 1, wall_clock_trusted: 0}


class OneInDoubt(Histories):
    """Begins where one tenant has its environment and the create of another is unclear: few histories get there."""

    @initialize()
    def begin_first(self):
        super().begin_first(acts=[Fault(FaultKind.BUSY)], concurrency=4)
        self.past.desk.acts.extend([None, None, 8.0])
        until = self.past.line.now + 300.0
        self.past.line.run(lambda: self.past.in_doubt() and self.past.known(), until)


BEGUN = {adopt_what_is_bound: OneInDoubt}


def search(machine, number=3):
    """Try histories until one breaks a rule; *number* stands for some that do so early.

    Hypothesis also draws on what it finds in the modules that are loaded, so which they are may differ: others follow.
    """
    quick = settings(
        max_examples=1500,
        stateful_step_count=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for more in range(4):
        run_state_machine_as_test(seed(number + more)(machine), settings=quick)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_a_broken_rule_is_found(monkeypatch, broken):
    """Some history shows what the rule is there to prevent."""
    broken(monkeypatch)
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        search(type("Broken", (BEGUN.get(broken, Histories),), {}), QUICK.get(broken, 3))


def test_a_naive_retry_opens_a_second_one(monkeypatch):
    """The control: a create that failed is simply sent again."""
    intent_taken_back(monkeypatch)
    no_look(monkeypatch)
    with pytest.raises(AssertionError, match="two environments of ours"):
        search(Doubling)


def test_a_settle_that_is_shorter_than_what_is_new_is_hidden_opens_a_second_one():
    """The control: it is the settle that protects."""
    with pytest.raises(AssertionError, match="two environments of ours"):
        search(LongHidden)


class Doubling(Histories):
    """Histories of which only what they cost counts."""

    words = "two environments of ours"


class LongHidden(Doubling):
    """Nothing new is listed for a long time."""

    visible = (3 * SETTLE + WINDOW,)
