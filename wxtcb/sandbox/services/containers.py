"""The container services, the older family: hosting that is opened first, services, versions, and their traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from attrs import define, field

from wxtcb.sandbox.context import Ground, Ripening
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import Body

__all__ = ["ContainerService", "ContainerVersion", "Containers"]

_UPLOADS: Final = ("package", "repository", "image")
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
    """A version of a service: what it was made of or changed to, its share of the traffic, and how far it is."""

    name: str
    number: int
    created_time: str
    updated_time: str
    flow_ratio: int
    fields: dict[str, object] = field(repr=False)
    building: Ripening = field(repr=False)
    fails: bool

    def look(self, now: float) -> str:
        """Count a look, and return the status that it shows."""
        if not self.building.look(now):
            return "creating"
        return "build_fail" if self.fails else "normal"


@define(eq=False)
class ContainerService:
    """A service, its versions by name, oldest first, and how many it ever had."""

    env: str
    name: str
    created_time: str
    vpc_id: str = ""
    versions: dict[str, ContainerVersion] = field(factory=dict[str, ContainerVersion])
    made: int = 0

    def version(self, name: str) -> ContainerVersion:
        """Return a version; one that is not there is refused."""
        if name not in self.versions:
            raise refuse(40097, f"version_name {name} does not exist")
        return self.versions[name]


@define(eq=False)
class Containers:
    """The container services of the environments; those of the newer family are the world's `services`.

    `builds_fail` True: versions that are created meanwhile end as "build_fail".
    """

    _ground: Ground = field(repr=False)
    builds_fail: bool = False
    _open: set[str] = field(init=False, repr=False, factory=set[str])
    _services: dict[tuple[str, str], ContainerService] = field(
        init=False, repr=False, factory=dict[tuple[str, str], ContainerService]
    )

    def open(self, env: str) -> None:
        """Switch hosting on; where it is on already that is refused, for nobody says that it may be repeated."""
        self._ground.need_normal(env)
        if env in self._open:
            raise refuse(40097, f"container service of {env} is open")
        self._open.add(env)

    def create(self, env: str, name: str, vpc_id: str = "") -> None:
        """Add a service without a version, where hosting is on and the name is free."""
        self._ground.need_normal(env)
        if env not in self._open:
            raise refuse(40097, f"container service of {env} is not open")
        if (env, name) in self._services:
            raise refuse(40097, f"service_name {name} exists")
        self._services[env, name] = ContainerService(env, name, self._ground.stamp(), vpc_id)

    def services_of(self, env: str) -> list[ContainerService]:
        """Return the services of an environment, oldest first."""
        return [each for each in self._services.values() if each.env == env]

    def service(self, env: str, name: str) -> ContainerService:
        """Return a service; one that is not there, or in no NORMAL environment, is refused."""
        self._ground.need_normal(env)
        if (env, name) not in self._services:
            raise refuse(40097, f"service_name {name} does not exist")
        return self._services[env, name]

    def delete(self, env: str, name: str) -> None:
        """Take a service away, with its versions."""
        self.service(env, name)
        del self._services[env, name]

    def create_version(self, env: str, asked: Body) -> str:
        """Begin to build a version of what was asked for, and return the name that it gets."""
        service = self.service(env, asked.text("service_name"))
        _check_settings(asked)
        if asked.text("upload_type") not in _UPLOADS:
            raise refuse(40097, "upload_type must be package, repository or image")
        share = asked.number("flow_ratio", 0)
        if not 0 <= share <= 100 - sum(each.flow_ratio for each in service.versions.values()):
            raise refuse(40097, f"flow_ratio {share} is not what is left of 100")
        service.made += 1
        name, stamp = f"{service.name}-{service.made:03d}", self._ground.stamp()
        fields = {**_DEFAULTS, "remark": asked.maybe_text("version_remark") or "", **asked.fields}
        service.versions[name] = ContainerVersion(
            name, service.made, stamp, stamp, share, fields, self._ground.begin(), self.builds_fail
        )
        return name

    def look(self, version: ContainerVersion) -> str:
        """Count a look at a version, and return the status that it shows."""
        return version.look(self._ground.clock())

    def configure(self, env: str, service_name: str, version_name: str, asked: Body) -> None:
        """Change what is given of a version; what is not stays as it is."""
        version = self.service(env, service_name).version(version_name)
        _check_settings(asked)
        version.fields |= {name: asked.fields[name] for name in _CONFIG if name in asked.fields}
        version.updated_time = self._ground.stamp()

    def delete_version(self, env: str, service_name: str, version_name: str) -> None:
        """Take a version away."""
        service = self.service(env, service_name)
        service.version(version_name)
        del service.versions[version_name]

    def split(self, env: str, service_name: str, shares: Mapping[str, int]) -> None:
        """Split the traffic: versions that are not named get none."""
        service = self.service(env, service_name)
        for name, share in shares.items():
            service.version(name)
            if not 0 <= share <= 100:
                raise refuse(40097, f"flow_ratio {share} of {name} is not within 0 and 100")
        if sum(shares.values()) not in (0, 100):
            raise refuse(40097, f"flow_ratio: {sum(shares.values())} in all is neither 100 nor 0")
        for version in service.versions.values():
            version.flow_ratio = shares.get(version.name, 0)


_CONFIG: Final = ("minnum", "maxnum", "remark", "container_port", "custom_logs", "env_params")


def _check_settings(asked: Body) -> None:
    if asked.number("minnum", 0) < 0:
        raise refuse(40097, "minnum must be 0 or more")
    if asked.number("maxnum", 0) > 50:
        raise refuse(40097, "maxnum must be 50 or less")
    if not _holds_variables(asked.maybe_text("env_params") or "{}"):
        raise refuse(40097, "env_params must be the text of a JSON object")


def _holds_variables(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
