"""The calls of cloud hosting: environments, services and their versions."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "establish_server"]

_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]*")


def describe_envs(world: World, _body: Body) -> bytes:
    """List every cloud-hosting environment."""
    return ok(env_list=world.cloudrun.environments.look())


def create_env(world: World, body: Body) -> bytes:
    """Open an environment; an alias that exists already opens (and bills) another one."""
    alias, vpc_id, subnet_ids = body.maybe_text("alias"), body.maybe_text("vpc_id"), body.texts("sub_net_ids")
    if alias is not None and _ALIAS.fullmatch(alias) is None:
        raise refuse(40097, "alias must start with a-z and hold only a-z0-9-")
    if bool(vpc_id) is not bool(subnet_ids):
        raise refuse(40097, "vpc_id and sub_net_ids go together")
    tranid, env_id = world.cloudrun.environments.create(alias, vpc_id, subnet_ids)
    return ok(env_id=env_id, tran_id=tranid)


def authorise(world: World, body: Body) -> bytes:
    """Switch the micro services of an environment on."""
    world.cloudrun.authorise(body.text("env_id"))
    return ok()


def establish_server(world: World, body: Body) -> bytes:
    """Open an empty service; the answer names nothing, as on the platform."""
    world.establish(body.text("env_id"), body.text("service_name"), body.fields)
    return ok()


def create_version(world: World, body: Body) -> bytes:
    """Begin another version; its name is told only where it is built at once."""
    version, built = world.cloudrun.deploy(body.text("env_id"), body.text("server_name"), body.fields)
    run_id = world.cloudrun.run_id()
    return (
        ok(result="succ", version_name=version.name, run_id=run_id) if built else ok(result="creating", run_id=run_id)
    )


def roll_version(world: World, body: Body) -> bytes:
    """Roll a version, or the latest one, over to something else."""
    names = body.text("env_id"), body.maybe_text("server_name"), body.text("version_name")
    world.cloudrun.roll(*names, body.fields)
    return ok(result="succ", run_id=world.cloudrun.run_id())


def release_version(world: World, body: Body) -> bytes:
    """Move all traffic to one version; that it failed stands in result, under errcode 0."""
    names = body.text("env_id"), body.text("server_name"), body.text("release_version")
    well, order = world.cloudrun.release(*names)
    return ok(result="success" if well else "failed", release_order_id=order)


def delete_version(world: World, body: Body) -> bytes:
    """Delete a version, and the service with its last one if that is asked for."""
    names = body.text("env_id"), body.text("server_name"), body.text("version_name")
    world.cloudrun.delete(*names, with_service=body.flag("is_delete_server"))
    return ok(result="succ")


HANDLERS: Final = {
    "/componenttcb/describecloudbaserunenvs": describe_envs,
    "/componenttcb/createcloudbaserunenv": create_env,
    "/componenttcb/createcloudbaserunresauth": authorise,
    "/componenttcb/establishcloudbaserunserver": establish_server,
    "/componenttcb/createcloudbaserunserverversion": create_version,
    "/componenttcb/rollupdatecloudbaserunserverversion": roll_version,
    "/componenttcb/releasecloudbaserunversion": release_version,
    "/componenttcb/deletecloudbaserunserverversion": delete_version,
}
