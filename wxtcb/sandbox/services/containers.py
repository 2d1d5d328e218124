"""Container services, the older family: hosting is enabled first, then services, versions and traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from attrs import define, field

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body

__all__ = ["ContainerService", "ContainerVersion", "Containers"]

_UPLOAD_TYPES: Final = ("package", "repository", "image")
_DEFAULTS: Final[Mapping[str, object]] = {
    "cpu": 0.5,
    "mem": 1,
    "minnum": 0,
    "maxnum": 50,
    "policy_type": "cpu",
    "policy_threshold": 60,
    "container_port": 80,
    "custom_logs": "stdout",
}


@define(eq=False)
class ContainerVersion:
    """A version of a service: its settings, its share of the traffic, and its build progress."""

    name: str
    number: int
    created_time: str
    updated_time: str
    flow_ratio: int
    fields: dict[str, object] = field(repr=False)
    readiness: Readiness = field(repr=False)
    build_fails: bool

    def poll(self, now: float) -> str:
        """Count a poll and return the status that it shows."""
        if not self.readiness.poll(now):
            return "creating"
        return "build_fail" if self.build_fails else "normal"


@define(eq=False)
class ContainerService:
    """A service with its versions by name, oldest first, and how many versions it ever had."""

    env: str
    name: str
    created_time: str
    vpc_id: str = ""
    versions: dict[str, ContainerVersion] = field(factory=dict[str, ContainerVersion])
    created_count: int = 0

    def version(self, name: str) -> ContainerVersion:
        """Return a version. Raise `PlatformError` if it does not exist."""
        if name not in self.versions:
            raise platform_error(40097, f"version_name {name} does not exist")
        return self.versions[name]


@define(eq=False)
class Containers:
    """The container services of the environments. Services of the newer family are `World.services`.

    If `builds_fail`, versions created from now on end as "build_fail".
    """

    _context: ServiceContext = field(repr=False)
    builds_fail: bool = False
    _enabled_envs: set[str] = field(init=False, repr=False, factory=set[str])
    _services: dict[tuple[str, str], ContainerService] = field(
        init=False, repr=False, factory=dict[tuple[str, str], ContainerService]
    )

    def enable(self, env: str) -> None:
        """Enable hosting.

        Raise `PlatformError` if it is enabled already: no page says that the call may be repeated.
        """
        self._context.require_normal(env)
        if env in self._enabled_envs:
            raise platform_error(40097, f"container service of {env} is open")
        self._enabled_envs.add(env)

    def create_service(self, env: str, name: str, vpc_id: str = "") -> None:
        """Add a service without versions. Hosting must be enabled, and the name must be unused."""
        self._context.require_normal(env)
        if env not in self._enabled_envs:
            raise platform_error(40097, f"container service of {env} is not open")
        if (env, name) in self._services:
            raise platform_error(40097, f"service_name {name} exists")
        self._services[env, name] = ContainerService(env, name, self._context.format_now(), vpc_id)

    def services_of(self, env: str) -> list[ContainerService]:
        """Return the services of an environment, oldest first."""
        return [each for each in self._services.values() if each.env == env]

    def service(self, env: str, name: str) -> ContainerService:
        """Return a service. Raise `PlatformError` if it does not exist or the environment is not NORMAL."""
        self._context.require_normal(env)
        if (env, name) not in self._services:
            raise platform_error(40097, f"service_name {name} does not exist")
        return self._services[env, name]

    def delete_service(self, env: str, name: str) -> None:
        """Delete a service with its versions."""
        self.service(env, name)
        del self._services[env, name]

    def create_version(self, env: str, body: Body) -> str:
        """Start building a version and return its name."""
        service = self.service(env, body.string("service_name"))
        _check_settings(body)
        if body.string("upload_type") not in _UPLOAD_TYPES:
            raise platform_error(40097, "upload_type must be package, repository or image")
        share = body.integer("flow_ratio", 0)
        if not 0 <= share <= 100 - sum(each.flow_ratio for each in service.versions.values()):
            raise platform_error(40097, f"flow_ratio {share} is not the rest to 100")
        service.created_count += 1
        name, stamp = f"{service.name}-{service.created_count:03d}", self._context.format_now()
        fields = {**_DEFAULTS, "remark": body.optional_string("version_remark") or "", **body.fields}
        service.versions[name] = ContainerVersion(
            name, service.created_count, stamp, stamp, share, fields, self._context.start_operation(), self.builds_fail
        )
        return name

    def poll_version(self, version: ContainerVersion) -> str:
        """Count a poll of a version and return the status that it shows."""
        return version.poll(self._context.clock())

    def configure_version(self, env: str, service_name: str, version_name: str, body: Body) -> None:
        """Change the settings of a version. Fields that *body* omits stay."""
        version = self.service(env, service_name).version(version_name)
        _check_settings(body)
        version.fields |= {name: body.fields[name] for name in _CONFIGURABLE_FIELDS if name in body.fields}
        version.updated_time = self._context.format_now()

    def delete_version(self, env: str, service_name: str, version_name: str) -> None:
        """Delete a version."""
        service = self.service(env, service_name)
        service.version(version_name)
        del service.versions[version_name]

    def split_traffic(self, env: str, service_name: str, flow_ratios: Mapping[str, int]) -> None:
        """Split the traffic. Versions that are not named get none."""
        service = self.service(env, service_name)
        for name, share in flow_ratios.items():
            service.version(name)
            if not 0 <= share <= 100:
                raise platform_error(40097, f"flow_ratio {share} of {name} must be between 0 and 100")
        if sum(flow_ratios.values()) not in (0, 100):
            raise platform_error(40097, f"flow_ratio: the sum {sum(flow_ratios.values())} must be 100 or 0")
        for version in service.versions.values():
            version.flow_ratio = flow_ratios.get(version.name, 0)


_CONFIGURABLE_FIELDS: Final = ("minnum", "maxnum", "remark", "container_port", "custom_logs", "env_params")


def _check_settings(body: Body) -> None:
    if body.integer("minnum", 0) < 0:
        raise platform_error(40097, "minnum must be 0 or more")
    if body.integer("maxnum", 0) > 50:
        raise platform_error(40097, "maxnum must be 50 or less")
    if not _is_json_object(body.optional_string("env_params") or "{}"):
        raise platform_error(40097, "env_params must be a JSON object in a string")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
