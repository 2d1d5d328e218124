"""Target of plan, provision and audit: the platform of the environment variables, or a sandbox."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs

from wxtcb.cli.config import require_fetch_permission
from wxtcb.sandbox import ReadyPolicy, Sandbox, World
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens import MemoryStore
from wxtcb.tokens.env_vars import PlatformSettings, read_platform

# Short, so that a first try takes seconds, but long enough to see a tenant wait for NORMAL.
_SANDBOX_READY_AFTER: Final = 1.5


@attrs.frozen
class SandboxTarget:
    """Simulated platform in this process; its world, such as environments, outlives a session."""

    sandbox: Sandbox = attrs.field(
        factory=lambda: Sandbox(world=World(ready_after=ReadyPolicy.after_seconds(_SANDBOX_READY_AFTER)))
    )
    billed_url: str | None = None
    interval: float = 0.25
    settle: float = 2.0

    @property
    def component_appid(self) -> str:
        return self.sandbox.component_appid

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Start the sandbox, and open a session on it."""
        async with self.sandbox as sandbox:
            settings = PlatformSettings(
                sandbox.component_appid, Secret(sandbox.component_appsecret), Secret(sandbox.ticket), sandbox.url
            )
            async with Session.from_settings(settings) as session:
                yield session


@attrs.frozen
class RealTarget:
    """Platform of the environment variables."""

    settings: PlatformSettings
    interval: float = 5.0
    settle: float = 120.0
    # The plan and the run open a session each. Without a shared token, the second fetch would invalidate the first.
    _token_store: MemoryStore = attrs.field(factory=lambda: MemoryStore(time.monotonic))

    @property
    def component_appid(self) -> str:
        return self.settings.component_appid

    @property
    def billed_url(self) -> str | None:
        return self.settings.base_url

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Open a session."""
        if self.settings.store is None:
            return Session.from_settings(self.settings, token_store=self._token_store)
        return Session.from_settings(self.settings)


Target = SandboxTarget | RealTarget


def select_target(command: str, *, sandbox: bool, own_token: bool) -> Target:
    """Return a new sandbox, or the platform of the environment variables.

    Raises `InvalidArgument` if a variable is missing or invalid, or if *command* must not fetch a token there.
    """
    if sandbox:
        return SandboxTarget()
    settings = read_platform()
    require_fetch_permission(settings, command, own_token=own_token)
    return RealTarget(settings)
