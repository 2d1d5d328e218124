"""Access rules for code that calls the platform with cloudbase_access_token."""

from __future__ import annotations

from attrs import define, field, frozen

from wxtcb.sandbox.context import ServiceContext
from wxtcb.sandbox.errors import platform_error


@frozen
class AccessTokenPolicy:
    """Paths that an environment may call, and the version of this setting."""

    api_whitelist: tuple[str, ...] = ("/*",)
    version: int = 1


@define(eq=False)
class AccessTokenPolicies:
    """The switch for all environments, and the policy of each environment."""

    _context: ServiceContext = field(repr=False)
    is_open: bool = field(init=False, default=True)
    policies: dict[str, AccessTokenPolicy] = field(init=False, factory=dict[str, AccessTokenPolicy])
    shared_envs: set[str] = field(init=False, factory=set[str])

    def get(self, env: str) -> AccessTokenPolicy:
        """Return the policy of an environment. Without one, all paths are allowed."""
        self._context.require_normal(env)
        return self.policies.get(env, AccessTokenPolicy())

    def set(self, env: str, *, is_open: bool, api_whitelist: list[str], version: int) -> None:
        """Set the switch and the allowed paths.

        Raise `PlatformError` 40097 unless *version* is the newest one, so that concurrent writers do not
        overwrite each other.
        """
        newest = self.get(env).version
        if version != newest:
            raise platform_error(40097, f"version is {newest}")
        self.is_open = is_open
        self.policies[env] = AccessTokenPolicy(tuple(api_whitelist), newest + 1)

    def enable_for_mini_programs(self, env: str) -> None:
        """Let mini programs use an environment. Repeating it changes nothing."""
        self._context.require_normal(env)
        self.shared_envs.add(env)
