"""The steps of a tenant, in their order; each kind is a module."""

from typing import Final

from wxtcb.provision.step import Step
from wxtcb.provision.steps.environment import ENVIRONMENT
from wxtcb.provision.steps.readiness import READY
from wxtcb.provision.steps.services import SERVICES
from wxtcb.provision.steps.sharing import SHARE

STEPS: Final[tuple[Step, ...]] = (ENVIRONMENT, READY, SHARE, SERVICES)
