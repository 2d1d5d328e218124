"""Where tenants are provisioned: at the platform that the environment names, or at a simulated one."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs

from wxtcb.cli.config import Settings, read_settings
from wxtcb.sandbox import Ready, Sandbox, World
from wxtcb.session import Session
from wxtcb.tokens import MemoryStore

_SANDBOX_READY: Final = 1.5
_SANDBOX_INTERVAL: Final = 0.25
_SANDBOX_SETTLE: Final = 2.0


def _make_box() -> Sandbox:
    return Sandbox(world=World(ready_after=Ready.after_seconds(_SANDBOX_READY)))


@attrs.frozen
class SandboxPlatform:
    """The simulated platform, in this process; its world outlives its sessions, and nothing is billed."""

    box: Sandbox = attrs.field(factory=_make_box)
    billed_at: str | None = None
    interval: float = _SANDBOX_INTERVAL
    settle: float = _SANDBOX_SETTLE

    @property
    def component_appid(self) -> str:
        return self.box.component_appid

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open the sandbox, and a session on it."""
        box = self.box
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
class OwnPlatform:
    """The platform that the environment variables name; its sessions share a token."""

    settings: Settings
    interval: float = 5.0
    settle: float = 120.0
    _store: MemoryStore = attrs.field(factory=lambda: MemoryStore(time.monotonic))

    @property
    def component_appid(self) -> str:
        return self.settings.component_appid

    @property
    def billed_at(self) -> str | None:
        return self.settings.base_url

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Open a session."""
        return self.settings.session(token_store=self._store)


Platform = SandboxPlatform | OwnPlatform


def choose_platform(command: str, *, sandbox: bool, own_token: bool) -> Platform:
    """Return the simulated platform, or the one of the environment, if *command* may fetch a token there."""
    if sandbox:
        return SandboxPlatform()
    settings = read_settings(os.environ)
    settings.demand_own_token(command, given=own_token)
    return OwnPlatform(settings)
