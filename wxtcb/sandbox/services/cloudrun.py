"""Cloud hosting (云托管): environments, services, versions, and the traffic split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, check_json_object
from wxtcb.sandbox.services.context import HALTED, NORMAL, UNAVAILABLE, Readiness, ReadyPolicy, ServiceContext

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler, World

_REGION: Final = "ap-shanghai"
# Unlike the alias of createenv, this one allows no capital letters.
_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]*")
_MAX_REPLICAS: Final = 50
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_INTEGER_FIELDS: Final = ("min_num", "max_num", "policy_threshold")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_NUMERIC_FIELDS: Final = {"cpu": _DECIMAL, "mem": _DECIMAL, **dict.fromkeys(_INTEGER_FIELDS, _INTEGER)}
_UNSTORED_FIELDS: Final = {"env_id", "server_name", "version_name", "is_rebuild", "rollback", "snapshot_name"}
_Key = tuple[str, str]


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
        if self.halted:
            return HALTED
        return NORMAL if self.readiness.is_ready(now) else UNAVAILABLE

    def poll(self, now: float) -> dict[str, object]:
        self.readiness.poll(now)
        running = self.database_readiness is not None and self.database_readiness.poll(now)
        bucket, tnt = f"7778-{self.env_id}-1308820263", f"tnt-{self.env_id[-9:]}"
        database = {"instance_id": tnt, "status": "RUNNING" if running else "INITIALIZING", "region": _REGION}
        storage = {"region": _REGION, "bucket": bucket, "cdn_domain": f"{bucket}.tcb.qcloud.la", "app_id": "1308820263"}
        row: dict[str, object] = {"env_id": self.env_id, "source": "miniapp", "alias": self.alias}
        row |= {"create_time": self.create_time, "update_time": self.update_time, "status": self.status(now)}
        row |= {"databases": [database] if self.database_readiness else [], "storages": [storage]}
        row |= {"functions": [{"namespace": "", "region": ""}], "package_id": "", "package_name": ""}
        row |= {"log_services": [], "static_storages": None, "is_auto_degrade": False, "env_channel": "wxrun"}
        row |= {"pay_mode": "postpaid", "is_default": False, "region": _REGION, "tags": [], "custom_log_services": None}
        return row


@define(eq=False)
class CloudRunEnvironments:
    """The cloud-hosting environments. Their databases become ready like operations. Each `poll` call is one poll."""

    _context: ServiceContext = field(repr=False)
    _ready_policy: Callable[[], ReadyPolicy] = field(repr=False)
    _environments: dict[str, CloudRunEnvironment] = field(init=False, factory=dict[str, CloudRunEnvironment])
    _order_count: int = field(init=False, default=0)

    def create(self, body: Body) -> Mapping[str, object]:
        """Create an environment; a second one with the same alias is created, and billed, too."""
        alias, vpc_id = body.optional_string("alias"), body.optional_string("vpc_id")
        subnet_ids = body.strings("sub_net_ids")
        if alias is not None and _ALIAS.fullmatch(alias) is None:
            raise platform_error(40097, "alias must start with a-z and contain only a-z0-9-")
        if bool(vpc_id) is not bool(subnet_ids):
            raise platform_error(40097, "vpc_id and sub_net_ids must be given together")
        readiness = Readiness(self._context.clock(), self._ready_policy())
        row = self._add(alias or "env", alias or "", readiness, self._context.start_operation())
        row.vpc_id, row.subnet_ids = vpc_id, tuple(subnet_ids)
        self._order_count += 1
        tran_id = f"{row.create_time[:10].replace('-', '')}{self._order_count:06d}"
        return {"env_id": row.env_id, "tran_id": tran_id}

    def add(self, alias: str, *, with_database: bool = True) -> str:
        """Add an environment that is NORMAL already, with a RUNNING database if *with_database*."""
        # As if it had been polled once: an environment is never ready before its first poll.
        done = Readiness(self._context.clock(), ReadyPolicy.immediately(), poll_count=1)
        return self._add(alias, alias, done, done if with_database else None).env_id

    def _add(self, prefix: str, alias: str, readiness: Readiness, database: Readiness | None) -> CloudRunEnvironment:
        stamp, env_id = self._context.format_now(), f"{prefix}-{self._context.random.getrandbits(64):016x}"
        row = CloudRunEnvironment(env_id, alias, stamp, stamp, readiness, database)
        self._environments[env_id] = row
        return row

    def halt(self, env_id: str) -> None:
        """Halt an environment permanently, as the platform does over quota. Raise `KeyError` for an unknown id."""
        row = self._environments[env_id]
        row.halted, row.update_time = True, self._context.format_now()

    def remove(self, env_id: str) -> None:
        """Remove an environment, as if its owner deleted it elsewhere. Raise `KeyError` if the id is unknown."""
        del self._environments[env_id]

    def get(self, env_id: str) -> CloudRunEnvironment | None:
        return self._environments.get(env_id)

    def status_of(self, env_id: str) -> str | None:
        row = self._environments.get(env_id)
        return None if row is None else row.status(self._context.clock())

    def poll(self) -> list[dict[str, object]]:
        now = self._context.clock()
        return [row.poll(now) for row in self._environments.values()]


@frozen
class CloudRunService:
    """A cloud-run service. `body` is the request that established it."""

    env: str
    name: str
    body: Mapping[str, object] = field(repr=False)
    created_time: str = ""


@frozen
class CloudRunVersion:
    """A version of a service; `body` is the request that created it, merged with all later updates."""

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
    """The cloud-hosting environments, and all services and versions; if `release_fails`, releases move no traffic."""

    _context: ServiceContext = field(repr=False)
    _environment_ready_policy: Callable[[], ReadyPolicy] = field(repr=False)
    release_fails: bool = False
    services: dict[_Key, CloudRunService] = field(init=False, repr=False, factory=dict[_Key, CloudRunService])
    environments: CloudRunEnvironments = field(init=False, repr=False)
    microservice_envs: set[str] = field(init=False, repr=False, factory=set[str])
    _service_versions: dict[_Key, _ServiceVersions] = field(
        init=False, repr=False, factory=dict[_Key, _ServiceVersions]
    )
    _run_count: int = field(init=False, default=0)
    _release_count: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.environments = CloudRunEnvironments(self._context, self._environment_ready_policy)

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> CloudRunService:
        self._context.require_normal(env)
        if (env, name) in self.services:
            raise platform_error(40097, f"service_name {name} exists")
        return self.put(CloudRunService(env, name, body, self._context.format_now()))

    def put(self, service: CloudRunService) -> CloudRunService:
        """Add a service without versions."""
        key = service.env, service.name
        self._service_versions[key] = _ServiceVersions()
        self.services[key] = service
        return service

    def enable_microservices(self, body: Body) -> None:
        self._context.require_normal(body.string("env_id"))
        self.microservice_envs.add(body.string("env_id"))

    def versions(self, env: str, service: str) -> Mapping[str, CloudRunVersion]:
        """Return the versions of a service by name, oldest first. Empty if there is no such service."""
        return MappingProxyType(self._service_versions.get((env, service), _ServiceVersions()).versions)

    def released_version(self, env: str, service: str) -> str | None:
        """Return the name of the version released last, or None if it was deleted."""
        return self._service_versions.get((env, service), _ServiceVersions()).released

    def create_version(self, body: Body) -> Mapping[str, object]:
        """Start building a version; the reply contains its name only if it is built at once."""
        service_versions, fields = self._require_service(body), body.fields
        _check_version(fields)
        stamp, building = self._context.format_now(), self._context.start_operation()
        service_versions.created_count += 1
        name = f"{body.string('server_name')}-{service_versions.created_count:03d}"
        service_versions.versions[name] = CloudRunVersion(name, 0, fields, stamp, stamp, building)
        _set_traffic(service_versions, name, body.integer("flow_ratio", 0))
        # The create counts as the first poll, so that with the default policy the reply already names the version.
        if not building.poll(self._context.clock()):
            return {"result": "creating", "run_id": self._new_run_id()}
        return {"result": "succ", "version_name": name, "run_id": self._new_run_id()}

    def update_version(self, body: Body) -> Mapping[str, object]:
        """Roll a built version, or the latest one, over to the body. Fields that it omits stay."""
        name = body.string("version_name")
        named = "server_name" in body.fields
        service_versions = self._require_service(body) if named else self._find_by_version(body.string("env_id"), name)
        if name == "latest":
            name = next(reversed(service_versions.versions), name)
        version = self._require_built(service_versions, name)
        # Numbers arrive as strings here, unlike in the request that creates a version.
        changes = {
            key: _parse_number(key, cast("str", value)) if key in _NUMERIC_FIELDS else value
            for key, value in body.fields.items()
            if key not in _UNSTORED_FIELDS
        }
        merged = {**version.body, **changes}
        _check_version(merged)
        service_versions.versions[version.name] = evolve(version, body=merged, updated_time=self._context.format_now())
        if "flow_ratio" in changes:
            _set_traffic(service_versions, version.name, cast("int", changes["flow_ratio"]))
        return {"result": "succ", "run_id": self._new_run_id()}

    def release_version(self, body: Body) -> Mapping[str, object]:
        """Route all traffic to a built version; a failure is reported in `result`, with errcode 0."""
        service_versions = self._require_service(body)
        version = self._require_built(service_versions, body.string("release_version"))
        self._release_count += 1
        if not self.release_fails:
            _set_traffic(service_versions, version.name, 100)
            service_versions.released = version.name
        return {"result": "failed" if self.release_fails else "success", "release_order_id": self._release_count}

    def delete_version(self, body: Body) -> Mapping[str, object]:
        """Delete a version; with `is_delete_server`, the service is deleted with its last version."""
        service_versions, name = self._require_service(body), body.string("version_name")
        del service_versions.versions[_require_version(service_versions, name).name]
        if service_versions.released == name:
            service_versions.released = None
        if body.boolean("is_delete_server") and not service_versions.versions:
            key = body.string("env_id"), body.string("server_name")
            del self.services[key], self._service_versions[key]
        return {"result": "succ"}

    def _new_run_id(self) -> str:
        self._run_count += 1
        return f"run{self._context.random.getrandbits(40):010x}{self._run_count:04d}"

    def _require_service(self, body: Body) -> _ServiceVersions:
        key = body.string("env_id"), body.string("server_name")
        self._context.require_normal(key[0])
        if key not in self.services:
            raise platform_error(40097, f"server_name {key[1]} does not exist")
        return self._service_versions.setdefault(key, _ServiceVersions())

    def _find_by_version(self, env: str, version_name: str) -> _ServiceVersions:
        """Return the service that has the version, for requests that do not name the service."""
        self._context.require_normal(env)
        items = self._service_versions.items()
        found = [each for (service_env, _), each in items if service_env == env and version_name in each.versions]
        if len(found) != 1:
            message = f"server_name is missing, and version_name {version_name} does not determine it"
            raise platform_error(40097, message)
        return found[0]

    def _require_built(self, service_versions: _ServiceVersions, name: str) -> CloudRunVersion:
        version = _require_version(service_versions, name)
        # No call of this family returns the progress of a build, so each attempt to use a version counts as a poll.
        if not version.readiness.poll(self._context.clock()):
            raise platform_error(40097, f"version_name {version.name} is still creating")
        return version


def _set_traffic(service_versions: _ServiceVersions, name: str, ratio: int) -> None:
    """Set the traffic share of a version. If the sum exceeds 100, reduce the others, the newest first."""
    # No page says which versions lose their traffic, so this order is a choice.
    service_versions.versions[name] = evolve(service_versions.versions[name], flow_ratio=ratio)
    excess = sum(version.flow_ratio for version in service_versions.versions.values()) - 100
    for other in [version for version in reversed(service_versions.versions.values()) if version.name != name]:
        taken = min(max(excess, 0), other.flow_ratio)
        service_versions.versions[other.name] = evolve(other, flow_ratio=other.flow_ratio - taken)
        excess -= taken


def _require_version(service_versions: _ServiceVersions, name: str) -> CloudRunVersion:
    if name not in service_versions.versions:
        raise platform_error(40097, f"version_name {name} does not exist")
    return service_versions.versions[name]


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
    if body["upload_type"] in ("jar", "war") and not body.get("upload_filename"):
        raise platform_error(40097, "upload_filename is required for jar and war")
    if "env_params" in body:
        check_json_object("env_params", cast("str", body["env_params"]))
    for number, sidecar in enumerate(cast("list[dict[str, str]]", body.get("sidecar_specs", []))):
        if "env_var" in sidecar:
            check_json_object(f"sidecar_specs[{number}].env_var", sidecar["env_var"])


def _establish_server(world: World, body: Body) -> None:
    # The reply has no fields, as on the platform.
    world.establish(body.string("env_id"), body.string("service_name"), body.fields)


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/describecloudbaserunenvs": lambda world, _body: {"env_list": world.cloudrun.environments.poll()},
    "/componenttcb/createcloudbaserunenv": lambda world, body: world.cloudrun.environments.create(body),
    "/componenttcb/createcloudbaserunresauth": lambda world, body: world.cloudrun.enable_microservices(body),
    "/componenttcb/establishcloudbaserunserver": _establish_server,
    "/componenttcb/createcloudbaserunserverversion": lambda world, body: world.cloudrun.create_version(body),
    "/componenttcb/rollupdatecloudbaserunserverversion": lambda world, body: world.cloudrun.update_version(body),
    "/componenttcb/releasecloudbaserunversion": lambda world, body: world.cloudrun.release_version(body),
    "/componenttcb/deletecloudbaserunserverversion": lambda world, body: world.cloudrun.delete_version(body),
}
