"""What code in the environments may do with cloudbase_access_token."""

from __future__ import annotations

from attrs import define, field, frozen

from wxtcb.sandbox.context import ServiceContext
from wxtcb.sandbox.errors import platform_error

__all__ = ["AccessTokenPolicies", "AccessTokenPolicy"]


@frozen
class AccessTokenPolicy:
    """The paths that an environment may call, and how often that was set."""

    api_whitelist: tuple[str, ...] = ("/*",)
    version: int = 1


@define(eq=False)
class AccessTokenPolicies:
    """The one switch for all environments, and the setting of each; who sets must know the newest version."""

    _context: ServiceContext = field(repr=False)
    is_open: bool = field(init=False, default=True)
    policies: dict[str, AccessTokenPolicy] = field(init=False, factory=dict[str, AccessTokenPolicy])
    shared_envs: set[str] = field(init=False, factory=set[str])

    def get(self, env: str) -> AccessTokenPolicy:
        """Return the setting of an environment; all is allowed where none was made."""
        self._context.require_normal(env)
        return self.policies.get(env, AccessTokenPolicy())

    def set(self, env: str, *, is_open: bool, api_whitelist: list[str], version: int) -> None:
        """Set the switch and the paths, or refuse a version that is not the newest."""
        newest = self.get(env).version
        if version != newest:
            raise platform_error(40097, f"version is {newest}")
        self.is_open = is_open
        self.policies[env] = AccessTokenPolicy(tuple(api_whitelist), newest + 1)

    def enable_for_mini_programs(self, env: str) -> None:
        """Make an environment one that mini programs can use; made so once more it stays so."""
        self._context.require_normal(env)
        self.shared_envs.add(env)
