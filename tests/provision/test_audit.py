"""Audits of a platform: what is read for them, how often, and what a run leaves to be found."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wxtcb
from wxtcb.api import environment
from wxtcb.provision import Audit, FindingKind, MemoryJournal, Provisioner, Tenant, TenantRecord
from wxtcb.provision.audit import Classification
from wxtcb.provision.auditor import AuditInput, DesiredTenant, build_audit
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox, World

from .conftest import EPOCH, Rig, Rigging
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, TOKEN, WX1, WX2, plain, seen

RELATIONS = "/componenttcb/batchgetenvid"
MINE = [
    Tenant("a", alias="x", appids=[WX1], services=[API]),
    Tenant("b"),
    Tenant("c", alias="y", appids=[WX2], source_type=1),
]
STAMPS = {"create_time": "2026-11-22 18:00:00", "update_time": "2026-11-22 18:00:00", "status": "NORMAL"}
virtual = pytest.mark.virtual_time


async def audited(rig: Rig, tenants: list[Tenant], **options: object) -> Audit:
    """Audit with a journal that there is."""
    async with rig.provisioner(**options) as provisioner:
        return await provisioner.audit(tenants)


def told(audit: Audit) -> list[tuple[FindingKind, str | None]]:
    """Return what was found, and about whom."""
    return [(finding.kind, finding.tenant) for finding in audit.findings]


def appids(number: int) -> list[str]:
    """Return so many mini programs."""
    return [f"wx{each:016}" for each in range(number)]


@virtual
async def test_a_finished_run_is_proven(rig: Rig) -> None:
    """Awaited confirmations do not change that, and end when the administrators have agreed; nothing was changed."""
    journal, other = MemoryJournal(), rig.box.world.add("shop")
    report = await rig.provision(MINE, journal=journal)
    counts = dict(rig.box.counts)
    audit = await audited(rig, MINE, journal=journal)
    awaiting = [(FindingKind.AWAITING, "a"), (FindingKind.AWAITING, "c")]
    assert (audit.passed, told(audit), audit.unrelated_envs) == (True, awaiting, (other,))
    for entry in report.tenants:
        for link in entry.links:
            rig.box.world.confirm(entry.env or "", link.appid)
    again = await audited(rig, MINE, journal=journal)
    assert (again.passed, again.findings) == (True, ())
    assert (again.tenant_count, again.listed_count) == (3, 4)
    assert again.environment_counts == {Classification.WANTED: 3, Classification.OTHER: 1}
    assert all(rig.box.count(path) == counts.get(path, 0) for path in (CREATE, SHARE, ESTABLISH))


@virtual
async def test_what_was_opened_is_told_with_its_order(rig: Rig) -> None:
    """The number that the platform gave, and the times by both clocks."""
    journal = MemoryJournal()
    report = await rig.provision(MINE, journal=journal)
    audit = await audited(rig, MINE, journal=journal)
    assert [(each.tenant, each.env, each.tranid) for each in audit.bound_environments] == [
        (entry.tenant, entry.env, entry.tranid) for entry in report.tenants
    ]
    for each in audit.bound_environments:
        assert each.create_time == rig.box.world.environments[each.env].create_time
        assert EPOCH < each.opened_at.timestamp() < EPOCH + 10_000


@virtual
async def test_without_a_run_everybody_is_missing(rig: Rig) -> None:
    """And nobody is looked up."""
    audit = await audited(rig, MINE)
    assert told(audit) == [(FindingKind.MISSING, tenant.name) for tenant in MINE]
    assert set(rig.box.counts) == {TOKEN, LIST}


@virtual
async def test_the_worst_is_told_first(rig: Rig) -> None:
    """And within a kind the order is that of the file."""
    journal = MemoryJournal()
    await rig.provision(MINE, journal=journal)
    rig.box.world.add("y")
    tenants = [Tenant("n"), Tenant("m"), MINE[0], MINE[2]]
    assert told(await audited(rig, tenants, journal=journal)) == [
        (FindingKind.DUPLICATE, "c"),
        (FindingKind.ORPHAN, "b"),
        (FindingKind.MISSING, "n"),
        (FindingKind.MISSING, "m"),
        (FindingKind.AWAITING, "a"),
        (FindingKind.AWAITING, "c"),
    ]


@virtual
async def test_what_another_file_has_opened_is_a_suspicion_at_most(rig: Rig) -> None:
    """Two files with journals of their own on one platform: each is proven, and names what looks like its own."""
    files = [[Tenant(name) for name in names] for names in ("abc", "de")]
    journals = [MemoryJournal(), MemoryJournal()]
    for tenants, journal in zip(files, journals, strict=True):
        await rig.provision(tenants, journal=journal)
    rig.box.world.add("shop")
    for tenants, journal, strangers in zip(files, journals, (2, 3), strict=True):
        audit = await audited(rig, tenants, journal=journal)
        assert (audit.passed, audit.findings, len(audit.unrelated_envs)) == (True, (), strangers + 1)
        (note,) = audit.notes
        assert sum(env in note for env in audit.unrelated_envs) == strangers


@virtual
async def test_a_clock_that_is_behind_the_journal_is_noted(rig: Rig) -> None:
    """As in a plan; it keeps nothing from being proven."""
    async with rig.provisioner() as provisioner:
        await provisioner.apply(MINE[1:2]).wait()
        now = provisioner.clock()
    audit = await audited(rig, MINE[1:2], journal=provisioner.journal, clock=lambda: now - 86_400)
    assert audit.passed
    assert [note[:53] for note in audit.notes] == ["Note: the clock was set back, or was ahead then: the "]


@virtual
async def test_a_list_with_a_hiccup_is_looked_at_again(rig: Rig) -> None:
    """Twice more; what is missing then is told."""
    journal = MemoryJournal()
    await rig.provision(plain(5), journal=journal)
    await asyncio.sleep(200)
    rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)] * 2)
    before = rig.box.count(LIST)
    assert (await audited(rig, plain(5), journal=journal)).passed
    assert rig.box.count(LIST) == before + 3
    rig.box.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)] * 3)
    audit = await audited(rig, plain(5), journal=journal)
    assert {finding.kind for finding in audit.findings} == {FindingKind.CONFLICT}
    assert rig.box.count(LIST) == before + 6


@virtual
async def test_an_environment_that_is_listed_late_is_not_waited_for(rig: Rig) -> None:
    """One look is enough to tell that it cannot be there yet."""
    journal = MemoryJournal()
    rig.box.world.visible_after = 30.0
    async with rig.provisioner(journal=journal, settle=60.0) as provisioner:
        run = provisioner.apply(plain(1))
        while not await journal.bindings():
            await asyncio.sleep(0.01)
        looks = rig.box.count(LIST)
        audit = await provisioner.audit(plain(1))
        assert rig.box.count(LIST) <= looks + 1
        assert [finding.message.partition(", ")[2] for finding in audit.findings] == [
            "and is not listed yet. Audit again later."
        ]
        assert (await run.wait()).all_done
        assert (await provisioner.audit(plain(1))).passed


@virtual
async def test_mini_programs_are_looked_up_together(rig: Rig) -> None:
    """Twenty in a call, each source type by itself, and each mini program once."""
    names = appids(45)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(names)]
    tenants += [Tenant("s", alias="s", appids=names[:1], source_type=1), Tenant("u", alias="u", appids=names[:1])]
    journal = MemoryJournal()
    await rig.provision(tenants, journal=journal)
    audit = await audited(rig, tenants, journal=journal)
    assert audit.counts[FindingKind.AWAITING] == 47
    bodies = [request.body for request in rig.box.seen if request.path == RELATIONS]
    asked = [(body.get("source_type"), len(body["appids"])) for body in bodies]
    assert sorted(asked, key=str) == [(1, 1), (None, 20), (None, 20), (None, 5)]


@virtual
async def test_a_look_up_that_fails_is_no_failure(rig: Rig) -> None:
    """It is told whose administrators nobody knows of, and why; the others are looked up all the same."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(appids(21))]
    journal = MemoryJournal()
    await rig.provision(tenants, journal=journal)
    rig.box.faults.script(RELATIONS, [Fault(FaultKind.ERRCODE, errcode=45009)])
    audit = await audited(rig, tenants, journal=journal, concurrency=1)
    assert (audit.passed, audit.counts[FindingKind.UNKNOWN], audit.counts[FindingKind.AWAITING]) == (True, 20, 1)
    assert "45009" in audit.findings[0].message


@virtual
async def test_a_mini_program_that_cannot_be_looked_up_is_told(rig: Rig) -> None:
    """By itself, with the platform's reason."""
    journal = MemoryJournal()
    await rig.provision(MINE, journal=journal)
    rig.box.world.is_authorised = lambda appid: appid != WX1
    audit = await audited(rig, MINE, journal=journal)
    assert told(audit) == [(FindingKind.UNKNOWN, "a"), (FindingKind.AWAITING, "c")]
    assert audit.findings[0].message.endswith("is not known: invalid appid")


@virtual
async def test_an_error_that_would_meet_everybody_is_met_once(rig: Rig) -> None:
    """Nobody else is asked for after it."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(appids(60))]
    journal = MemoryJournal()
    await rig.provision(tenants, journal=journal)
    rig.box.faults.errcode(48001, path=RELATIONS)
    audit = await audited(rig, tenants, journal=journal, concurrency=1)
    assert (audit.counts[FindingKind.UNKNOWN], rig.box.count(RELATIONS)) == (60, 1)


@virtual
async def test_a_look_that_fails_fails_the_audit(rig: Rig) -> None:
    """Nothing can be told without the list."""
    rig.box.faults.errcode(48001, path=LIST)
    with pytest.raises(wxtcb.PermissionDenied):
        await audited(rig, MINE)


@virtual
async def test_an_audit_needs_an_open_provisioner_and_names_of_their_own(rig: Rig) -> None:
    """As a plan does."""
    with pytest.raises(wxtcb.SessionClosed):
        await rig.provisioner().audit(MINE)
    async with rig.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match="there already"):
            await provisioner.audit([*MINE, Tenant("a")])
    assert rig.box.count(LIST) == 0


@virtual
async def test_an_audit_during_a_run_accuses_nobody_of_what_the_run_does(rig: Rig) -> None:
    """What it opens is the tenant's, or an unclear create's, at every moment."""
    rig.wire.latency = 0.5
    rig.box.world.ready_after = ReadyPolicy.after_seconds(7)
    journal, tenants = MemoryJournal(), plain(30)
    kinds: set[FindingKind] = set()
    async with rig.provisioner(journal=journal, concurrency=4) as provisioner:
        run = provisioner.apply(tenants)
        while not run.ended:
            kinds.update(finding.kind for finding in (await provisioner.audit(tenants)).findings)
        assert (await provisioner.audit(tenants)).passed
    assert FindingKind.MISSING in kinds
    assert kinds <= {FindingKind.MISSING, FindingKind.AMBIGUOUS, FindingKind.DRIFT}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), wrong=st.sampled_from(["second", "removed", "halted", "left out", "new"]))
def test_one_mutation_of_the_world_is_found(virtual_run, seed: int, wrong: str) -> None:
    """A finished run is proven, whoever is touched afterwards is not."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        virtual_run(_mutate(Rigging(monkeypatch), seed, wrong))


async def _mutate(rigging: Rigging, seed: int, wrong: str) -> None:
    now = asyncio.get_running_loop().time
    box = Sandbox(world=World(seed=seed, clock=now))
    tenants = [Tenant(f"商户{number}", services=[API]) for number in range(5)]
    async with rigging.session(box) as session, Provisioner(session, settle=2.0, clock=now) as provisioner:
        await provisioner.apply(tenants).wait()
        assert (await provisioner.audit(tenants)).passed
        victim = list(box.world.environments.values())[seed % 5]
        match wrong:
            case "second":
                box.world.add(victim.alias.upper()[:1].lower() + victim.alias[1:])
            case "removed":
                box.world.remove(victim.env)
            case "halted":
                box.world.halt(victim.env)
            case "left out":
                del tenants[seed % 5]
            case "new":
                tenants.append(Tenant("new"))
        await asyncio.sleep(60)
        audit = await provisioner.audit(tenants)
    assert (audit.passed, len(audit.findings)) == (False, 1)


TROUBLES = [
    FaultKind.BUSY_AFTER,
    FaultKind.DROP,
    FaultKind.DROP_AFTER,
    FaultKind.SYSTEM_ERROR_AFTER,
    FaultKind.HTTP_AFTER,
]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), troubles=st.lists(st.sampled_from(TROUBLES), min_size=1, max_size=3), cut=st.booleans()
)
def test_an_audit_tells_the_truth_about_any_run(
    virtual_run, seed: int, troubles: list[FaultKind], *, cut: bool
) -> None:
    """After random faults, cut off or not: what is proven is so, and no environment is left without a word."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        virtual_run(_hold_to_the_world(Rigging(monkeypatch), seed, troubles, cut=cut))


async def _hold_to_the_world(rigging: Rigging, seed: int, troubles: list[FaultKind], *, cut: bool) -> None:
    now = asyncio.get_running_loop().time
    box = Sandbox(world=World(seed=seed, clock=now))
    box.faults.seed = seed
    for trouble in troubles:
        box.faults.add(Fault(trouble, probability=0.2, path=CREATE))
        box.faults.add(Fault(trouble, probability=0.2, path=ESTABLISH))
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(8)]
    async with rigging.session(box) as session, Provisioner(session, settle=2.0, grace=0.01, clock=now) as provisioner:
        run = provisioner.apply(tenants)
        if cut:
            await seen(box, CREATE, 4)
            await run.cancel()
        await run.wait()
        box.faults.clear()
        await asyncio.sleep(60)
        audit = await provisioner.audit(tenants)
    named = {env for finding in audit.findings for env in finding.envs} | {
        each.env for each in audit.bound_environments
    }
    assert named >= box.world.environments.keys()
    done = {tenant.alias for tenant in tenants} - {each.alias for each in audit.findings if each.kind.is_failure}
    rows = [row for row in box.world.environments.values() if row.alias in done]
    assert sorted(row.alias for row in rows) == sorted(done)
    assert all(row.status == "NORMAL" and (row.env, "api") in box.world.services for row in rows)
    assert audit.passed is (len(done) == len(tenants))


async def test_many_tenants_do_not_hold_the_loop() -> None:
    """Others have their turn after every hundred tenants, records and environments."""
    listed = [environment.EnvInfo(env=f"e{number}", alias=f"a{number}", **STAMPS) for number in range(1_000)]
    records = {
        f"t{number}": TenantRecord(tenant=f"t{number}", alias=f"a{number}", env=f"e{number}") for number in range(1_000)
    }
    wanted = [DesiredTenant(Tenant(name), record.alias) for name, record in records.items()]
    facts = AuditInput.build(environment.EnvList(info_list=tuple(listed)), wanted, records, {})
    judging, turns = asyncio.ensure_future(build_audit("wx", facts)), 0
    while not judging.done():
        await asyncio.sleep(0)
        turns += 1
    assert judging.result().passed
    assert turns >= 4 * 1_000 / 100
