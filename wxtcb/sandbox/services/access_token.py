"""Access rules for code that calls the platform with cloudbase_access_token."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import ServiceContext


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

    def get_or_set(self, body: Body) -> Mapping[str, object] | None:
        env = body.string("env")
        self._context.require_normal(env)
        policy = self.policies.get(env, AccessTokenPolicy())
        if body.string("action") == "get":
            return {"open": self.is_open, "api_whitelist": policy.api_whitelist, "version": policy.version}
        # Only the newest version is accepted, so that concurrent writers do not overwrite each other.
        if body.integer("version", 0) != policy.version:
            raise platform_error(40097, f"version is {policy.version}")
        self.is_open = body.boolean("open")
        self.policies[env] = AccessTokenPolicy(tuple(body.strings("api_whitelist")), policy.version + 1)
        return None

    def enable_for_mini_programs(self, env: str) -> None:
        self._context.require_normal(env)
        self.shared_envs.add(env)
