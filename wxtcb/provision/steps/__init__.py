"""The steps of a tenant; each kind is a module.

`STEPS` registers them in the order in which they run. `Provisioner(steps=)` takes any other selection.
"""

from typing import Final

from wxtcb.provision.step import Step
from wxtcb.provision.steps.environment import ENVIRONMENT
from wxtcb.provision.steps.readiness import READY
from wxtcb.provision.steps.services import SERVICES
from wxtcb.provision.steps.sharing import SHARE

__all__ = ["ENVIRONMENT", "READY", "SERVICES", "SHARE", "STEPS"]

STEPS: Final[tuple[Step, ...]] = (ENVIRONMENT, READY, SHARE, SERVICES)
