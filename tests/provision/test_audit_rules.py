"""Audit rules: a finding for every discrepancy of file, journal and platform, and none else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import attrs
import pytest
from hypothesis import given, strategies as st

from wxtcb.api.environment import EnvInfo, EnvList, UnreadableEnv
from wxtcb.provision import Audit, Finding, FindingKind, Service, Step, Tenant, TenantRecord, derive_alias
from wxtcb.provision.audit import BoundEnvironment, Classification, build_audit, derived_alias_notes
from wxtcb.provision.plan import OperatorDecisions
from wxtcb.provision.planner import PlanInput, Planner
from wxtcb.provision.record import Intent, ServiceState, collect_bindings
from wxtcb.provision.steps import ENVIRONMENT, READY, SHARE, STEPS

from .constants import WX1, WX2

URL = "https://mp.weixin.qq.com/confirm"
API = Service.from_name("api")
OTHER_ALIAS = derive_alias("elsewhere", "other")
QUESTIONABLE = (FindingKind.DUPLICATE, FindingKind.ORPHAN, FindingKind.CONFLICT, FindingKind.AMBIGUOUS)


def info(env: str, alias: str | None = None, status: str = "NORMAL") -> EnvInfo:
    """Return an environment as the platform lists it."""
    at = "2026-11-22 18:00:00"
    return EnvInfo(env=env, alias=alias or env.partition("-")[0], create_time=at, update_time=at, status=status)


def record(tenant: str, **fields: object) -> TenantRecord:
    """Return a record of a tenant whose alias is its name."""
    return TenantRecord(**{"tenant": tenant, "alias": tenant, "version": 1, "attempt": 1, **fields})


@attrs.frozen
class Scene:
    """State to audit: file, journal, platform and share agreements."""

    wanted: tuple[Tenant, ...]
    records: tuple[TenantRecord, ...]
    listed: tuple[EnvInfo, ...]
    share_results: dict = attrs.field(factory=dict)
    unreadable: tuple[UnreadableEnv, ...] = ()
    steps: tuple[Step, ...] = STEPS
    recent_envs: frozenset[str] = frozenset()

    def audit(self) -> Audit:
        """Plan for all tenants and audit; the alias of a tenant is the given one, or its name."""
        aliases = {tenant.name: tenant.alias or tenant.name for tenant in self.wanted}
        records = {each.tenant: each for each in self.records}
        bindings, listing = collect_bindings(self.records), EnvList(info_list=self.listed, unreadable=self.unreadable)
        decisions = OperatorDecisions(all_tenants=True)
        observed = PlanInput(decisions, aliases, records, listing, 0.0, bindings, self.recent_envs, 0.0)
        planner = Planner(None, None, self.steps, "wx", 0.0, lambda: 0.0)
        plans = [planner.plan_tenant(tenant, observed) for tenant in self.wanted]
        return asyncio.run(build_audit("wx", plans, observed, self.share_results))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, worst first."""
        return self.audit().findings

    @property
    def outline(self) -> list[tuple[FindingKind, str | None, tuple[str, ...]]]:
        """Kind, tenant and environments of each finding."""
        return [(each.kind, each.tenant, each.envs) for each in self.findings]

    @property
    def passed(self) -> bool:
        return not any(finding.kind.is_failure for finding in self.findings)

    @property
    def classifications(self) -> dict[Classification, int]:
        """Number of listed environments by classification."""
        return {each: count for each, count in self.audit().environment_counts.items() if count}

    def bound_environment(self, env: str) -> BoundEnvironment:
        """Return what the audit shows of an environment of the journal."""
        (bound,) = [each for each in self.audit().bound_environments if each.env == env]
        return bound


FULL = record("a", env="a-1", tranid="20261122000001", links={WX1: URL}, services={"api": ServiceState.DONE})
CLEAN = Scene(
    wanted=(Tenant("a", appids=[WX1], services=[API]), Tenant("b")),
    records=(FULL, record("b", env="b-1")),
    listed=(info("a-1"), info("b-1"), info("shop-1")),
    share_results={(None, WX1): frozenset({"a-1"})},
)


def with_record(scene: Scene, **fields: object) -> Scene:
    """Change the record of tenant a."""
    return attrs.evolve(scene, records=(attrs.evolve(FULL, **fields), *scene.records[1:]))


def with_env(scene: Scene, *infos: EnvInfo) -> Scene:
    """Add listed environments."""
    return attrs.evolve(scene, listed=(*scene.listed, *infos))


def without_env(scene: Scene, env: str) -> Scene:
    """Remove a listed environment."""
    return attrs.evolve(scene, listed=tuple(each for each in scene.listed if each.env != env))


def with_status(scene: Scene, env: str, status: str) -> Scene:
    """Change the status of a listed environment."""
    return with_env(without_env(scene, env), info(env, status=status))


def with_tenant(scene: Scene, *tenants: Tenant) -> Scene:
    """Replace the tenants of the file."""
    return attrs.evolve(scene, wanted=tenants)


def test_consistent_state_passes() -> None:
    """There is no finding, and an unrelated environment does not matter."""
    assert CLEAN.findings == ()
    assert CLEAN.classifications == {Classification.WANTED: 2, Classification.OTHER: 1}
    assert CLEAN.audit().unrelated_envs == ("shop-1",)


A, B = CLEAN.wanted
INTENT = Intent(deadline=0.0)
HIDDEN = UnreadableEnv(reason="no id", alias="hidden")
LABEL = Step(name="label", is_needed=lambda tenant, *_: tenant.name == "b", run=None)
Change = Callable[[Scene], Scene]
DISCREPANCIES: dict[str, tuple[Change, FindingKind, str, tuple[str, ...]]] = {
    "second environment, alias in other case": (
        lambda scene: with_env(scene, info("a-2", "A")),
        FindingKind.DUPLICATE,
        "a",
        ("a-1", "a-2"),
    ),
    "second environment of a retired tenant": (
        lambda scene: with_env(
            attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))),
            info("c-1"),
            info("c-2", "c"),
        ),
        FindingKind.DUPLICATE,
        "c",
        ("c-1", "c-2"),
    ),
    "tenant absent from the file": (lambda scene: with_tenant(scene, A), FindingKind.ORPHAN, "b", ("b-1",)),
    "abandoned create took effect": (
        lambda scene: with_env(attrs.evolve(scene, records=(*scene.records, record("c"))), info("c-1")),
        FindingKind.ORPHAN,
        "c",
        ("c-1",),
    ),
    "alias of a new tenant in use": (
        lambda scene: with_tenant(scene, A, B, Tenant("shop")),
        FindingKind.CONFLICT,
        "shop",
        ("shop-1",),
    ),
    "environment deleted": (lambda scene: without_env(scene, "a-1"), FindingKind.CONFLICT, "a", ("a-1",)),
    "environment replaced by another": (
        lambda scene: with_env(without_env(scene, "a-1"), info("a-9")),
        FindingKind.CONFLICT,
        "a",
        ("a-1", "a-9"),
    ),
    "environment with another alias": (
        lambda scene: with_env(without_env(scene, "a-1"), info("a-1", "z")),
        FindingKind.CONFLICT,
        "a",
        ("a-1",),
    ),
    "environment of a retired tenant deleted": (
        lambda scene: attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))),
        FindingKind.CONFLICT,
        "c",
        ("c-1",),
    ),
    "no record": (
        lambda scene: attrs.evolve(scene, records=scene.records[:1]),
        FindingKind.CONFLICT,
        "b",
        ("b-1",),
    ),
    "ambiguous create": (
        lambda scene: without_env(with_record(scene, env=None, intent=INTENT), "a-1"),
        FindingKind.AMBIGUOUS,
        "a",
        (),
    ),
    "ambiguous create with a possible result": (
        lambda scene: with_record(scene, env=None, intent=INTENT),
        FindingKind.AMBIGUOUS,
        "a",
        ("a-1",),
    ),
    "ambiguous create of an absent tenant": (
        lambda scene: attrs.evolve(scene, records=(*scene.records, record("c", intent=INTENT, retired=True))),
        FindingKind.AMBIGUOUS,
        "c",
        (),
    ),
    "new tenant": (lambda scene: with_tenant(scene, A, B, Tenant("c")), FindingKind.MISSING, "c", ()),
    "environment halted": (
        lambda scene: with_status(scene, "a-1", "HALTED"),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "environment not ready": (
        lambda scene: with_status(scene, "a-1", "UNAVAILABLE"),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "environment not listed yet": (
        lambda scene: attrs.evolve(without_env(scene, "a-1"), recent_envs=frozenset({"a-1"})),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "new mini program": (
        lambda scene: with_tenant(scene, attrs.evolve(A, appids=[WX1, WX2]), B),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "new service": (
        lambda scene: with_tenant(scene, attrs.evolve(A, services=[API, Service.from_name("web")]), B),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "custom step not done": (
        lambda scene: attrs.evolve(scene, steps=(*STEPS, LABEL)),
        FindingKind.DRIFT,
        "b",
        ("b-1",),
    ),
    "alias of an environment whose id cannot be read": (
        lambda scene: with_tenant(attrs.evolve(scene, unreadable=(HIDDEN,)), A, B, Tenant("c", alias="hidden")),
        FindingKind.CONFLICT,
        "c",
        (),
    ),
    "service request without a reply": (
        lambda scene: with_record(scene, services={"api": ServiceState.SENT}),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
}


@pytest.mark.parametrize(("change", "kind", "tenant", "envs"), DISCREPANCIES.values(), ids=DISCREPANCIES)
def test_single_discrepancy_is_the_only_finding(
    change: Change, kind: FindingKind, tenant: str, envs: tuple[str, ...]
) -> None:
    """It names tenant and environments, and the audit fails."""
    scene = change(CLEAN)
    assert scene.outline == [(kind, tenant, envs)]
    assert not scene.passed
    assert scene.findings[0].message.endswith(".")


HARMLESS: dict[str, tuple[Change, list[FindingKind]]] = {
    "unrelated environments": (lambda scene: with_env(scene, info("x-1"), info("x-2", "x")), []),
    "alias like a derived one": (lambda scene: with_env(scene, info("t-9", OTHER_ALIAS)), []),
    "retired tenant": (
        lambda scene: with_env(
            attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))), info("c-1")
        ),
        [],
    ),
    "abandoned create without effect": (lambda scene: attrs.evolve(scene, records=(*scene.records, record("c"))), []),
    "share without a link": (
        lambda scene: attrs.evolve(with_record(scene, links={WX1: ""}), share_results={}),
        [],
    ),
    "outcome of a tenant that was never created": (
        lambda scene: with_env(
            attrs.evolve(scene, records=(*scene.records, record("c", attempt=0, outcome="failed"))), info("c-1")
        ),
        [],
    ),
    "step that is not selected": (
        lambda scene: attrs.evolve(with_record(scene, services={}), steps=(ENVIRONMENT, READY, SHARE)),
        [],
    ),
    "mini program no longer shared": (lambda scene: with_tenant(scene, attrs.evolve(A, appids=[]), B), []),
    "not confirmed": (lambda scene: attrs.evolve(scene, share_results={}), [FindingKind.AWAITING]),
    "confirmed for another environment": (
        lambda scene: attrs.evolve(
            scene, share_results={(None, WX1): frozenset({"b-1"}), (1, WX1): frozenset({"a-1"})}
        ),
        [FindingKind.AWAITING],
    ),
    "share lookup failed": (
        lambda scene: attrs.evolve(scene, share_results={(None, WX1): "invalid appid"}),
        [FindingKind.UNKNOWN],
    ),
    "unconfirmed service": (
        lambda scene: with_record(scene, services={"api": ServiceState.UNCONFIRMED}),
        [FindingKind.UNKNOWN],
    ),
}


@pytest.mark.parametrize(("change", "kinds"), HARMLESS.values(), ids=HARMLESS)
def test_harmless_finding_does_not_fail_the_audit(change: Change, kinds: list[FindingKind]) -> None:
    """Unrelated environments, retired tenants and open confirmations are harmless."""
    scene = change(CLEAN)
    assert ([finding.kind for finding in scene.findings], scene.passed) == (kinds, True)


def test_renamed_tenant_is_conflict_and_orphan() -> None:
    """Its environment belongs to no tenant of the file, and its alias is in use."""
    scene = with_tenant(CLEAN, A, Tenant("bee", alias="b"))
    assert scene.outline == [(FindingKind.ORPHAN, "b", ("b-1",)), (FindingKind.CONFLICT, "bee", ("b-1",))]
    assert (
        "b-1, which the journal assigns to tenant 'b': adopt it if that tenant was renamed" in scene.findings[1].message
    )


def test_changed_alias_is_a_conflict_of_both_environments() -> None:
    """The environment has the previous alias, and another one has the new alias."""
    scene = with_env(with_tenant(CLEAN, A, attrs.evolve(B, alias="b2")), info("b2-1"))
    assert scene.outline == [(FindingKind.CONFLICT, "b", ("b-1", "b2-1"))]
    assert scene.classifications[Classification.CONFLICT] == 1


def test_ambiguous_create_under_previous_alias_hides_no_conflict() -> None:
    """The environment with the present alias is reported besides the possible result of the create."""
    scene = with_record(with_tenant(CLEAN, attrs.evolve(A, alias="shop"), B), env=None, intent=INTENT)
    assert scene.outline == [(FindingKind.CONFLICT, "a", ("shop-1",)), (FindingKind.AMBIGUOUS, "a", ("a-1",))]


@pytest.mark.parametrize(
    ("tenants", "advice"),
    [
        ((A, B), "Provision the tenant again."),
        ((attrs.evolve(A, alias="a2"), B), "restore that alias first."),
        ((B,), "Add the tenant again with this alias, and provision it."),
    ],
)
def test_ambiguous_create_advises_how_a_run_can_check_it(tenants: tuple[Tenant, ...], advice: str) -> None:
    """A run checks under the alias of the create, for a tenant in the file."""
    scene = with_tenant(without_env(with_record(CLEAN, env=None, intent=INTENT), "a-1"), *tenants)
    (message,) = [each.message for each in scene.findings if each.kind is FindingKind.AMBIGUOUS]
    assert "no environment is listed under it. " in message
    assert message.endswith(advice)


def test_missing_tenant_has_the_reason_of_its_plan() -> None:
    """No environment is created for it while the list lacks that of another tenant."""
    scene = with_tenant(without_env(CLEAN, "a-1"), A, B, Tenant("c"))
    (missing,) = [each for each in scene.findings if each.kind is FindingKind.MISSING]
    assert (missing.tenant, missing.envs) == ("c", ())
    assert missing.message.startswith("the list lacks a-1 of tenant 'a': ")


def test_tenant_with_the_alias_of_another_ambiguous_create_is_missing() -> None:
    """The environment that may exist belongs to the other tenant, whose create is ambiguous."""
    scene = attrs.evolve(CLEAN, records=(*CLEAN.records, record("d", alias="c", intent=INTENT)))
    scene = with_tenant(scene, A, B, Tenant("c"), Tenant("d"))
    assert scene.outline == [(FindingKind.AMBIGUOUS, "d", ()), (FindingKind.MISSING, "c", ())]
    assert scene.findings[1].message.endswith("provision that tenant first.")


def test_several_results_of_an_ambiguous_create_are_duplicates() -> None:
    """Each may be the result, and the plan advises which to delete."""
    scene = with_env(with_record(CLEAN, env=None, intent=INTENT), info("a-2", "a"))
    envs = ("a-1", "a-2")
    assert scene.outline == [(FindingKind.DUPLICATE, "a", envs), (FindingKind.AMBIGUOUS, "a", envs)]
    assert scene.classifications[Classification.DUPLICATE] == 2
    assert scene.findings[0].message == ("alias a is in use by a-1, a-2: adopt one of them and delete the others.")


def test_duplicate_of_a_bound_environment_says_which_to_keep() -> None:
    """The environment of the journal stays."""
    scene = with_env(CLEAN, info("a-2", "a"))
    assert scene.findings[0].message == (
        "alias a is in use by a-1, a-2: keep a-1, which is this tenant's, and delete the others."
    )


def test_drift_names_status_and_steps() -> None:
    """They are the steps of the tenant's plan, and one finding has all of them."""
    scene = with_tenant(with_status(CLEAN, "a-1", "UNAVAILABLE"), attrs.evolve(A, appids=[WX1, WX2]), B)
    assert [each.message for each in scene.findings] == ["a-1 is UNAVAILABLE, and needs ready, share. Provision again."]
    halted = attrs.evolve(with_status(CLEAN, "b-1", "HALTED"), steps=(ENVIRONMENT,))
    assert [each.message for each in halted.findings] == ["b-1 is HALTED, not NORMAL. See its page in the console."]


def test_other_environment_with_the_alias_of_one_whose_alias_cannot_be_read_is_a_conflict() -> None:
    """The journal binds by id, but the alias is in use all the same."""
    unreadable = attrs.evolve(info("a-1"), alias="")
    scene = with_env(without_env(CLEAN, "a-1"), unreadable, info("a-2", "a"))
    assert scene.outline == [(FindingKind.CONFLICT, "a", ("a-1", "a-2"))]


def test_other_alias_advises_to_restore_it() -> None:
    """An environment cannot be renamed, but a tenant can."""
    scene = with_env(without_env(CLEAN, "a-1"), info("a-1", "z"))
    assert scene.findings[0].message == "environment a-1 has alias z, not a: restore that alias of the tenant."


def test_derived_alias_note_names_few_environments() -> None:
    """They may belong to customers of another file, so the note does not advise to remove them."""
    (note,) = derived_alias_notes([f"t-{number}" for number in range(7)])
    assert "like a derived one: t-0, t-1, t-2, t-3, t-4 and 2 more. " in note
    assert "remove" not in note
    assert "like a derived one: t-0. " in next(derived_alias_notes(["t-0"]))
    assert [*derived_alias_notes([])] == []


def test_ambiguous_create_does_not_claim_an_environment_of_another_tenant() -> None:
    """An environment that the journal binds to another tenant is a conflict."""
    scene = with_tenant(with_record(CLEAN, env=None, intent=INTENT, alias="b"), attrs.evolve(A, alias="b"))
    kinds = [(kind, envs) for kind, tenant, envs in scene.outline if tenant == "a"]
    assert kinds == [(FindingKind.CONFLICT, ("b-1",)), (FindingKind.AMBIGUOUS, ())]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_shared_alias_belongs_to_the_record_that_may_have_an_environment(*, is_reversed: bool) -> None:
    """The order of the records does not matter."""
    had = (record("c", alias="z"), record("d", alias="z", intent=INTENT))
    scene = attrs.evolve(CLEAN, records=(*CLEAN.records, *(had[::-1] if is_reversed else had)))
    assert with_env(scene, info("z-1")).outline == [(FindingKind.AMBIGUOUS, "d", ("z-1",))]


def test_environment_with_the_alias_of_an_unlisted_one_is_a_conflict() -> None:
    """Waiting for the unlisted environment would not resolve it."""
    scene = attrs.evolve(with_env(without_env(CLEAN, "a-1"), info("a-9")), recent_envs=frozenset({"a-1"}))
    assert scene.outline == [(FindingKind.CONFLICT, "a", ("a-1", "a-9"))]


def test_orphan_has_its_order_number() -> None:
    """An adopted environment has none."""
    scene = with_tenant(CLEAN)
    messages = {finding.tenant: finding.message for finding in scene.findings}
    assert messages["a"].startswith("a-1 (order 20261122000001) is billed")
    assert messages["b"].startswith("b-1 is billed")


def test_bound_environment_has_data_of_journal_and_platform() -> None:
    """The journal has order number and time, the platform time and status, both None if it is not listed."""
    scene = without_env(with_record(CLEAN, opened_at=1_763_805_600.0), "b-1")
    opened, other = (scene.bound_environment(env) for env in ("a-1", "b-1"))
    assert (opened.tranid, opened.create_time, opened.status) == ("20261122000001", "2026-11-22 18:00:00", "NORMAL")
    assert (opened.opened_at.isoformat(), opened.is_listed) == ("2025-11-22T10:00:00+00:00", True)
    assert (other.tranid, other.opened_at, other.create_time, other.is_listed) == (None, None, None, False)


NAMES = st.sampled_from(["a", "b", "c", "d"])
ALIASES = st.sampled_from(["a", "b", "c", "A", "shop", OTHER_ALIAS, OTHER_ALIAS.upper()])
ENVS = st.sampled_from(["e1", "e2", "e3", "e4", "e5"])


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Build any state that the journal allows: an environment, or an alias in use, belongs to one tenant."""
    wanted = draw(
        st.lists(st.builds(Tenant, NAMES, alias=ALIASES.filter(str.islower)), unique_by=lambda each: each.name)
    )
    made = st.builds(
        TenantRecord,
        tenant=NAMES,
        alias=ALIASES,
        env=st.none() | ENVS,
        intent=st.none() | st.just(INTENT),
        retired=st.booleans(),
        attempt=st.integers(0, 1),
        outcome=st.sampled_from(["", "failed"]),
    )
    records: list[TenantRecord] = []
    for each in draw(st.lists(made, unique_by=lambda each: each.tenant)):
        taken = {claim for other in records for claim in other.unique_keys() if claim}
        if taken.isdisjoint(claim for claim in each.unique_keys() if claim):
            records.append(attrs.evolve(each, intent=None) if each.env else each)
    statuses = st.sampled_from(["NORMAL", "UNAVAILABLE"])
    listed = draw(st.lists(st.builds(info, ENVS, ALIASES, statuses), unique_by=lambda each: each.env))
    aliases: set[str] = set()
    wanted = [each for each in wanted if not (each.alias in aliases or aliases.add(each.alias))]
    return Scene(tuple(wanted), tuple(records), tuple(listed), recent_envs=draw(st.frozensets(ENVS)))


@given(scenes())
def test_every_questionable_environment_has_a_finding(scene: Scene) -> None:
    """A listed environment has one, unless it is bound to a wanted or retired tenant, or its alias to no tenant."""
    named = {env for each in scene.findings if each.kind in QUESTIONABLE for env in each.envs}
    wanted = {tenant.name for tenant in scene.wanted}
    bound = {each.env: each for each in scene.records if each.env}
    aliases = {tenant.alias for tenant in scene.wanted} | {
        each.alias.lower() for each in scene.records if each.may_have_environment or each.attempt or not each.outcome
    }
    for each in scene.listed:
        if record := bound.get(each.env):
            assert record.tenant in wanted or record.retired or each.env in named
        else:
            assert (each.alias.lower() in aliases) is (each.env in named)


@given(scenes())
def test_every_listed_environment_is_classified_once(scene: Scene) -> None:
    """What has no tenant and no finding is unrelated."""
    audit = scene.audit()
    assert audit.listed_count == len(scene.listed)
    assert audit.environment_counts[Classification.OTHER] == len(audit.unrelated_envs)


@given(scenes())
def test_alias_of_several_environments_is_a_duplicate(scene: Scene) -> None:
    """All of them are named, if the alias is of a tenant that is wanted, whatever a plan does for it."""
    duplicates = {each.tenant: each.envs for each in scene.findings if each.kind is FindingKind.DUPLICATE}
    for tenant in scene.wanted:
        matches = {each.env for each in scene.listed if each.alias.lower() == tenant.alias}
        assert matches <= set(duplicates.get(tenant.name, ())) or len(matches) < 2


@given(scenes())
def test_tenant_without_finding_has_exactly_one_environment(scene: Scene) -> None:
    """It is bound to the tenant and NORMAL, and no other has its alias."""
    failed = {each.tenant for each in scene.findings if each.kind.is_failure}
    bound = {each.tenant: each.env for each in scene.records}
    for tenant in scene.wanted:
        if tenant.name not in failed:
            matches = [each for each in scene.listed if each.alias.lower() == (tenant.alias or "").lower()]
            assert [(each.env, each.status) for each in matches] == [(bound[tenant.name], "NORMAL")]


@given(scenes())
def test_passed_audit_accounts_for_every_environment(scene: Scene) -> None:
    """The journal is listed, and the list is wanted, retired or unrelated."""
    if scene.passed:
        assert scene.classifications.keys() <= {Classification.WANTED, Classification.RETIRED, Classification.OTHER}
        assert {each.env for each in scene.records if each.env} <= {each.env for each in scene.listed}
        assert not any(each.intent for each in scene.records)


def audit_of(findings: Iterable[Finding], **fields: object) -> Audit:
    """Return an audit with these findings."""
    given = {
        "namespace": "wx",
        "tenant_count": 2,
        "bound_environments": (),
        "unrelated_envs": ("x-1",),
        "environment_counts": {Classification.OTHER: 1},
    }
    return Audit(findings=tuple(findings), **{**given, **fields})


RENAMED = (
    "tenant 'b' has b-1 under alias b but is missing here: was it renamed? "
    "If so, adopt its environment under its alias; if not, mark it as removed."
)


def test_str_has_findings_summary_notes_and_conclusion() -> None:
    """Each finding has a line of its own."""
    scene = with_tenant(CLEAN, A, Tenant("c"))
    audit = audit_of(scene.findings, notes=("Note: it rains.",))
    assert str(audit).splitlines() == [
        "orphan: b: b-1 is billed, but its tenant is not in the file. Add the tenant again, or mark it as removed.",
        f"missing: c: {RENAMED}",
        "2 tenants, 1 environment listed (1 unrelated): 1 orphan, 1 missing.",
        "Note: it rains.",
        "Failed: 2 findings to resolve.",
    ]
    assert not audit.passed


def test_audit_without_failures_passes() -> None:
    """Open confirmations are counted, but do not fail it."""
    awaiting = Finding(kind=FindingKind.AWAITING, tenant="a", alias="a", message="open it.")
    for findings, summary in (([], "no findings"), ([awaiting], "1 awaiting confirmation")):
        audit = audit_of(findings, unrelated_envs=(), tenant_count=1)
        assert audit.passed
        assert str(audit).endswith(f"listed: {summary}.\nPassed: tenants, journal and platform agree.")


def test_unknown_findings_are_in_the_conclusion() -> None:
    """The audit passes, except for what could not be checked."""
    unknown = Finding(kind=FindingKind.UNKNOWN, tenant="a", alias="a", message="not known.")
    audit = audit_of([unknown, unknown])
    assert audit.passed
    assert audit.conclusion == "Passed: tenants, journal and platform agree, except 2 that could not be checked."


def test_audit_json_has_all_fields() -> None:
    """Every kind and classification has a count; environments have order number and times."""
    scene = with_tenant(with_record(CLEAN, opened_at=1_763_805_600.0), A)
    document = json.loads(audit_of(scene.findings, bound_environments=scene.audit().bound_environments).to_json())
    assert (document["passed"], document["tenants"], document["listed"], document["unrelated"]) == (
        False,
        2,
        1,
        ["x-1"],
    )
    assert document["notes"] == []
    assert document["counts"] == {kind.value: int(kind is FindingKind.ORPHAN) for kind in FindingKind}
    assert document["environments"] == {each.value: int(each is Classification.OTHER) for each in Classification}
    assert document["findings"][0] == {
        "kind": "orphan",
        "tenant": "b",
        "alias": "b",
        "envs": ["b-1"],
        "message": scene.findings[0].message,
    }
    assert document["bound"][0] == {
        "tenant": "a",
        "alias": "a",
        "env": "a-1",
        "tranid": "20261122000001",
        "opened_at": "2025-11-22T10:00:00+00:00",
        "create_time": "2026-11-22 18:00:00",
        "status": "NORMAL",
        "wanted": True,
        "retired": False,
    }
