"""Audits of a platform: requests they send, and their findings after runs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

import wxtcb
from wxtcb.api import environment
from wxtcb.provision import Audit, FindingKind, MemoryJournal, Provisioner, Tenant, TenantRecord
from wxtcb.provision.audit import Classification, audit_tenants
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox, World

from .conftest import EPOCH, Harness, SessionFactory
from .constants import API, CREATE, ESTABLISH, LIST, SHARE, TOKEN, WX1, WX2, plain_tenants, wait_for_requests

RELATIONS = "/componenttcb/batchgetenvid"
MINE = [
    Tenant("a", alias="x", appids=[WX1], services=[API]),
    Tenant("b"),
    Tenant("c", alias="y", appids=[WX2], source_type=1),
]
STAMPS = {"create_time": "2026-11-22 18:00:00", "update_time": "2026-11-22 18:00:00", "status": "NORMAL"}
virtual = pytest.mark.virtual_time


async def audited(harness: Harness, tenants: list[Tenant], **options: object) -> Audit:
    """Audit with the journal of *options*."""
    async with harness.provisioner(**options) as provisioner:
        return await provisioner.audit(tenants)


def outline(audit: Audit) -> list[tuple[FindingKind, str | None]]:
    """Return kind and tenant of each finding."""
    return [(finding.kind, finding.tenant) for finding in audit.findings]


def appids(number: int) -> list[str]:
    """Return *number* mini programs."""
    return [f"wx{each:016}" for each in range(number)]


@virtual
async def test_audit_after_a_finished_run_passes(harness: Harness) -> None:
    """Open confirmations do not fail it, and disappear once administrators confirm; nothing is changed."""
    journal, other = MemoryJournal(), harness.sandbox.world.add("shop")
    report = await harness.provision(MINE, journal=journal)
    counts = dict(harness.sandbox.counts)
    audit = await audited(harness, MINE, journal=journal)
    awaiting = [(FindingKind.AWAITING, "a"), (FindingKind.AWAITING, "c")]
    assert (audit.passed, outline(audit), audit.unrelated_envs) == (True, awaiting, (other,))
    for entry in report.tenants:
        for link in entry.links:
            harness.sandbox.world.confirm(entry.env or "", link.appid)
    again = await audited(harness, MINE, journal=journal)
    assert (again.passed, again.findings) == (True, ())
    assert (again.tenant_count, again.listed_count) == (3, 4)
    assert again.environment_counts == {Classification.WANTED: 3, Classification.OTHER: 1}
    assert all(harness.sandbox.count(path) == counts.get(path, 0) for path in (CREATE, SHARE, ESTABLISH))


@virtual
async def test_bound_environments_have_order_numbers_and_times(harness: Harness) -> None:
    """The order number is that of the platform; times are from both clocks."""
    journal = MemoryJournal()
    report = await harness.provision(MINE, journal=journal)
    audit = await audited(harness, MINE, journal=journal)
    assert [(each.tenant, each.env, each.tranid) for each in audit.bound_environments] == [
        (entry.tenant, entry.env, entry.tranid) for entry in report.tenants
    ]
    for each in audit.bound_environments:
        assert each.create_time == harness.sandbox.world.environments[each.env].create_time
        assert EPOCH < each.opened_at.timestamp() < EPOCH + 10_000


@virtual
async def test_audit_without_a_run_reports_all_tenants_missing(harness: Harness) -> None:
    """No share is looked up."""
    audit = await audited(harness, MINE)
    assert outline(audit) == [(FindingKind.MISSING, tenant.name) for tenant in MINE]
    assert set(harness.sandbox.counts) == {TOKEN, LIST}


@virtual
async def test_findings_are_sorted_by_severity(harness: Harness) -> None:
    """Within a kind the order is that of the file."""
    journal = MemoryJournal()
    await harness.provision(MINE, journal=journal)
    harness.sandbox.world.add("y")
    tenants = [Tenant("n"), Tenant("m"), MINE[0], MINE[2]]
    assert outline(await audited(harness, tenants, journal=journal)) == [
        (FindingKind.DUPLICATE, "c"),
        (FindingKind.ORPHAN, "b"),
        (FindingKind.MISSING, "n"),
        (FindingKind.MISSING, "m"),
        (FindingKind.AWAITING, "a"),
        (FindingKind.AWAITING, "c"),
    ]


@virtual
async def test_environments_of_another_file_are_only_noted(harness: Harness) -> None:
    """With two files and journals on one platform, both audits pass and note the environments of the other."""
    files = [[Tenant(name) for name in names] for names in ("abc", "de")]
    journals = [MemoryJournal(), MemoryJournal()]
    for tenants, journal in zip(files, journals, strict=True):
        await harness.provision(tenants, journal=journal)
    harness.sandbox.world.add("shop")
    for tenants, journal, unrelated in zip(files, journals, (2, 3), strict=True):
        audit = await audited(harness, tenants, journal=journal)
        assert (audit.passed, audit.findings, len(audit.unrelated_envs)) == (True, (), unrelated + 1)
        (note,) = audit.notes
        assert sum(env in note for env in audit.unrelated_envs) == unrelated


@virtual
async def test_clock_skew_is_noted(harness: Harness) -> None:
    """The audit passes all the same."""
    async with harness.provisioner() as provisioner:
        await provisioner.apply(MINE[1:2]).wait()
        now = provisioner.clock()
    audit = await audited(harness, MINE[1:2], journal=provisioner.journal, clock=lambda: now - 86_400)
    assert audit.passed
    assert ["in the future" in note for note in audit.notes] == [True]


@virtual
async def test_incomplete_list_is_requested_again(harness: Harness) -> None:
    """After two retries, the missing environments are reported."""
    journal = MemoryJournal()
    await harness.provision(plain_tenants(5), journal=journal)
    await asyncio.sleep(200)
    harness.sandbox.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)] * 2)
    before = harness.sandbox.count(LIST)
    assert (await audited(harness, plain_tenants(5), journal=journal)).passed
    assert harness.sandbox.count(LIST) == before + 3
    harness.sandbox.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)] * 3)
    audit = await audited(harness, plain_tenants(5), journal=journal)
    assert {finding.kind for finding in audit.findings} == {FindingKind.CONFLICT}
    assert harness.sandbox.count(LIST) == before + 6


@virtual
async def test_recent_environment_needs_no_second_list(harness: Harness) -> None:
    """It may not be listed yet, so that one list is enough."""
    journal = MemoryJournal()
    harness.sandbox.world.visible_after = 30.0
    async with harness.provisioner(journal=journal, settle=60.0) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        while not await journal.bindings(0.0):
            await asyncio.sleep(0.01)
        lists = harness.sandbox.count(LIST)
        audit = await provisioner.audit(plain_tenants(1))
        assert harness.sandbox.count(LIST) <= lists + 1
        assert [finding.message.partition(" was ")[2] for finding in audit.findings] == [
            "created recently and is not listed yet. Audit again later."
        ]
        assert (await run.wait()).all_done
        assert (await provisioner.audit(plain_tenants(1))).passed


@virtual
async def test_share_lookups_are_batched(harness: Harness) -> None:
    """A call has up to twenty mini programs of one source type, each once."""
    names = appids(45)
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(names)]
    tenants += [Tenant("s", alias="s", appids=names[:1], source_type=1), Tenant("u", alias="u", appids=names[:1])]
    journal = MemoryJournal()
    await harness.provision(tenants, journal=journal)
    audit = await audited(harness, tenants, journal=journal)
    assert audit.counts[FindingKind.AWAITING] == 47
    bodies = [request.body for request in harness.sandbox.seen if request.path == RELATIONS]
    batches = [(body.get("source_type"), len(body["appids"])) for body in bodies]
    assert sorted(batches, key=str) == [(1, 1), (None, 20), (None, 20), (None, 5)]


@virtual
async def test_failed_share_lookup_does_not_fail_the_audit(harness: Harness) -> None:
    """Its mini programs are unknown, and the other batches are looked up."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(appids(21))]
    journal = MemoryJournal()
    await harness.provision(tenants, journal=journal)
    harness.sandbox.faults.script(RELATIONS, [Fault(FaultKind.ERRCODE, errcode=45009)])
    audit = await audited(harness, tenants, journal=journal, concurrency=1)
    assert (audit.passed, audit.counts[FindingKind.UNKNOWN], audit.counts[FindingKind.AWAITING]) == (True, 20, 1)
    assert "45009" in audit.findings[0].message


@virtual
async def test_single_failed_mini_program_is_reported(harness: Harness) -> None:
    """It alone is unknown, with the platform's reason."""
    journal = MemoryJournal()
    await harness.provision(MINE, journal=journal)
    harness.sandbox.world.is_authorised = lambda appid: appid != WX1
    audit = await audited(harness, MINE, journal=journal)
    assert outline(audit) == [(FindingKind.UNKNOWN, "a"), (FindingKind.AWAITING, "c")]
    assert audit.findings[0].message.endswith("confirmed: invalid appid")


@virtual
async def test_fatal_lookup_error_stops_further_lookups(harness: Harness) -> None:
    """No call is sent after an error that every call would meet."""
    tenants = [Tenant(f"t{number}", alias=f"a{number}", appids=[name]) for number, name in enumerate(appids(60))]
    journal = MemoryJournal()
    await harness.provision(tenants, journal=journal)
    harness.sandbox.faults.errcode(48001, path=RELATIONS)
    audit = await audited(harness, tenants, journal=journal, concurrency=1)
    assert (audit.counts[FindingKind.UNKNOWN], harness.sandbox.count(RELATIONS)) == (60, 1)


@virtual
async def test_failed_list_raises(harness: Harness) -> None:
    """An audit is impossible without the list."""
    harness.sandbox.faults.errcode(48001, path=LIST)
    with pytest.raises(wxtcb.PermissionDenied):
        await audited(harness, MINE)


@virtual
async def test_audit_requires_open_provisioner_and_unique_names(harness: Harness) -> None:
    """The rules are those of a plan."""
    with pytest.raises(wxtcb.SessionClosed):
        await harness.provisioner().audit(MINE)
    async with harness.provisioner() as provisioner:
        with pytest.raises(wxtcb.InvalidArgument, match="duplicated"):
            await provisioner.audit([*MINE, Tenant("a")])
    assert harness.sandbox.count(LIST) == 0


@virtual
async def test_audit_during_a_run_reports_no_false_conflict(harness: Harness) -> None:
    """An environment in creation belongs to its tenant, or to an ambiguous create, at any time."""
    harness.wire.latency = 0.5
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(7)
    journal, tenants = MemoryJournal(), plain_tenants(30)
    kinds: set[FindingKind] = set()
    async with harness.provisioner(journal=journal, concurrency=4) as provisioner:
        run = provisioner.apply(tenants)
        while not run.ended:
            kinds.update(finding.kind for finding in (await provisioner.audit(tenants)).findings)
        assert (await provisioner.audit(tenants)).passed
    assert FindingKind.MISSING in kinds
    assert kinds <= {FindingKind.MISSING, FindingKind.AMBIGUOUS, FindingKind.DRIFT}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), wrong=st.sampled_from(["second", "removed", "halted", "left out", "new"]))
def test_one_change_of_the_platform_is_found(virtual_run, seed: int, wrong: str) -> None:
    """An audit passes before the change and has one finding after it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        virtual_run(_mutate(SessionFactory(monkeypatch), seed, wrong))


async def _mutate(session_factory: SessionFactory, seed: int, wrong: str) -> None:
    now = asyncio.get_running_loop().time
    sandbox = Sandbox(world=World(seed=seed, clock=now))
    tenants = [Tenant(f"商户{number}", services=[API]) for number in range(5)]
    async with session_factory.session(sandbox) as session, Provisioner(session, settle=2.0, clock=now) as provisioner:
        await provisioner.apply(tenants).wait()
        assert (await provisioner.audit(tenants)).passed
        victim = list(sandbox.world.environments.values())[seed % 5]
        match wrong:
            case "second":
                sandbox.world.add(victim.alias.upper()[:1].lower() + victim.alias[1:])
            case "removed":
                sandbox.world.remove(victim.env)
            case "halted":
                sandbox.world.halt(victim.env)
            case "left out":
                del tenants[seed % 5]
            case "new":
                tenants.append(Tenant("new"))
        await asyncio.sleep(60)
        audit = await provisioner.audit(tenants)
    assert (audit.passed, len(audit.findings)) == (False, 1)


FAULTS = [
    FaultKind.BUSY_AFTER,
    FaultKind.DROP,
    FaultKind.DROP_AFTER,
    FaultKind.SYSTEM_ERROR_AFTER,
    FaultKind.HTTP_AFTER,
]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3), cut=st.booleans())
def test_audit_is_correct_after_random_faults(virtual_run, seed: int, faults: list[FaultKind], *, cut: bool) -> None:
    """What passes is complete on the platform, and every environment is bound or has a finding."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        virtual_run(_audit_after_faults(SessionFactory(monkeypatch), seed, faults, cut=cut))


async def _audit_after_faults(
    session_factory: SessionFactory, seed: int, faults: list[FaultKind], *, cut: bool
) -> None:
    now = asyncio.get_running_loop().time
    sandbox = Sandbox(world=World(seed=seed, clock=now))
    sandbox.faults.seed = seed
    for fault in faults:
        sandbox.faults.add(Fault(fault, probability=0.2, path=CREATE))
        sandbox.faults.add(Fault(fault, probability=0.2, path=ESTABLISH))
    tenants = [Tenant(f"t{number}", alias=f"a{number}", services=[API]) for number in range(8)]
    async with (
        session_factory.session(sandbox) as session,
        Provisioner(session, settle=2.0, grace=0.01, clock=now) as provisioner,
    ):
        run = provisioner.apply(tenants)
        if cut:
            await wait_for_requests(sandbox, CREATE, 4)
            await run.cancel()
        await run.wait()
        sandbox.faults.clear()
        await asyncio.sleep(60)
        audit = await provisioner.audit(tenants)
    named = {env for finding in audit.findings for env in finding.envs} | {
        each.env for each in audit.bound_environments
    }
    assert named >= sandbox.world.environments.keys()
    done = {tenant.alias for tenant in tenants} - {each.alias for each in audit.findings if each.kind.is_failure}
    rows = [row for row in sandbox.world.environments.values() if row.alias in done]
    assert sorted(row.alias for row in rows) == sorted(done)
    assert all(row.status == "NORMAL" and (row.env, "api") in sandbox.world.services for row in rows)
    assert audit.passed is (len(done) == len(tenants))


async def test_audit_of_many_tenants_yields_to_the_loop() -> None:
    """Other tasks run after every hundred tenants, records and environments."""
    listed = [environment.EnvInfo(env=f"e{number}", alias=f"a{number}", **STAMPS) for number in range(1_000)]
    records = {
        f"t{number}": TenantRecord(tenant=f"t{number}", alias=f"a{number}", env=f"e{number}") for number in range(1_000)
    }
    desired = {name: (Tenant(name), record.alias) for name, record in records.items()}
    comparison = Comparison(environment.EnvList(info_list=tuple(listed)), desired, records, {})
    audit_task, turns = asyncio.ensure_future(build_audit("wx", comparison)), 0
    while not audit_task.done():
        await asyncio.sleep(0)
        turns += 1
    assert audit_task.result().passed
    assert turns >= 4 * 1_000 / 100
