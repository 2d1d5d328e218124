"""The platform simulated on loopback: `async with Sandbox() as sandbox:` needs no WeChat account and no network.

What a request may contain is read from `facts/*.json`, never from the library's own models. So a field misspelt in one
of them is found by the other.
"""

from wxtcb.sandbox.faults import Fault, FaultKind, Faults, InvalidFault
from wxtcb.sandbox.push.schedule import Push, PushResult, PushSchedule, PushTargetNotSet
from wxtcb.sandbox.request import SeenRequest
from wxtcb.sandbox.server import Sandbox
from wxtcb.sandbox.services.cloudrun import CloudRunService
from wxtcb.sandbox.services.context import ReadyPolicy
from wxtcb.sandbox.services.environment import Environment
from wxtcb.sandbox.world import EnvironmentShare, World

__all__ = [
    "CloudRunService",
    "Environment",
    "EnvironmentShare",
    "Fault",
    "FaultKind",
    "Faults",
    "InvalidFault",
    "Push",
    "PushResult",
    "PushSchedule",
    "PushTargetNotSet",
    "ReadyPolicy",
    "Sandbox",
    "SeenRequest",
    "World",
]
