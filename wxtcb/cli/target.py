"""Where tenants are provisioned: at the platform that the environment names, or at a simulated one."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs

from wxtcb.cli.config import Settings, read_settings
from wxtcb.sandbox import ReadyPolicy, Sandbox, World
from wxtcb.session import Session
from wxtcb.tokens import MemoryStore

_SANDBOX_READY_AFTER: Final = 1.5
_SANDBOX_INTERVAL: Final = 0.25
_SANDBOX_SETTLE: Final = 2.0


def _create_sandbox() -> Sandbox:
    return Sandbox(world=World(ready_after=ReadyPolicy.after_seconds(_SANDBOX_READY_AFTER)))


@attrs.frozen
class SandboxTarget:
    """The simulated platform, in this process; its world outlives its sessions, and nothing is billed."""

    sandbox: Sandbox = attrs.field(factory=_create_sandbox)
    billed_url: str | None = None
    interval: float = _SANDBOX_INTERVAL
    settle: float = _SANDBOX_SETTLE

    @property
    def component_appid(self) -> str:
        return self.sandbox.component_appid

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open the sandbox, and a session on it."""
        box = self.sandbox
        async with (
            box,
            Session(
                component_appid=box.component_appid,
                component_appsecret=box.component_appsecret,
                ticket=box.ticket,
                base_url=box.url,
            ) as session,
        ):
            yield session


@attrs.frozen
class RealTarget:
    """The platform that the environment variables name; its sessions share a token."""

    settings: Settings
    interval: float = 5.0
    settle: float = 120.0
    _token_store: MemoryStore = attrs.field(factory=lambda: MemoryStore(time.monotonic))

    @property
    def component_appid(self) -> str:
        return self.settings.component_appid

    @property
    def billed_url(self) -> str | None:
        return self.settings.base_url

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Open a session."""
        return self.settings.session(token_store=self._token_store)


Target = SandboxTarget | RealTarget


def select_target(command: str, *, sandbox: bool, own_token: bool) -> Target:
    """Return the simulated platform, or the one of the environment, if *command* may fetch a token there."""
    if sandbox:
        return SandboxTarget()
    settings = read_settings(os.environ)
    settings.require_fetch_permission(command, own_token=own_token)
    return RealTarget(settings)
