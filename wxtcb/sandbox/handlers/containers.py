"""The container services, the older family: hosting, services, versions, traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.containers import ContainerService, ContainerVersion
from wxtcb.sandbox.world import Service, World

__all__ = ["DEFAULT_PAGE_SIZE", "HANDLERS"]

DEFAULT_PAGE_SIZE: Final = 20
_MAX_PAGE_SIZE: Final = 100


def enable_hosting(world: World, body: Body) -> bytes:
    """Switch hosting on for an environment."""
    world.containers.enable(body.string("env"))
    return success()


def create_service(world: World, body: Body) -> bytes:
    """Add a service to an environment whose hosting is on."""
    vpc = body.optional_object("vpc")
    vpc_id = vpc.string("vpcid") if vpc else ""
    world.containers.create_service(body.string("env"), body.string("service_name"), vpc_id)
    return success()


def list_services(world: World, body: Body) -> bytes:
    """List a page of the services of an environment, those of both families, oldest first."""
    page, env = _page_slice(body), body.string("env")
    rows = [*map(_cloudrun_row, world.listed_services(env)), *map(_container_row, world.containers.services_of(env))]
    rows.sort(key=itemgetter("created_time"))
    return success(cslist=rows[page], total=len(rows))


def delete_service(world: World, body: Body) -> bytes:
    """Take a service away, with its versions."""
    world.containers.delete_service(body.string("env"), body.string("service_name"))
    return success()


def create_version(world: World, body: Body) -> bytes:
    """Begin to build a version."""
    return success(version_name=world.containers.create_version(body.string("env"), body))


def create_versions(world: World, body: Body) -> bytes:
    """Begin to build a version in each environment; one that cannot have it stands in fail_list, under errcode 0."""
    succ: list[dict[str, str]] = []
    fail: list[dict[str, str]] = []
    for env in body.strings("envs"):
        try:
            succ.append({"env": env, "version_name": world.containers.create_version(env, body)})
        except PlatformError as no:
            fail.append({"env": env, "errormsg": no.message})
    return success(succ_list=succ, fail_list=fail)


def list_versions(world: World, body: Body) -> bytes:
    """List a page of the versions of a service, oldest first."""
    page = _page_slice(body)
    versions = [*world.containers.service(body.string("env"), body.string("service_name")).versions.values()]
    rows = [_version_row(each, world.containers.poll_version(each)) for each in versions[page]]
    return success(items=rows, total=len(versions))


def describe_version(world: World, body: Body) -> bytes:
    """Show one version in detail."""
    service = world.containers.service(body.string("env"), body.string("service_name"))
    version = service.version(body.string("version_name"))
    return success(**_version_detail(service, version), status=world.containers.poll_version(version))


def configure_version(world: World, body: Body) -> bytes:
    """Change the configuration of a version."""
    world.containers.configure_version(
        body.string("env"), body.string("service_name"), body.string("version_name"), body
    )
    return success()


def delete_version(world: World, body: Body) -> bytes:
    """Take a version away."""
    world.containers.delete_version(body.string("env"), body.string("service_name"), body.string("version_name"))
    return success()


def delete_versions(world: World, body: Body) -> bytes:
    """Take versions away, each for itself."""
    return _for_each_item(world, body, delete_version, ("env", "service_name", "version_name"))


def split_traffic(world: World, body: Body) -> bytes:
    """Split the traffic of a service."""
    rows = body.objects("items")
    shares = {row.string("version_name"): row.integer("flow_ratio", 0) for row in rows}
    if len(shares) < len(rows):
        raise platform_error(40097, "items: a version_name is there twice")
    world.containers.split_traffic(body.string("env"), body.string("service_name"), shares)
    return success()


def split_traffic_batch(world: World, body: Body) -> bytes:
    """Split the traffic of services, each for itself."""
    return _for_each_item(world, body, split_traffic, ("env", "service_name"))


def _for_each_item(
    world: World, body: Body, handler: Callable[[World, Body], bytes], key_names: Sequence[str]
) -> bytes:
    """Do it with each of the items; one that is refused stands in fail_list, under errcode 0."""
    succ: list[dict[str, str]] = []
    fail: list[dict[str, str]] = []
    for item in body.objects("items"):
        named = {name: item.string(name) for name in key_names}
        try:
            handler(world, item)
        except PlatformError as no:
            fail.append({**named, "errmsg": no.message})
        else:
            succ.append(named)
    return success(succ_list=succ, fail_list=fail)


def _page_slice(body: Body) -> slice[int, int]:
    """Return the page that was asked for: 20 unless told otherwise, and never more than 100."""
    limit, offset = body.integer("limit", DEFAULT_PAGE_SIZE), body.integer("offset", 0)
    if limit < 1 or offset < 0:
        raise platform_error(40097, "limit must be above 0, and offset not below it")
    return slice(offset, offset + min(limit, _MAX_PAGE_SIZE))


def _cloudrun_row(service: Service) -> dict[str, object]:
    return _service_row(service.name, service.created_time, "", service.body.get("image_repo", ""))


def _container_row(service: ContainerService) -> dict[str, object]:
    return _service_row(service.name, service.created_time, service.vpc_id, f"sandbox/{service.env}_{service.name}")


def _service_row(name: str, created_time: str, vpc_id: str, image_repo: object) -> dict[str, object]:
    return {
        "server_name": name,
        "created_time": created_time,
        "updated_time": created_time,
        "status": "succ",
        "vpcid": vpc_id,
        "image_repo": image_repo,
    }


def _version_row(version: ContainerVersion, status: str) -> dict[str, object]:
    return {
        "version_name": version.name,
        "status": status,
        "created_time": version.created_time,
        "updated_time": version.updated_time,
        "flow_ratio": version.flow_ratio,
        "buildid": version.number,
        "upload_type": version.fields["upload_type"],
        "min_replicas": version.fields["minnum"],
        "max_replicas": version.fields["maxnum"],
    }


_OPTIONAL_STRINGS: Final = (
    "remark",
    "dockerfile_path",
    "build_dir",
    "env_params",
    "package_name",
    "package_version",
    "branch",
)
_REQUIRED_SETTINGS: Final = (
    "cpu",
    "mem",
    "minnum",
    "maxnum",
    "policy_type",
    "policy_threshold",
    "upload_type",
    "custom_logs",
)


def _version_detail(service: ContainerService, version: ContainerVersion) -> dict[str, object]:
    fields = version.fields
    return {
        "version_name": version.name,
        **{name: fields.get(name, "") for name in _OPTIONAL_STRINGS},
        **{name: fields[name] for name in (*_REQUIRED_SETTINGS, "container_port")},
        "created_time": version.created_time,
        "updated_time": version.updated_time,
        "version_ip": f"10.0.0.{version.number}",
        "version_port": fields["container_port"],
        "repo_type": fields.get("repository_type", ""),
        "repo": fields.get("repository", ""),
        "image_url": f"ccr.ccs.tencentyun.com/sandbox/{service.env}_{service.name}:{version.name}",
    }


HANDLERS: Final[dict[str, Callable[[World, Body], bytes]]] = {
    "/componenttcb/opencontainerservice": enable_hosting,
    "/componenttcb/createcontainerservice": create_service,
    "/componenttcb/getcslist": list_services,
    "/componenttcb/delcontainerservice": delete_service,
    "/componenttcb/createcsversion": create_version,
    "/componenttcb/batchcreatecsversion": create_versions,
    "/componenttcb/getcsversionlist": list_versions,
    "/componenttcb/getcsversiondetail": describe_version,
    "/componenttcb/setcsversionconfig": configure_version,
    "/componenttcb/delcsversion": delete_version,
    "/componenttcb/batchdelcsversion": delete_versions,
    "/componenttcb/setcspropotion": split_traffic,
    "/componenttcb/batchsetcspropotion": split_traffic_batch,
}
