"""Bulk provisioning: tenants in, ready environments out, and a report that names every one of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from wxtcb.provision.audit import Audit, Finding, FindingKind, Opened, Standing
from wxtcb.provision.context import Site
from wxtcb.provision.events import (
    RunEvent,
    RunStopped,
    StepDone,
    StepFailed,
    StepInDoubt,
    TenantFinished,
    TenantStarted,
)
from wxtcb.provision.journal import (
    Binding,
    Home,
    Intent,
    Journal,
    JournalConflict,
    JournalError,
    JournalInUse,
    MemoryJournal,
    Moment,
    Record,
    ServiceState,
)
from wxtcb.provision.plan import SIGNS, Action, Decisions, Plan, Planned, Release, Taken
from wxtcb.provision.provisioner import Provisioner
from wxtcb.provision.report import ADVICE, Origin, Outcome, Problem, Report, TenantReport
from wxtcb.provision.run import Run
from wxtcb.provision.step import Step
from wxtcb.provision.steps import STEPS
from wxtcb.provision.tenant import LATER, Service, Tenant, alias_of
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move

if TYPE_CHECKING:
    from wxtcb.provision.sqlite.journal import SqliteJournal
    from wxtcb.provision.tenants_file import TenantsFileError, read_tenants

__all__ = [
    "ADVICE",
    "LATER",
    "SIGNS",
    "STEPS",
    "Action",
    "Audit",
    "Binding",
    "Decisions",
    "Finding",
    "FindingKind",
    "Home",
    "Intent",
    "Journal",
    "JournalConflict",
    "JournalError",
    "JournalInUse",
    "MemoryJournal",
    "Moment",
    "Move",
    "Opened",
    "Origin",
    "Outcome",
    "Plan",
    "Planned",
    "Problem",
    "Provisioner",
    "Record",
    "Release",
    "Report",
    "Run",
    "RunEvent",
    "RunStopped",
    "Service",
    "ServiceState",
    "Site",
    "SqliteJournal",
    "Standing",
    "Step",
    "StepDone",
    "StepFailed",
    "StepInDoubt",
    "Taken",
    "Tenant",
    "TenantFinished",
    "TenantReport",
    "TenantStarted",
    "TenantsFileError",
    "Work",
    "alias_of",
    "read_tenants",
]


_LATE: Final = {
    "SqliteJournal": "wxtcb.provision.sqlite.journal",
    "TenantsFileError": "wxtcb.provision.tenants_file",
    "read_tenants": "wxtcb.provision.tenants_file",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """Load what deals with files when it is first asked for: not every program has any."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'wxtcb.provision' has no attribute {name!r}")
