"""Handlers of the calls of cloud hosting: environments, services and their versions."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "establish_server"]

_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]*")


def describe_envs(world: World, _body: Body) -> bytes:
    """List every cloud-hosting environment."""
    return success(env_list=world.cloudrun.environments.poll())


def create_env(world: World, body: Body) -> bytes:
    """Create an environment; a second one with the same alias is created, and billed, too."""
    alias, vpc_id = body.optional_string("alias"), body.optional_string("vpc_id")
    subnet_ids = body.strings("sub_net_ids")
    if alias is not None and _ALIAS.fullmatch(alias) is None:
        raise platform_error(40097, "alias must start with a-z and contain only a-z0-9-")
    if bool(vpc_id) is not bool(subnet_ids):
        raise platform_error(40097, "vpc_id and sub_net_ids must be given together")
    tran_id, env_id = world.cloudrun.environments.create(alias, vpc_id, subnet_ids)
    return success(env_id=env_id, tran_id=tran_id)


def enable_microservices(world: World, body: Body) -> bytes:
    """Enable the microservices of an environment."""
    world.cloudrun.enable_microservices(body.string("env_id"))
    return success()


def establish_server(world: World, body: Body) -> bytes:
    """Create an empty service; the reply has no fields, as on the platform."""
    world.establish(body.string("env_id"), body.string("service_name"), body.fields)
    return success()


def create_version(world: World, body: Body) -> bytes:
    """Start to build a version; the reply contains its name only if the build is finished at once."""
    version, built = world.cloudrun.create_version(body.string("env_id"), body.string("server_name"), body.fields)
    run_id = world.cloudrun.new_run_id()
    if not built:
        return success(result="creating", run_id=run_id)
    return success(result="succ", version_name=version.name, run_id=run_id)


def update_version(world: World, body: Body) -> bytes:
    """Update a version, or the latest one, to other code or settings."""
    names = body.string("env_id"), body.optional_string("server_name"), body.string("version_name")
    world.cloudrun.update_version(*names, body.fields)
    return success(result="succ", run_id=world.cloudrun.new_run_id())


def release_version(world: World, body: Body) -> bytes:
    """Route all traffic to one version; a failure is reported in `result`, with errcode 0."""
    names = body.string("env_id"), body.string("server_name"), body.string("release_version")
    succeeded, order_id = world.cloudrun.release_version(*names)
    return success(result="success" if succeeded else "failed", release_order_id=order_id)


def delete_version(world: World, body: Body) -> bytes:
    """Delete a version; with `is_delete_server`, the service is deleted with its last version."""
    names = body.string("env_id"), body.string("server_name"), body.string("version_name")
    world.cloudrun.delete_version(*names, with_service=body.boolean("is_delete_server"))
    return success(result="succ")


HANDLERS: Final = {
    "/componenttcb/describecloudbaserunenvs": describe_envs,
    "/componenttcb/createcloudbaserunenv": create_env,
    "/componenttcb/createcloudbaserunresauth": enable_microservices,
    "/componenttcb/establishcloudbaserunserver": establish_server,
    "/componenttcb/createcloudbaserunserverversion": create_version,
    "/componenttcb/rollupdatecloudbaserunserverversion": update_version,
    "/componenttcb/releasecloudbaserunversion": release_version,
    "/componenttcb/deletecloudbaserunserverversion": delete_version,
}
