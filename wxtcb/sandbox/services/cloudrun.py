"""Cloud hosting (云托管): environments, services, versions, and the traffic split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

import orjson
from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.environments import HALTED, NORMAL, UNAVAILABLE, ReadyPolicy
from wxtcb.sandbox.errors import platform_error

__all__ = ["CloudRun", "CloudRunEnvironment", "CloudRunEnvironments", "CloudRunVersion", "Service"]

_REGION: Final = "ap-shanghai"


@define(eq=False)
class CloudRunEnvironment:
    """A cloud-hosting environment. `database_readiness` is None if it has no database."""

    env_id: str
    alias: str
    create_time: str
    update_time: str
    readiness: Readiness = field(repr=False)
    database_readiness: Readiness | None = field(repr=False)
    vpc_id: str | None = None
    subnet_ids: Sequence[str] = ()
    halted: bool = False

    def status(self, now: float) -> str:
        """Return the status at *now* without counting a poll."""
        if self.halted:
            return HALTED
        return NORMAL if self.readiness.is_ready(now) else UNAVAILABLE

    def poll(self, now: float) -> dict[str, object]:
        """Count a poll and return the row that this poll shows."""
        self.readiness.poll(now)
        running = self.database_readiness is not None and self.database_readiness.poll(now)
        return _environment_row(self, self.status(now), "RUNNING" if running else "INITIALIZING")


@define(eq=False)
class CloudRunEnvironments:
    """The cloud-hosting environments. Their databases become ready like operations.

    A poll is one `describecloudbaserunenvs` call.
    """

    _context: ServiceContext = field(repr=False)
    _ready_policy: Callable[[], ReadyPolicy] = field(repr=False)
    _environments: dict[str, CloudRunEnvironment] = field(init=False, factory=dict[str, CloudRunEnvironment])
    _order_count: int = field(init=False, default=0)

    def create(self, alias: str | None, vpc_id: str | None, subnet_ids: Sequence[str]) -> tuple[str, str]:
        """Create an environment and return its order number and id. Several may have the same alias."""
        stamp, delivery = self._context.format_now(), Readiness(self._context.clock(), self._ready_policy())
        row = CloudRunEnvironment(
            self._new_id(alias or "env"), alias or "", stamp, stamp, delivery, self._context.start_operation()
        )
        row.vpc_id, row.subnet_ids = vpc_id, tuple(subnet_ids)
        self._environments[row.env_id] = row
        self._order_count += 1
        return f"{stamp[:10].replace('-', '')}{self._order_count:06d}", row.env_id

    def add(self, alias: str, *, with_database: bool = True) -> str:
        """Add an environment that is NORMAL already, with a RUNNING database if *with_database*."""
        stamp, done = (
            self._context.format_now(),
            Readiness(self._context.clock(), ReadyPolicy.immediately(), poll_count=1),
        )
        row = CloudRunEnvironment(self._new_id(alias), alias, stamp, stamp, done, done if with_database else None)
        self._environments[row.env_id] = row
        return row.env_id

    def halt(self, env_id: str) -> None:
        """Halt an environment permanently, as the platform does when it is over quota.

        Raise `KeyError` if the id is unknown.
        """
        row = self._environments[env_id]
        row.halted, row.update_time = True, self._context.format_now()

    def remove(self, env_id: str) -> None:
        """Remove an environment, as if its owner deleted it elsewhere.

        Raise `KeyError` if the id is unknown.
        """
        del self._environments[env_id]

    def get(self, env_id: str) -> CloudRunEnvironment | None:
        """Return the environment, or None if the id is unknown."""
        return self._environments.get(env_id)

    def status_of(self, env_id: str) -> str | None:
        """Return the status without counting a poll, or None if the id is unknown."""
        row = self._environments.get(env_id)
        return None if row is None else row.status(self._context.clock())

    def poll(self) -> list[dict[str, object]]:
        """Count a poll and return the rows that it shows, oldest first."""
        now = self._context.clock()
        return [row.poll(now) for row in self._environments.values()]

    def _new_id(self, alias: str) -> str:
        return f"{alias}-{self._context.random.getrandbits(64):016x}"


def _environment_row(env: CloudRunEnvironment, status: str, database_status: str) -> dict[str, object]:
    bucket = f"7778-{env.env_id}-1308820263"
    tnt = {"instance_id": f"tnt-{env.env_id[-9:]}", "status": database_status, "region": _REGION}
    return {
        "env_id": env.env_id,
        "source": "miniapp",
        "alias": env.alias,
        "create_time": env.create_time,
        "update_time": env.update_time,
        "status": status,
        "databases": [tnt] if env.database_readiness else [],
        "storages": [
            {"region": _REGION, "bucket": bucket, "cdn_domain": f"{bucket}.tcb.qcloud.la", "app_id": "1308820263"}
        ],
        "functions": [{"namespace": "", "region": ""}],
        "package_id": "",
        "package_name": "",
        "log_services": [],
        "static_storages": None,
        "is_auto_degrade": False,
        "env_channel": "wxrun",
        "pay_mode": "postpaid",
        "is_default": False,
        "region": _REGION,
        "tags": [],
        "custom_log_services": None,
    }


_LATEST_VERSION: Final = "latest"
_MAX_REPLICAS: Final = 50
_FILE_UPLOAD_TYPES: Final = frozenset({"jar", "war"})
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_NUMERIC_FIELDS: Final = {
    "cpu": _DECIMAL,
    "mem": _DECIMAL,
    "min_num": _INTEGER,
    "max_num": _INTEGER,
    "policy_threshold": _INTEGER,
}
_UNSTORED_FIELDS: Final = frozenset(
    {"env_id", "server_name", "version_name", "is_rebuild", "rollback", "snapshot_name"}
)


@frozen
class Service:
    """A cloud-run service. `body` is the request that established it."""

    env: str
    name: str
    body: Mapping[str, object] = field(repr=False)
    created_time: str = ""


@frozen
class CloudRunVersion:
    """A version of a service.

    `body` is the request that created it, merged with all later updates. `flow_ratio` is its share of the traffic
    in percent.
    """

    name: str
    flow_ratio: int
    body: Mapping[str, object] = field(repr=False)
    created_time: str
    updated_time: str
    readiness: Readiness = field(repr=False, eq=False)


@define
class _ServiceVersions:
    """Versions of one service, oldest first. `created_count` includes deleted ones."""

    versions: dict[str, CloudRunVersion] = Factory(dict[str, CloudRunVersion])
    created_count: int = 0
    released: str | None = None


@define(eq=False)
class CloudRun:
    """The cloud-hosting environments, and the services and versions of all environments.

    If `release_fails`, a release replies `failed` under errcode 0 and moves no traffic.
    """

    _context: ServiceContext = field(repr=False)
    _environment_ready_policy: Callable[[], ReadyPolicy] = field(repr=False)
    release_fails: bool = False
    services: dict[tuple[str, str], Service] = field(init=False, repr=False, factory=dict[tuple[str, str], Service])
    environments: CloudRunEnvironments = field(init=False, repr=False)
    microservice_envs: set[str] = field(init=False, repr=False, factory=set[str])
    _service_versions: dict[tuple[str, str], _ServiceVersions] = field(
        init=False, repr=False, factory=dict[tuple[str, str], _ServiceVersions]
    )
    _run_count: int = field(init=False, default=0)
    _release_count: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.environments = CloudRunEnvironments(self._context, self._environment_ready_policy)

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> Service:
        """Create a service in a NORMAL environment.

        Raise `PlatformError` 40097 if the environment has a service of this name.
        """
        self._context.require_normal(env)
        if (env, name) in self.services:
            raise platform_error(40097, f"service_name {name} exists")
        self._service_versions[env, name] = _ServiceVersions()
        service = self.services[env, name] = Service(env, name, body, self._context.format_now())
        return service

    def enable_microservices(self, env: str) -> None:
        """Enable microservices in an environment. Repeating it changes nothing."""
        self._context.require_normal(env)
        self.microservice_envs.add(env)

    def versions(self, env: str, service: str) -> Mapping[str, CloudRunVersion]:
        """Return the versions of a service by name, oldest first. Empty if there is no such service."""
        return MappingProxyType(self._service_versions.get((env, service), _ServiceVersions()).versions)

    def released_version(self, env: str, service: str) -> str | None:
        """Return the name of the version released last, or None if it was deleted."""
        return self._service_versions.get((env, service), _ServiceVersions()).released

    def create_version(self, env: str, service: str, body: Mapping[str, object]) -> tuple[CloudRunVersion, bool]:
        """Start building a version. Return it, and whether it is built already."""
        service_versions = self._require_service(env, service)
        _check_version(body)
        stamp, building = self._context.format_now(), self._context.start_operation()
        service_versions.created_count += 1
        name = f"{service}-{service_versions.created_count:03d}"
        service_versions.versions[name] = CloudRunVersion(name, 0, body, stamp, stamp, building)
        self._set_traffic(service_versions, name, cast("int", body["flow_ratio"]))
        return service_versions.versions[name], building.poll(self._context.clock())

    def update_version(self, env: str, service: str | None, name: str, body: Mapping[str, object]) -> CloudRunVersion:
        """Roll a built version over to *body*. Fields that *body* omits stay."""
        self._context.require_normal(env)
        service_versions = (
            self._find_service_by_version(env, name) if service is None else self._require_service(env, service)
        )
        version = self._require_built(
            service_versions, _latest_version_name(service_versions) if name == _LATEST_VERSION else name
        )
        changes = {key: value for key, value in _parse_numeric_fields(body).items() if key not in _UNSTORED_FIELDS}
        merged = {**version.body, **changes}
        _check_version(merged)
        service_versions.versions[version.name] = evolve(version, body=merged, updated_time=self._context.format_now())
        if "flow_ratio" in changes:
            self._set_traffic(service_versions, version.name, cast("int", changes["flow_ratio"]))
        return service_versions.versions[version.name]

    def release_version(self, env: str, service: str, name: str) -> tuple[bool, int]:
        """Route all traffic to a built version. Return whether it succeeded, and the order number."""
        service_versions = self._require_service(env, service)
        version = self._require_built(service_versions, name)
        self._release_count += 1
        if not self.release_fails:
            self._set_traffic(service_versions, version.name, 100)
            service_versions.released = version.name
        return not self.release_fails, self._release_count

    def delete_version(self, env: str, service: str, name: str, *, with_service: bool) -> None:
        """Delete a version. If it was the last one and *with_service*, delete the service too."""
        service_versions = self._require_service(env, service)
        del service_versions.versions[_require_version(service_versions, name).name]
        if service_versions.released == name:
            service_versions.released = None
        if with_service and not service_versions.versions:
            del self.services[env, service], self._service_versions[env, service]

    def new_run_id(self) -> str:
        """Return a new id for the record of an operation."""
        self._run_count += 1
        return f"run{self._context.random.getrandbits(40):010x}{self._run_count:04d}"

    def _require_service(self, env: str, service: str) -> _ServiceVersions:
        self._context.require_normal(env)
        if (env, service) not in self.services:
            raise platform_error(40097, f"server_name {service} does not exist")
        return self._service_versions.setdefault((env, service), _ServiceVersions())

    def _find_service_by_version(self, env: str, version_name: str) -> _ServiceVersions:
        """Return the service that has the version, for requests that do not name the service."""
        found = [
            service_versions
            for (service_env, _), service_versions in self._service_versions.items()
            if service_env == env and version_name in service_versions.versions
        ]
        if len(found) != 1:
            raise platform_error(
                40097, f"server_name is missing, and version_name {version_name} does not determine it"
            )
        return found[0]

    def _require_built(self, service_versions: _ServiceVersions, name: str) -> CloudRunVersion:
        version = _require_version(service_versions, name)
        if not version.readiness.poll(self._context.clock()):
            raise platform_error(40097, f"version_name {version.name} is still creating")
        return version

    def _set_traffic(self, service_versions: _ServiceVersions, name: str, ratio: int) -> None:
        """Set the traffic share of a version. If the sum exceeds 100, reduce the others, the newest first."""
        service_versions.versions[name] = evolve(service_versions.versions[name], flow_ratio=ratio)
        excess = sum(each.flow_ratio for each in service_versions.versions.values()) - 100
        for other in [each for each in reversed(service_versions.versions.values()) if each.name != name]:
            taken = min(max(excess, 0), other.flow_ratio)
            service_versions.versions[other.name] = evolve(other, flow_ratio=other.flow_ratio - taken)
            excess -= taken


def _latest_version_name(service_versions: _ServiceVersions) -> str:
    return next(reversed(service_versions.versions), _LATEST_VERSION)


def _require_version(service_versions: _ServiceVersions, name: str) -> CloudRunVersion:
    if name not in service_versions.versions:
        raise platform_error(40097, f"version_name {name} does not exist")
    return service_versions.versions[name]


def _parse_numeric_fields(body: Mapping[str, object]) -> dict[str, object]:
    """Return *body* with its numeric fields, which arrive as strings, as numbers."""
    return {
        name: _parse_number(name, cast("str", value)) if name in _NUMERIC_FIELDS else value
        for name, value in body.items()
    }


def _parse_number(name: str, value: str) -> float:
    if not _NUMERIC_FIELDS[name].fullmatch(value):
        raise platform_error(40097, f"{name} must be a number in a string")
    return float(value) if "." in value else int(value)


def _check_version(body: Mapping[str, object]) -> None:
    """Raise `PlatformError` if *body* breaks a documented rule of versions."""
    flow, least, most = (cast("int", body[name]) for name in ("flow_ratio", "min_num", "max_num"))
    if not 0 <= flow <= 100:
        raise platform_error(40097, "flow_ratio must be 0 to 100")
    if not 0 <= least <= most <= _MAX_REPLICAS:
        raise platform_error(40097, f"min_num must be 0 or more, max_num at most {_MAX_REPLICAS} and not below it")
    if body["upload_type"] in _FILE_UPLOAD_TYPES and not body.get("upload_filename"):
        raise platform_error(40097, "upload_filename is required for jar and war")
    _check_env_variables("env_params", body.get("env_params"))
    for number, sidecar in enumerate(cast("list[dict[str, object]]", body.get("sidecar_specs", []))):
        _check_env_variables(f"sidecar_specs[{number}].env_var", sidecar.get("env_var"))


def _check_env_variables(path: str, text: object) -> None:
    if text is None:
        return
    try:
        read = orjson.loads(cast("str", text))
    except orjson.JSONDecodeError:
        read = None
    if type(read) is not dict:
        raise platform_error(40097, f"{path} must be a JSON object in a string")
