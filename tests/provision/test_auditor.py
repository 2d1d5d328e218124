"""What an audit makes of file, journal and platform: a finding for whatever does not agree, and none for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision import Audit, Finding, FindingKind, Service, Tenant, TenantRecord, derive_alias
from wxtcb.provision.audit import Classification
from wxtcb.provision.auditor import (
    AuditInput,
    DesiredTenant,
    classify,
    derived_alias_notes,
    find_discrepancies,
    share_queries,
    to_bound_environment,
)
from wxtcb.provision.journal import Intent, ServiceState

from .constants import WX1, WX2

URL = "https://mp.weixin.qq.com/confirm"
API = Service.from_name("api")
OTHER_ALIAS = derive_alias("elsewhere", "somebody")
HAS_A_FINDING = {
    Classification.DUPLICATE: FindingKind.DUPLICATE,
    Classification.ORPHAN: FindingKind.ORPHAN,
    Classification.CONFLICT: FindingKind.CONFLICT,
    Classification.AMBIGUOUS: FindingKind.AMBIGUOUS,
}


def info(env: str, alias: str | None = None, status: str = "NORMAL") -> EnvInfo:
    """Return what the platform lists."""
    at = "2026-11-22 18:00:00"
    return EnvInfo(env=env, alias=alias or env.partition("-")[0], create_time=at, update_time=at, status=status)


def record(tenant: str, **facts: object) -> TenantRecord:
    """Return a record of a tenant whose alias is its name."""
    return TenantRecord(**{"tenant": tenant, "alias": tenant, "version": 1, "attempt": 1, **facts})


@attrs.frozen
class Scene:
    """What there is: the file, the journal and the platform, and who has agreed."""

    wanted: tuple[Tenant, ...]
    records: tuple[TenantRecord, ...]
    listed: tuple[EnvInfo, ...]
    share_results: dict = attrs.field(factory=dict)
    young: frozenset[str] = frozenset()

    @property
    def facts(self) -> AuditInput:
        """The same, indexed; the alias of a tenant is the given one, or its name."""
        wanted = [DesiredTenant(tenant, tenant.alias or tenant.name) for tenant in self.wanted]
        records = {each.tenant: each for each in self.records}
        return AuditInput.build(EnvList(info_list=self.listed), wanted, records, self.share_results, self.young)

    @property
    def findings(self) -> list[Finding]:
        """All that is found."""
        return [each for found in find_discrepancies(self.facts) for each in found]

    @property
    def told(self) -> list[tuple[FindingKind, str | None, tuple[str, ...]]]:
        """What is found, about whom, and about which environments."""
        return [(each.kind, each.tenant, each.envs) for each in self.findings]

    @property
    def is_proven(self) -> bool:
        return not any(finding.kind.is_failure for finding in self.findings)

    def standing(self, env: str) -> Classification:
        """Say what a listed environment is."""
        return classify(self.facts.listed[env], self.facts)


FULL = record("a", env="a-1", tranid="20261122000001", links={WX1: URL}, services={"api": ServiceState.DONE})
CLEAN = Scene(
    wanted=(Tenant("a", appids=[WX1], services=[API]), Tenant("b")),
    records=(FULL, record("b", env="b-1")),
    listed=(info("a-1"), info("b-1"), info("shop-1")),
    share_results={(None, WX1): frozenset({"a-1"})},
)


def with_record(scene: Scene, **facts: object) -> Scene:
    """Change what the journal knows of tenant a."""
    return attrs.evolve(scene, records=(attrs.evolve(FULL, **facts), *scene.records[1:]))


def with_env(scene: Scene, *infos: EnvInfo) -> Scene:
    """List more."""
    return attrs.evolve(scene, listed=(*scene.listed, *infos))


def without_env(scene: Scene, env: str) -> Scene:
    """List less."""
    return attrs.evolve(scene, listed=tuple(each for each in scene.listed if each.env != env))


def with_status(scene: Scene, env: str, status: str) -> Scene:
    """List an environment with another status."""
    return with_env(without_env(scene, env), info(env, status=status))


def with_tenant(scene: Scene, *tenants: Tenant) -> Scene:
    """Want something else."""
    return attrs.evolve(scene, wanted=tenants)


def test_a_clean_scene_is_proven() -> None:
    """Nothing is found, and an environment of no relation to us does not matter."""
    assert CLEAN.findings == []
    assert [CLEAN.standing(env) for env in ("a-1", "shop-1")] == [Classification.WANTED, Classification.OTHER]


A, B = CLEAN.wanted
INTENT = Intent(deadline=0.0)
Change = Callable[[Scene], Scene]
AGAINST: dict[str, tuple[Change, FindingKind, str, tuple[str, ...]]] = {
    "a second environment, in other letters": (
        lambda scene: with_env(scene, info("a-2", "A")),
        FindingKind.DUPLICATE,
        "a",
        ("a-1", "a-2"),
    ),
    "a second one of a retired tenant": (
        lambda scene: with_env(
            attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))),
            info("c-1"),
            info("c-2", "c"),
        ),
        FindingKind.DUPLICATE,
        "c",
        ("c-1", "c-2"),
    ),
    "a tenant is gone from the file": (lambda scene: with_tenant(scene, A), FindingKind.ORPHAN, "b", ("b-1",)),
    "a create that was given up has acted": (
        lambda scene: with_env(attrs.evolve(scene, records=(*scene.records, record("c"))), info("c-1")),
        FindingKind.ORPHAN,
        "c",
        ("c-1",),
    ),
    "the alias of a new tenant is taken": (
        lambda scene: with_tenant(scene, A, B, Tenant("shop")),
        FindingKind.CONFLICT,
        "shop",
        ("shop-1",),
    ),
    "an environment was removed": (lambda scene: without_env(scene, "a-1"), FindingKind.CONFLICT, "a", ("a-1",)),
    "one was put in the place of another": (
        lambda scene: with_env(without_env(scene, "a-1"), info("a-9")),
        FindingKind.CONFLICT,
        "a",
        ("a-1", "a-9"),
    ),
    "an environment has another alias": (
        lambda scene: with_env(without_env(scene, "a-1"), info("a-1", "z")),
        FindingKind.CONFLICT,
        "a",
        ("a-1",),
    ),
    "that of a retired tenant was removed": (
        lambda scene: attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))),
        FindingKind.CONFLICT,
        "c",
        ("c-1",),
    ),
    "the journal knows nothing of it": (
        lambda scene: attrs.evolve(scene, records=scene.records[:1]),
        FindingKind.CONFLICT,
        "b",
        ("b-1",),
    ),
    "a create has no answer": (
        lambda scene: without_env(with_record(scene, env=None, intent=INTENT), "a-1"),
        FindingKind.AMBIGUOUS,
        "a",
        (),
    ),
    "a create has no answer, but an environment": (
        lambda scene: with_record(scene, env=None, intent=INTENT),
        FindingKind.AMBIGUOUS,
        "a",
        ("a-1",),
    ),
    "a create for a tenant that is gone has no answer": (
        lambda scene: attrs.evolve(scene, records=(*scene.records, record("c", intent=INTENT, retired=True))),
        FindingKind.AMBIGUOUS,
        "c",
        (),
    ),
    "a tenant is new": (lambda scene: with_tenant(scene, A, B, Tenant("c")), FindingKind.MISSING, "c", ()),
    "an environment is halted": (
        lambda scene: with_status(scene, "a-1", "HALTED"),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "an environment is not ready yet": (
        lambda scene: with_status(scene, "a-1", "UNAVAILABLE"),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "an environment is not listed yet": (
        lambda scene: attrs.evolve(without_env(scene, "a-1"), young=frozenset({"a-1"})),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "a mini program is new": (
        lambda scene: with_tenant(scene, attrs.evolve(A, appids=[WX1, WX2]), B),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "a service is new": (
        lambda scene: with_tenant(scene, attrs.evolve(A, services=[API, Service.from_name("web")]), B),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
    "a service was sent": (
        lambda scene: with_record(scene, services={"api": ServiceState.SENT}),
        FindingKind.DRIFT,
        "a",
        ("a-1",),
    ),
}


@pytest.mark.parametrize(("change", "kind", "tenant", "envs"), AGAINST.values(), ids=AGAINST)
def test_one_thing_that_is_wrong_is_found(
    change: Change, kind: FindingKind, tenant: str, envs: tuple[str, ...]
) -> None:
    """It is the one finding, it names tenant and environments, and nothing is proven any more."""
    scene = change(CLEAN)
    assert scene.told == [(kind, tenant, envs)]
    assert not scene.is_proven
    assert scene.findings[0].message.endswith(".")


HARMLESS: dict[str, tuple[Change, list[FindingKind]]] = {
    "others": (lambda scene: with_env(scene, info("x-1"), info("x-2", "x")), []),
    "an alias like a derived one": (lambda scene: with_env(scene, info("t-9", OTHER_ALIAS)), []),
    "a retired tenant": (
        lambda scene: with_env(
            attrs.evolve(scene, records=(*scene.records, record("c", env="c-1", retired=True))), info("c-1")
        ),
        [],
    ),
    "a create that was given up": (lambda scene: attrs.evolve(scene, records=(*scene.records, record("c"))), []),
    "a share that gave no link": (
        lambda scene: attrs.evolve(with_record(scene, links={WX1: ""}), share_results={}),
        [],
    ),
    "a mini program that is wanted no more": (lambda scene: with_tenant(scene, attrs.evolve(A, appids=[]), B), []),
    "nobody has agreed": (lambda scene: attrs.evolve(scene, share_results={}), [FindingKind.AWAITING]),
    "agreed elsewhere": (
        lambda scene: attrs.evolve(
            scene, share_results={(None, WX1): frozenset({"b-1"}), (1, WX1): frozenset({"a-1"})}
        ),
        [FindingKind.AWAITING],
    ),
    "nobody knows who agreed": (
        lambda scene: attrs.evolve(scene, share_results={(None, WX1): "invalid appid"}),
        [FindingKind.UNKNOWN],
    ),
    "a service is unconfirmed": (
        lambda scene: with_record(scene, services={"api": ServiceState.UNCONFIRMED}),
        [FindingKind.UNKNOWN],
    ),
}


@pytest.mark.parametrize(("change", "kinds"), HARMLESS.values(), ids=HARMLESS)
def test_what_is_told_and_does_not_speak_against_the_proof(change: Change, kinds: list[FindingKind]) -> None:
    """Others, what was removed on purpose, and what an administrator or a person alone can tell."""
    scene = change(CLEAN)
    assert ([finding.kind for finding in scene.findings], scene.is_proven) == (kinds, True)


def test_a_renamed_tenant_shows_on_both_sides() -> None:
    """Its environment belongs to nobody in the file, and its alias is taken."""
    scene = with_tenant(CLEAN, A, Tenant("bee", alias="b"))
    assert scene.told == [(FindingKind.CONFLICT, "bee", ("b-1",)), (FindingKind.ORPHAN, "b", ("b-1",))]
    assert "b-1, tenant b's, of 2026-11-22 18:00:00" in scene.findings[0].message


def test_an_alias_that_was_changed_shows_on_both_sides() -> None:
    """The environment has the old one; what has the new one is in the way."""
    scene = with_env(with_tenant(CLEAN, A, attrs.evolve(B, alias="b2")), info("b2-1"))
    assert scene.told == [(FindingKind.CONFLICT, "b", ("b-1", "b2-1"))]
    assert scene.standing("b2-1") is Classification.CONFLICT


def test_an_unclear_create_under_an_earlier_alias_hides_nothing() -> None:
    """What has the alias of now is in the way, and what has the earlier one may be the create's doing."""
    scene = with_record(with_tenant(CLEAN, attrs.evolve(A, alias="shop"), B), env=None, intent=INTENT)
    assert scene.told == [(FindingKind.AMBIGUOUS, "a", ("a-1",)), (FindingKind.CONFLICT, "a", ("shop-1",))]


@pytest.mark.parametrize(
    ("tenants", "way"),
    [
        ((A, B), "Provision the tenant again."),
        ((attrs.evolve(A, alias="a2"), B), "Give the tenant this alias back, and provision it again."),
        ((B,), "Put the tenant back into the file, with this alias, and provision it again."),
    ],
)
def test_an_unclear_create_is_told_with_what_lets_a_run_look_for_it(tenants: tuple[Tenant, ...], way: str) -> None:
    """A run looks under the alias of the create, for a tenant that is wanted."""
    scene = with_tenant(without_env(with_record(CLEAN, env=None, intent=INTENT), "a-1"), *tenants)
    (text,) = [each.message for each in scene.findings if each.kind is FindingKind.AMBIGUOUS]
    assert text.endswith(f"nothing is listed under it. {way}")


def test_another_alias_is_told_with_what_mends_it() -> None:
    """An environment cannot be renamed, a tenant can."""
    scene = with_env(without_env(CLEAN, "a-1"), info("a-1", "z"))
    assert scene.findings[0].message == "its environment a-1 has alias z, not a: give the tenant that alias back."


def test_those_that_only_look_like_ours_are_named_as_a_suspicion() -> None:
    """Another file's living customers look like that: nobody is told to remove them, and few are named."""
    (note,) = derived_alias_notes([f"t-{number}" for number in range(7)])
    assert "like a derived one: t-0, t-1, t-2, t-3, t-4 and 2 more. " in note
    assert "remove" not in note
    assert "like a derived one: t-0. " in next(derived_alias_notes(["t-0"]))
    assert [*derived_alias_notes([])] == []


def test_an_unclear_create_does_not_own_what_is_anothers() -> None:
    """An environment that the journal binds to another tenant is in the way."""
    scene = with_tenant(with_record(CLEAN, env=None, intent=INTENT, alias="b"), attrs.evolve(A, alias="b"))
    kinds = [(kind, envs) for kind, tenant, envs in scene.told if tenant == "a"]
    assert kinds == [(FindingKind.AMBIGUOUS, ()), (FindingKind.CONFLICT, ("b-1",))]


@pytest.mark.parametrize("turned", [False, True])
def test_an_alias_that_two_have_had_is_of_who_may_have_an_environment(*, turned: bool) -> None:
    """What is listed under it may be the doing of the create without an answer, not of the one that was given up."""
    had = (record("c", alias="z"), record("d", alias="z", intent=INTENT))
    scene = attrs.evolve(CLEAN, records=(*CLEAN.records, *(had[::-1] if turned else had)))
    assert with_env(scene, info("z-1")).told == [(FindingKind.AMBIGUOUS, "d", ("z-1",))]


def test_what_has_the_alias_of_an_environment_not_listed_yet_is_in_the_way() -> None:
    """Waiting will not change that."""
    scene = attrs.evolve(with_env(without_env(CLEAN, "a-1"), info("a-9")), young=frozenset({"a-1"}))
    assert scene.told == [(FindingKind.CONFLICT, "a", ("a-1", "a-9"))]


def test_an_orphan_is_told_with_its_order_number() -> None:
    """As far as there is one."""
    scene = with_tenant(CLEAN)
    told = {finding.tenant: finding.message for finding in scene.findings}
    assert told["a"].startswith("a-1, order 20261122000001, is billed")
    assert told["b"].startswith("b-1 is billed")


def test_what_was_opened_is_told_by_both_sides() -> None:
    """Order number and time by the journal, time and status by the platform; what is not listed has none of these."""
    scene = without_env(with_record(CLEAN, opened_at=1_763_805_600.0), "b-1")
    opened, other = (to_bound_environment(each, scene.facts) for each in scene.records)
    assert (opened.tranid, opened.create_time, opened.status) == ("20261122000001", "2026-11-22 18:00:00", "NORMAL")
    assert (opened.opened_at.isoformat(), opened.is_listed) == ("2025-11-22T10:00:00+00:00", True)
    assert (other.tranid, other.opened_at, other.create_time, other.is_listed) == (None, None, None, False)


def test_only_who_was_given_a_link_is_looked_up() -> None:
    """With the source type of the share, and for an environment that is there."""
    tenant = Tenant("a", appids=[WX1, WX2], source_type=1)
    assert list(share_queries(DesiredTenant(tenant, "a"), FULL)) == [(1, WX1)]
    assert list(share_queries(DesiredTenant(tenant, "a"), attrs.evolve(FULL, env=None))) == []
    assert list(share_queries(DesiredTenant(tenant, "a"), None)) == []


NAMES = st.sampled_from(["a", "b", "c", "d"])
ALIASES = st.sampled_from(["a", "b", "c", "A", "shop", OTHER_ALIAS, OTHER_ALIAS.upper()])
ENVS = st.sampled_from(["e1", "e2", "e3", "e4", "e5"])


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Make whatever can be: a journal keeps an environment, and an open alias, for one tenant alone."""
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
    return Scene(tuple(wanted), tuple(records), tuple(listed), young=draw(st.frozensets(ENVS)))


@given(scenes())
def test_whatever_is_in_question_has_its_finding(scene: Scene) -> None:
    """An environment that is a duplicate, an orphan, in conflict or unclear is named by a finding that says so."""
    named = {(each.kind, env) for each in scene.findings for env in each.envs}
    for env in scene.facts.listed:
        if kind := HAS_A_FINDING.get(scene.standing(env)):
            assert (kind, env) in named


@given(scenes())
def test_every_wanted_tenant_has_its_one_environment_or_a_finding(scene: Scene) -> None:
    """What is proven about a tenant: an environment of its own, NORMAL, and no other under its alias."""
    against = {each.tenant for each in scene.findings if each.kind.is_failure}
    bound = {each.tenant: each.env for each in scene.records}
    for tenant in scene.wanted:
        if tenant.name not in against:
            alike = [each for each in scene.listed if each.alias.lower() == (tenant.alias or "").lower()]
            assert [(each.env, each.status) for each in alike] == [(bound[tenant.name], "NORMAL")]


@given(scenes())
def test_what_is_proven_is_accounted_for(scene: Scene) -> None:
    """Then all that the journal has is listed, and all that is listed is wanted, retired, or of no relation."""
    if scene.is_proven:
        standings = {scene.standing(env) for env in scene.facts.listed}
        assert standings <= {Classification.WANTED, Classification.RETIRED, Classification.OTHER}
        assert {each.env for each in scene.records if each.env} <= scene.facts.listed.keys()
        assert not any(each.intent for each in scene.records)


def audit_of(findings: Iterable[Finding], **facts: object) -> Audit:
    """Return an audit with these findings."""
    given = {
        "namespace": "wx",
        "tenant_count": 2,
        "bound_environments": (),
        "unrelated_envs": ("x-1",),
        "environment_counts": {Classification.OTHER: 1},
    }
    return Audit(findings=tuple(findings), **{**given, **facts})


def test_an_audit_is_printed_with_its_verdict() -> None:
    """A line for each finding, the sum, and at last whether all is proven."""
    scene = with_tenant(CLEAN, A, Tenant("c"))
    audit = audit_of(scene.findings, notes=("Note: it rains.",))
    assert str(audit).splitlines() == [
        "missing: c: nothing was opened for it under alias c yet. Provision.",
        "orphan: b: b-1 is billed, and the file lacks its tenant. Put it back, or say that it was removed.",
        "2 tenants wanted, 1 environment listed (1 of no relation to them): 1 orphan, 1 missing.",
        "Note: it rains.",
        "Not proven: 2 findings to be settled.",
    ]
    assert not audit.passed


def test_an_audit_with_nothing_found_is_proven() -> None:
    """What is awaited is counted, and changes nothing about that."""
    awaiting = Finding(kind=FindingKind.AWAITING, tenant="a", alias="a", message="open it.")
    for findings, told in (([], "nothing found"), ([awaiting], "1 awaiting confirmation")):
        audit = audit_of(findings, unrelated_envs=(), tenant_count=1)
        assert audit.passed
        assert str(audit).endswith(f"listed: {told}.\nProven: file, journal and platform agree.")


def test_what_nobody_could_tell_is_in_the_verdict() -> None:
    """Nothing speaks against it, and not everything for it."""
    unknown = Finding(kind=FindingKind.UNKNOWN, tenant="a", alias="a", message="not known.")
    audit = audit_of([unknown, unknown])
    assert audit.passed
    assert audit.conclusion == "Proven, but for 2 that nobody could tell: file, journal and platform agree."


def test_an_audit_is_json() -> None:
    """Every kind and every standing has its count; opened environments have order number and times."""
    scene = with_tenant(with_record(CLEAN, opened_at=1_763_805_600.0), A)
    opened = tuple(to_bound_environment(each, scene.facts) for each in scene.records)
    document = json.loads(audit_of(scene.findings, bound_environments=opened).to_json())
    assert (document["proven"], document["tenants"], document["listed"], document["others"]) == (False, 2, 1, ["x-1"])
    assert document["notes"] == []
    assert document["counts"] == {kind.value: int(kind is FindingKind.ORPHAN) for kind in FindingKind}
    assert document["environments"] == {each.value: int(each is Classification.OTHER) for each in Classification}
    assert document["findings"][0] == {
        "kind": "orphan",
        "tenant": "b",
        "alias": "b",
        "envs": ["b-1"],
        "text": scene.findings[0].message,
    }
    assert document["opened"][0] == {
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
