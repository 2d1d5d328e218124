"""Container services, the older family: hosting is enabled first, then services, versions and traffic."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from attrs import define, field

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, check_json_object
from wxtcb.sandbox.services.context import Readiness, ServiceContext, run_batch

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler, World

_MAX_PAGE_SIZE: Final = 100
# The documented defaults of a version; that of `custom_logs` is from the sample of a detail.
_REPLICAS: Final[dict[str, object]] = {"cpu": 0.5, "mem": 1, "minnum": 0, "maxnum": 50}
_POLICY: Final[dict[str, object]] = {"policy_type": "cpu", "policy_threshold": 60}
_DEFAULTS: Final = {**_REPLICAS, **_POLICY, "container_port": 80, "custom_logs": "stdout"}
_CONFIGURABLE_FIELDS: Final = ("minnum", "maxnum", "remark", "container_port", "custom_logs", "env_params")
_OPTIONAL: Final = ("remark", "dockerfile_path", "build_dir", "env_params", "package_name", "package_version", "branch")
_Key = tuple[str, str]


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

    @property
    def times(self) -> dict[str, object]:
        return {"created_time": self.created_time, "updated_time": self.updated_time}

    def poll(self, now: float) -> str:
        if not self.readiness.poll(now):
            return "creating"
        return "build_fail" if self.build_fails else "normal"


@define(eq=False)
class VersionedService:
    """A service with its versions by name, oldest first, and how many versions it ever had."""

    env: str
    name: str
    created_time: str
    vpc_id: str = ""
    versions: dict[str, ContainerVersion] = field(factory=dict[str, ContainerVersion])
    created_count: int = 0

    def version(self, name: str) -> ContainerVersion:
        if name not in self.versions:
            raise platform_error(40097, f"version_name {name} does not exist")
        return self.versions[name]


@define(eq=False)
class Containers:
    """The container services; if `builds_fail`, versions created from now on end as "build_fail"."""

    _context: ServiceContext = field(repr=False)
    builds_fail: bool = False
    _enabled_envs: set[str] = field(init=False, repr=False, factory=set[str])
    _services: dict[_Key, VersionedService] = field(init=False, repr=False, factory=dict[_Key, VersionedService])

    def enable(self, env: str) -> None:
        """Enable hosting. No page says that the call may be repeated, so the second one is rejected."""
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
        self._services[env, name] = VersionedService(env, name, self._context.format_now(), vpc_id)

    def services_of(self, env: str) -> list[VersionedService]:
        return [service for service in self._services.values() if service.env == env]

    def delete_service(self, body: Body) -> None:
        service = self._service(body)
        del self._services[service.env, service.name]

    def create_version(self, body: Body) -> Mapping[str, str]:
        service = self._service(body)
        _check_settings(body)
        if body.string("upload_type") not in ("package", "repository", "image"):
            raise platform_error(40097, "upload_type must be package, repository or image")
        share = body.integer("flow_ratio", 0)
        if not 0 <= share <= 100 - sum(version.flow_ratio for version in service.versions.values()):
            raise platform_error(40097, f"flow_ratio {share} is not the rest to 100")
        service.created_count += 1
        name, stamp = f"{service.name}-{service.created_count:03d}", self._context.format_now()
        fields = {**_DEFAULTS, "remark": body.optional_string("version_remark") or "", **body.fields}
        service.versions[name] = ContainerVersion(
            name, service.created_count, stamp, stamp, share, fields, self._context.start_operation(), self.builds_fail
        )
        return {"version_name": name}

    def create_versions(self, body: Body) -> Mapping[str, object]:
        items = [Body({**body.fields, "env": env}) for env in body.strings("envs")]
        # This call spells the field "errormsg", the other batch calls "errmsg".
        return run_batch(("env",), items, self.create_version, "errormsg")

    def list_versions(self, body: Body) -> Mapping[str, object]:
        """List a page of the versions of a service, oldest first; only the versions listed are polled."""
        page, versions = body.page(max_size=_MAX_PAGE_SIZE), [*self._service(body).versions.values()]
        return {"items": [self._version_row(version) for version in versions[page]], "total": len(versions)}

    def describe_version(self, body: Body) -> Mapping[str, object]:
        service = self._service(body)
        version = service.version(body.string("version_name"))
        fields = version.fields
        return {
            "version_name": version.name,
            **{name: fields.get(name, "") for name in _OPTIONAL},
            **{name: fields[name] for name in (*_DEFAULTS, "upload_type")},
            **version.times,
            "version_ip": f"10.0.0.{version.number}",
            "version_port": fields["container_port"],
            "repo_type": fields.get("repository_type", ""),
            "repo": fields.get("repository", ""),
            "image_url": f"ccr.ccs.tencentyun.com/sandbox/{service.env}_{service.name}:{version.name}",
            "status": version.poll(self._context.clock()),
        }

    def configure_version(self, body: Body) -> None:
        """Change the settings of a version. Fields that *body* omits stay."""
        version = self._service(body).version(body.string("version_name"))
        _check_settings(body)
        version.fields |= {name: body.fields[name] for name in _CONFIGURABLE_FIELDS if name in body.fields}
        version.updated_time = self._context.format_now()

    def delete_version(self, body: Body) -> None:
        service = self._service(body)
        del service.versions[service.version(body.string("version_name")).name]

    def split_traffic(self, body: Body) -> None:
        """Split the traffic of a service. Versions that are not named get none."""
        rows = body.objects("items")
        flow_ratios = {row.string("version_name"): row.integer("flow_ratio", 0) for row in rows}
        if len(flow_ratios) < len(rows):
            raise platform_error(40097, "items: a version_name is duplicated")
        service = self._service(body)
        # Everything is checked before the first change: a rejected call leaves the traffic as it was.
        for name, share in flow_ratios.items():
            service.version(name)
            if not 0 <= share <= 100:
                raise platform_error(40097, f"flow_ratio {share} of {name} must be between 0 and 100")
        if sum(flow_ratios.values()) not in (0, 100):
            raise platform_error(40097, f"flow_ratio: the sum {sum(flow_ratios.values())} must be 100 or 0")
        for version in service.versions.values():
            version.flow_ratio = flow_ratios.get(version.name, 0)

    def _service(self, body: Body) -> VersionedService:
        env, name = body.string("env"), body.string("service_name")
        self._context.require_normal(env)
        if (env, name) not in self._services:
            raise platform_error(40097, f"service_name {name} does not exist")
        return self._services[env, name]

    def _version_row(self, version: ContainerVersion) -> dict[str, object]:
        fields = version.fields
        status = version.poll(self._context.clock())
        row: dict[str, object] = {"version_name": version.name, "status": status, **version.times}
        row |= {"flow_ratio": version.flow_ratio, "buildid": version.number, "upload_type": fields["upload_type"]}
        return row | {"min_replicas": fields["minnum"], "max_replicas": fields["maxnum"]}


def _check_settings(body: Body) -> None:
    if body.integer("minnum", 0) < 0:
        raise platform_error(40097, "minnum must be 0 or more")
    if body.integer("maxnum", 0) > 50:
        raise platform_error(40097, "maxnum must be 50 or less")
    check_json_object("env_params", body.optional_string("env_params") or "{}")


def _create_service(world: World, body: Body) -> None:
    vpc = body.optional_object("vpc")
    vpc_id = vpc.string("vpcid") if vpc else ""
    world.containers.create_service(body.string("env"), body.string("service_name"), vpc_id)


def _list_services(world: World, body: Body) -> Mapping[str, object]:
    """List a page of the services of an environment, of both families, oldest first."""
    page, env = body.page(max_size=_MAX_PAGE_SIZE), body.string("env")
    rows = [
        _service_row(service.name, service.created_time, "", service.body.get("image_repo", ""))
        for service in world.listed_services(env)
    ] + [
        _service_row(service.name, service.created_time, service.vpc_id, f"sandbox/{env}_{service.name}")
        for service in world.containers.services_of(env)
    ]
    # Times have a resolution of a second; the sort is stable, so each family keeps its own order within it.
    rows.sort(key=itemgetter("created_time"))
    return {"cslist": rows[page], "total": len(rows)}


def _service_row(name: str, created_time: str, vpc_id: str, image_repo: object) -> dict[str, object]:
    row: dict[str, object] = {"server_name": name, "created_time": created_time, "updated_time": created_time}
    return {**row, "status": "succ", "vpcid": vpc_id, "image_repo": image_repo}


_VERSION_KEYS: Final = ("env", "service_name", "version_name")

HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/opencontainerservice": lambda world, body: world.containers.enable(body.string("env")),
    "/componenttcb/createcontainerservice": _create_service,
    "/componenttcb/getcslist": _list_services,
    "/componenttcb/delcontainerservice": lambda world, body: world.containers.delete_service(body),
    "/componenttcb/createcsversion": lambda world, body: world.containers.create_version(body),
    "/componenttcb/batchcreatecsversion": lambda world, body: world.containers.create_versions(body),
    "/componenttcb/getcsversionlist": lambda world, body: world.containers.list_versions(body),
    "/componenttcb/getcsversiondetail": lambda world, body: world.containers.describe_version(body),
    "/componenttcb/setcsversionconfig": lambda world, body: world.containers.configure_version(body),
    "/componenttcb/delcsversion": lambda world, body: world.containers.delete_version(body),
    "/componenttcb/batchdelcsversion": lambda world, body: run_batch(
        _VERSION_KEYS, body.objects("items"), world.containers.delete_version
    ),
    "/componenttcb/setcspropotion": lambda world, body: world.containers.split_traffic(body),
    "/componenttcb/batchsetcspropotion": lambda world, body: run_batch(
        _VERSION_KEYS[:2], body.objects("items"), world.containers.split_traffic
    ),
}
