"""A sandbox, a session on it that looks as often as it likes, and a provisioner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from attrs import define

import wxtcb
from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.provision import Provisioner, Report, RunEvent, Tenant
from wxtcb.sandbox import Sandbox


@define
class Rig:
    """What a test needs to provision something."""

    box: Sandbox
    session: wxtcb.Session

    def provisioner(self, **options: object) -> Provisioner:
        """Return a provisioner that looks often and waits short."""
        given = {"interval": 0.01, "timeout": 2.0, "grace": 0.2, **options}
        return Provisioner(self.session, **given)

    async def provision(self, tenants: Iterable[Tenant], **options: object) -> Report:
        """Provision *tenants* to the end."""
        async with self.provisioner(**options) as provisioner:
            return await provisioner.apply(tenants).wait()

    async def told(self, tenants: Iterable[Tenant], **options: object) -> list[RunEvent]:
        """Provision *tenants* and return what was told."""
        async with self.provisioner(**options) as provisioner:
            return [event async for event in provisioner.apply(tenants).events()]


@pytest.fixture
def box() -> Sandbox:
    """Make a sandbox that is not open yet."""
    return Sandbox()


@pytest_asyncio.fixture
async def rig(box: Sandbox) -> AsyncIterator[Rig]:
    """Open the sandbox, and a session that retries fast and shares looks of no age."""
    async with box, connect(box) as session:
        session.sweep(DESCRIBE_ENVS).every = 0.0
        yield Rig(box, session)


def connect(box: Sandbox, **options: object) -> wxtcb.Session:
    """Return a session with the credentials of *box*."""
    given = {
        "component_appid": box.component_appid,
        "component_appsecret": box.component_appsecret,
        "ticket": box.ticket,
        "base_url": box.url,
        "retry": wxtcb.RetryPolicy(attempts=3, base=0.001),
        "max_fetches_per_hour": None,
    }
    return wxtcb.Session(**{**given, **options})
