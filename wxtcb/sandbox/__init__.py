"""The platform simulated on loopback: `async with Sandbox() as box:` needs no WeChat account and no network.

It knows what a request may hold from `facts/*.json`, never from the library's own models, so that a field misspelt in
one is caught by the other.
"""

from wxtcb.sandbox.environments import Environment, Ready
from wxtcb.sandbox.fault import BadFault, Fault, Trouble
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.push.schedule import NoReceiver, Push, Pushes, Receipt
from wxtcb.sandbox.request import SeenRequest
from wxtcb.sandbox.server import Sandbox
from wxtcb.sandbox.world import Service, Share, World

__all__ = [
    "BadFault",
    "Environment",
    "Fault",
    "Faults",
    "NoReceiver",
    "Push",
    "Pushes",
    "Ready",
    "Receipt",
    "Sandbox",
    "SeenRequest",
    "Service",
    "Share",
    "Trouble",
    "World",
]
