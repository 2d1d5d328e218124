"""Handlers of the container services, the older family: hosting, services, versions, traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.containers import ContainerService, ContainerVersion
from wxtcb.sandbox.world import Service, World

__all__ = ["HANDLERS"]

_MAX_PAGE_SIZE: Final = 100


def enable_hosting(world: World, body: Body) -> bytes:
    """Enable container hosting for an environment."""
    world.containers.enable(body.string("env"))
    return success()


def create_service(world: World, body: Body) -> bytes:
    """Create a service in an environment with container hosting."""
    vpc = body.optional_object("vpc")
    vpc_id = vpc.string("vpcid") if vpc else ""
    world.containers.create_service(body.string("env"), body.string("service_name"), vpc_id)
    return success()


def list_services(world: World, body: Body) -> bytes:
    """List a page of the services of an environment, of both families, oldest first."""
    page, env = body.page(max_size=_MAX_PAGE_SIZE), body.string("env")
    rows = [*map(_cloudrun_row, world.listed_services(env)), *map(_container_row, world.containers.services_of(env))]
    # Times have a resolution of a second; the sort is stable, so each family keeps its own order within it.
    rows.sort(key=itemgetter("created_time"))
    return success(cslist=rows[page], total=len(rows))


def delete_service(world: World, body: Body) -> bytes:
    """Delete a service and its versions."""
    world.containers.delete_service(body.string("env"), body.string("service_name"))
    return success()


def create_version(world: World, body: Body) -> bytes:
    """Start to build a version."""
    return success(version_name=world.containers.create_version(body.string("env"), body))


def create_versions(world: World, body: Body) -> bytes:
    """Start to build a version in each environment; failures are listed in `fail_list`, with errcode 0."""
    succeeded: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []
    for env in body.strings("envs"):
        try:
            succeeded.append({"env": env, "version_name": world.containers.create_version(env, body)})
        except PlatformError as error:
            # This call spells the field "errormsg", the batch calls below "errmsg".
            failed.append({"env": env, "errormsg": error.message})
    return success(succ_list=succeeded, fail_list=failed)


def list_versions(world: World, body: Body) -> bytes:
    """List a page of the versions of a service, oldest first."""
    page = body.page(max_size=_MAX_PAGE_SIZE)
    versions = [*world.containers.service(body.string("env"), body.string("service_name")).versions.values()]
    rows = [_version_row(version, world.containers.poll_version(version)) for version in versions[page]]
    return success(items=rows, total=len(versions))


def describe_version(world: World, body: Body) -> bytes:
    """Describe one version in detail."""
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
    """Delete a version."""
    world.containers.delete_version(body.string("env"), body.string("service_name"), body.string("version_name"))
    return success()


def delete_versions(world: World, body: Body) -> bytes:
    """Delete versions, each independently of the others."""
    return _for_each_item(world, body, delete_version, ("env", "service_name", "version_name"))


def split_traffic(world: World, body: Body) -> bytes:
    """Split the traffic of a service."""
    rows = body.objects("items")
    ratios = {row.string("version_name"): row.integer("flow_ratio", 0) for row in rows}
    if len(ratios) < len(rows):
        raise platform_error(40097, "items: a version_name is duplicated")
    world.containers.split_traffic(body.string("env"), body.string("service_name"), ratios)
    return success()


def split_traffic_batch(world: World, body: Body) -> bytes:
    """Split the traffic of services, each independently of the others."""
    return _for_each_item(world, body, split_traffic, ("env", "service_name"))


def _for_each_item(
    world: World, body: Body, handler: Callable[[World, Body], bytes], key_names: Sequence[str]
) -> bytes:
    """Apply a handler to each of the items; failures are listed in `fail_list`, with errcode 0."""
    succeeded: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []
    for item in body.objects("items"):
        keys = {name: item.string(name) for name in key_names}
        try:
            handler(world, item)
        except PlatformError as error:
            failed.append({**keys, "errmsg": error.message})
        else:
            succeeded.append(keys)
    return success(succ_list=succeeded, fail_list=failed)


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
