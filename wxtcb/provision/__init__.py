"""Bulk provisioning: tenants in, ready environments out, and a report that names every one of them."""

from wxtcb.provision.apply import Provisioner
from wxtcb.provision.events import RunEvent, RunStopped, StepDone, StepFailed, TenantFinished, TenantStarted
from wxtcb.provision.reading import TenantsFileError, read_tenants
from wxtcb.provision.report import ADVICE, Outcome, Problem, Report, Step, TenantReport
from wxtcb.provision.run import Run
from wxtcb.provision.spec import LATER, Service, Tenant, alias_of

__all__ = [
    "ADVICE",
    "LATER",
    "Outcome",
    "Problem",
    "Provisioner",
    "Report",
    "Run",
    "RunEvent",
    "RunStopped",
    "Service",
    "Step",
    "StepDone",
    "StepFailed",
    "Tenant",
    "TenantFinished",
    "TenantReport",
    "TenantStarted",
    "TenantsFileError",
    "alias_of",
    "read_tenants",
]
