"""The container services, the older family: hosting, services, versions, traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from wxtcb.sandbox.errors import Refused, refuse
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.services.containers import ContainerService, ContainerVersion
from wxtcb.sandbox.world import Service, World

__all__ = ["HANDLERS", "PAGE"]

PAGE: Final = 20
_MOST: Final = 100


def open_hosting(world: World, body: Body) -> bytes:
    """Switch hosting on for an environment."""
    world.containers.open(body.text("env"))
    return ok()


def create_service(world: World, body: Body) -> bytes:
    """Add a service to an environment whose hosting is on."""
    vpc = body.maybe_row("vpc")
    vpc_id = vpc.text("vpcid") if vpc else ""
    world.containers.create(body.text("env"), body.text("service_name"), vpc_id)
    return ok()


def list_services(world: World, body: Body) -> bytes:
    """List a page of the services of an environment, those of both families, oldest first."""
    page, env = _page(body), body.text("env")
    rows = [*map(_newer_row, world.services_of(env)), *map(_older_row, world.containers.services_of(env))]
    rows.sort(key=itemgetter("created_time"))
    return ok(cslist=rows[page], total=len(rows))


def delete_service(world: World, body: Body) -> bytes:
    """Take a service away, with its versions."""
    world.containers.delete(body.text("env"), body.text("service_name"))
    return ok()


def create_version(world: World, body: Body) -> bytes:
    """Begin to build a version."""
    return ok(version_name=world.containers.create_version(body.text("env"), body))


def create_versions(world: World, body: Body) -> bytes:
    """Begin to build a version in each environment; one that cannot have it stands in fail_list, under errcode 0."""
    succ: list[dict[str, str]] = []
    fail: list[dict[str, str]] = []
    for env in body.texts("envs"):
        try:
            succ.append({"env": env, "version_name": world.containers.create_version(env, body)})
        except Refused as no:
            fail.append({"env": env, "errormsg": no.message})
    return ok(succ_list=succ, fail_list=fail)


def list_versions(world: World, body: Body) -> bytes:
    """List a page of the versions of a service, oldest first."""
    page = _page(body)
    versions = [*world.containers.service(body.text("env"), body.text("service_name")).versions.values()]
    rows = [_version_row(each, world.containers.look(each)) for each in versions[page]]
    return ok(items=rows, total=len(versions))


def show_version(world: World, body: Body) -> bytes:
    """Show one version in detail."""
    service = world.containers.service(body.text("env"), body.text("service_name"))
    version = service.version(body.text("version_name"))
    return ok(**_detail(service, version), status=world.containers.look(version))


def configure_version(world: World, body: Body) -> bytes:
    """Change the configuration of a version."""
    world.containers.configure(body.text("env"), body.text("service_name"), body.text("version_name"), body)
    return ok()


def delete_version(world: World, body: Body) -> bytes:
    """Take a version away."""
    world.containers.delete_version(body.text("env"), body.text("service_name"), body.text("version_name"))
    return ok()


def delete_versions(world: World, body: Body) -> bytes:
    """Take versions away, each for itself."""
    return _each(world, body, delete_version, ("env", "service_name", "version_name"))


def split_traffic(world: World, body: Body) -> bytes:
    """Split the traffic of a service."""
    rows = body.rows("items")
    shares = {row.text("version_name"): row.number("flow_ratio", 0) for row in rows}
    if len(shares) < len(rows):
        raise refuse(40097, "items: a version_name is there twice")
    world.containers.split(body.text("env"), body.text("service_name"), shares)
    return ok()


def split_traffics(world: World, body: Body) -> bytes:
    """Split the traffic of services, each for itself."""
    return _each(world, body, split_traffic, ("env", "service_name"))


def _each(world: World, body: Body, do: Callable[[World, Body], bytes], names: Sequence[str]) -> bytes:
    """Do it with each of the items; one that is refused stands in fail_list, under errcode 0."""
    succ: list[dict[str, str]] = []
    fail: list[dict[str, str]] = []
    for item in body.rows("items"):
        named = {name: item.text(name) for name in names}
        try:
            do(world, item)
        except Refused as no:
            fail.append({**named, "errmsg": no.message})
        else:
            succ.append(named)
    return ok(succ_list=succ, fail_list=fail)


def _page(body: Body) -> slice[int, int]:
    """Return the page that was asked for: 20 unless told otherwise, and never more than 100."""
    limit, offset = body.number("limit", PAGE), body.number("offset", 0)
    if limit < 1 or offset < 0:
        raise refuse(40097, "limit must be above 0, and offset not below it")
    return slice(offset, offset + min(limit, _MOST))


def _newer_row(service: Service) -> dict[str, object]:
    return _service_row(service.name, service.created_time, "", service.body.get("image_repo", ""))


def _older_row(service: ContainerService) -> dict[str, object]:
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


_TEXTS: Final = ("remark", "dockerfile_path", "build_dir", "env_params", "package_name", "package_version", "branch")
_SETTINGS: Final = ("cpu", "mem", "minnum", "maxnum", "policy_type", "policy_threshold", "upload_type", "custom_logs")


def _detail(service: ContainerService, version: ContainerVersion) -> dict[str, object]:
    fields = version.fields
    return {
        "version_name": version.name,
        **{name: fields.get(name, "") for name in _TEXTS},
        **{name: fields[name] for name in (*_SETTINGS, "container_port")},
        "created_time": version.created_time,
        "updated_time": version.updated_time,
        "version_ip": f"10.0.0.{version.number}",
        "version_port": fields["container_port"],
        "repo_type": fields.get("repository_type", ""),
        "repo": fields.get("repository", ""),
        "image_url": f"ccr.ccs.tencentyun.com/sandbox/{service.env}_{service.name}:{version.name}",
    }


HANDLERS: Final[dict[str, Callable[[World, Body], bytes]]] = {
    "/componenttcb/opencontainerservice": open_hosting,
    "/componenttcb/createcontainerservice": create_service,
    "/componenttcb/getcslist": list_services,
    "/componenttcb/delcontainerservice": delete_service,
    "/componenttcb/createcsversion": create_version,
    "/componenttcb/batchcreatecsversion": create_versions,
    "/componenttcb/getcsversionlist": list_versions,
    "/componenttcb/getcsversiondetail": show_version,
    "/componenttcb/setcsversionconfig": configure_version,
    "/componenttcb/delcsversion": delete_version,
    "/componenttcb/batchdelcsversion": delete_versions,
    "/componenttcb/setcspropotion": split_traffic,
    "/componenttcb/batchsetcspropotion": split_traffics,
}
