"""Paths, mini programs, services and tenants of the provisioning tests."""

from __future__ import annotations

import asyncio

from wxtcb.provision import Service, Tenant
from wxtcb.sandbox import Sandbox

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
SHARE = "/componenttcb/batchshareenv"
ESTABLISH = "/componenttcb/establishcloudbaserunserver"
SERVICE_LIST = "/componenttcb/getcslist"
TOKEN = "/cgi-bin/component/api_component_token"
WX1 = "wx0000000000000001"
WX2 = "wx0000000000000002"
API = Service.from_name("api")
WEB = Service.from_name("web")
STEPS = ("environment", "ready", "share", "services")
ENVIRONMENT, READY, SHARED, SERVICES = STEPS


def plain_tenants(count: int) -> list[Tenant]:
    """Return tenants that request only an environment."""
    return [Tenant(f"商户{number}", alias=f"a{number}") for number in range(count)]


async def wait_for_requests(sandbox: Sandbox, path: str, count: int = 1) -> None:
    """Wait until the sandbox has received *count* requests to *path*."""
    for _ in range(100_000):
        if sandbox.count(path) >= count:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{path}: {sandbox.count(path)} of {count} requests")
