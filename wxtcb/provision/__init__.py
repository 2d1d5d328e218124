"""Bulk provisioning: tenants in, ready environments out, and a report that names every one of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from wxtcb.provision.audit import Audit, BoundEnvironment, Classification, Finding, FindingKind
from wxtcb.provision.context import StepContext
from wxtcb.provision.events import (
    RunEvent,
    RunStopped,
    StepDone,
    StepFailed,
    StepOutcomeUnknown,
    TenantFinished,
    TenantStarted,
)
from wxtcb.provision.journal import (
    Binding,
    HistoryEntry,
    Intent,
    Journal,
    JournalConflict,
    JournalError,
    JournalIdentity,
    JournalInUse,
    MemoryJournal,
    ServiceState,
    TenantRecord,
)
from wxtcb.provision.plan import ACTION_SYMBOLS, Action, AliasIndex, OperatorDecisions, Plan, RecordChange, TenantPlan
from wxtcb.provision.provisioner import Provisioner
from wxtcb.provision.report import OUTCOME_ADVICE, Outcome, Problem, Report, RunInfo, TenantReport
from wxtcb.provision.run import Run
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.steps import STEPS
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID, Service, Tenant, derive_alias
from wxtcb.provision.tenant_state import TenantState

if TYPE_CHECKING:
    from wxtcb.provision.sqlite.journal import SqliteJournal
    from wxtcb.provision.tenants_file import TenantsFileError, read_tenants

__all__ = [
    "ACTION_SYMBOLS",
    "OUTCOME_ADVICE",
    "PLACEHOLDER_ENV_ID",
    "STEPS",
    "Action",
    "AliasIndex",
    "Audit",
    "Binding",
    "BoundEnvironment",
    "Classification",
    "Finding",
    "FindingKind",
    "HistoryEntry",
    "Intent",
    "Journal",
    "JournalConflict",
    "JournalError",
    "JournalIdentity",
    "JournalInUse",
    "MemoryJournal",
    "OperatorDecisions",
    "Outcome",
    "Plan",
    "Problem",
    "Provisioner",
    "RecordChange",
    "Report",
    "Run",
    "RunEvent",
    "RunInfo",
    "RunStopped",
    "Service",
    "ServiceState",
    "SqliteJournal",
    "Step",
    "StepContext",
    "StepDone",
    "StepFailed",
    "StepOutcomeUnknown",
    "StepResult",
    "Tenant",
    "TenantFinished",
    "TenantPlan",
    "TenantRecord",
    "TenantReport",
    "TenantStarted",
    "TenantState",
    "TenantsFileError",
    "derive_alias",
    "read_tenants",
]


_LAZY_IMPORTS: Final = {
    "SqliteJournal": "wxtcb.provision.sqlite.journal",
    "TenantsFileError": "wxtcb.provision.tenants_file",
    "read_tenants": "wxtcb.provision.tenants_file",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """Load what deals with files when it is first asked for: not every program has any."""
    if name in _LAZY_IMPORTS:
        return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module 'wxtcb.provision' has no attribute {name!r}")
