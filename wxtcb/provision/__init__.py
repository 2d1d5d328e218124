"""Bulk provisioning: takes tenants to ready environments, from one process or from many, and reports on each.

Events are in `events`. A custom step needs `context` (`StepContext`), a custom journal `journal` and `record`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from wxtcb.provision.audit import Audit, Finding, FindingKind
from wxtcb.provision.desired import AliasInUse, Decision, DecisionPending, DesiredState
from wxtcb.provision.journal import Journal, JournalError
from wxtcb.provision.memory import MemoryJournal
from wxtcb.provision.plan import Action, Plan, TenantPlan
from wxtcb.provision.provisioner import Provisioner
from wxtcb.provision.record import TenantRecord
from wxtcb.provision.report import Outcome, Problem, Progress, Report, RunProgress, StopReason, TenantReport
from wxtcb.provision.run import Run
from wxtcb.provision.step import Step
from wxtcb.provision.steps import STEPS
from wxtcb.provision.tenant import Service, Tenant, derive_alias
from wxtcb.provision.worker import Drained

if TYPE_CHECKING:
    from wxtcb.provision.client import ProvisioningClient, Submission, TenantStatus, UnknownTenant
    from wxtcb.provision.journal_urls import open_journal
    from wxtcb.provision.postgres.journal import PostgresJournal
    from wxtcb.provision.report_csv import render_csv
    from wxtcb.provision.report_html import render_html
    from wxtcb.provision.sqlite.journal import SqliteJournal
    from wxtcb.provision.tenants_file import TenantsFileError, read_adoptions, read_tenants

__all__ = [
    "STEPS",
    "Action",
    "AliasInUse",
    "Audit",
    "Decision",
    "DecisionPending",
    "DesiredState",
    "Drained",
    "Finding",
    "FindingKind",
    "Journal",
    "JournalError",
    "MemoryJournal",
    "Outcome",
    "Plan",
    "PostgresJournal",
    "Problem",
    "Progress",
    "Provisioner",
    "ProvisioningClient",
    "Report",
    "Run",
    "RunProgress",
    "Service",
    "SqliteJournal",
    "Step",
    "StopReason",
    "Submission",
    "Tenant",
    "TenantPlan",
    "TenantRecord",
    "TenantReport",
    "TenantStatus",
    "TenantsFileError",
    "UnknownTenant",
    "derive_alias",
    "open_journal",
    "read_adoptions",
    "read_tenants",
    "render_csv",
    "render_html",
]

# Not every program needs them: these modules load psycopg, sqlite3, csv, tomllib and html.
_LAZY_IMPORTS: Final = {
    "ProvisioningClient": "wxtcb.provision.client",
    "PostgresJournal": "wxtcb.provision.postgres.journal",
    "SqliteJournal": "wxtcb.provision.sqlite.journal",
    "Submission": "wxtcb.provision.client",
    "TenantStatus": "wxtcb.provision.client",
    "TenantsFileError": "wxtcb.provision.tenants_file",
    "UnknownTenant": "wxtcb.provision.client",
    "open_journal": "wxtcb.provision.journal_urls",
    "read_adoptions": "wxtcb.provision.tenants_file",
    "read_tenants": "wxtcb.provision.tenants_file",
    "render_csv": "wxtcb.provision.report_csv",
    "render_html": "wxtcb.provision.report_html",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    """Import a name of `_LAZY_IMPORTS` at its first use."""
    if name in _LAZY_IMPORTS:
        return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module 'wxtcb.provision' has no attribute {name!r}")
