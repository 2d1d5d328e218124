"""createenv, describeenvs, modifyenv, usecloudaccesstoken, and the three of sharing."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_ALIAS: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")


def create_env(world: World, body: Body) -> bytes:
    """Open an environment; an alias that exists already opens (and bills) another one."""
    alias = body.string("alias")
    if _ALIAS.fullmatch(alias) is None:
        raise platform_error(40097, "alias must start with a-z and hold only a-zA-Z0-9-")
    tranid, env = world.create(alias, body.optional_string("EnvType"))
    return success(tranid=tranid, env=env)


def describe_envs(world: World, _body: Body) -> bytes:
    """List every visible environment, and thereby start those that nobody has looked at yet."""
    return b'{"errcode":0,"errmsg":"ok","info_list":' + world.poll_environments() + b"}"


def share_envs(world: World, body: Body) -> bytes:
    """Offer environments to mini programs, pair by pair: a pair that fails stands in err_list, under errcode 0."""
    failed: list[dict[str, str]] = []
    links: list[dict[str, str]] = []
    for job in body.objects("data"):
        env = job.string("env")
        for appid in job.strings("appids"):
            flaw = _share_error(world, env, appid)
            if flaw:
                failed.append({"env": env, "appid": appid, "errmsg": flaw})
            else:
                share = world.share(env, appid, body.fields.get("source_type"))
                links.append({"appid": appid, "url": share.url})
    return success(err_list=failed, msg_info_list=links)


def unshare_envs(world: World, body: Body) -> bytes:
    """Take environments back from mini programs, pair by pair: one that was never shared stands in err_list."""
    source_type = body.fields.get("source_type")
    pairs = [(job.string("env"), appid) for job in body.objects("data") for appid in job.strings("appids")]
    failed = [(env, appid) for env, appid in pairs if not world.unshare(env, appid, source_type)]
    return success(err_list=[{"env": env, "appid": appid, "errmsg": "not shared"} for env, appid in failed])


def modify_env(world: World, body: Body) -> bytes:
    """Make an environment one that mini programs can use."""
    world.access_token_policies.enable_for_mini_programs(body.string("env"))
    return success()


def use_access_token(world: World, body: Body) -> bytes:
    """Read or set what code in an environment may do with cloudbase_access_token."""
    env, access = body.string("env"), world.access_token_policies
    if body.string("action") == "get":
        setting = access.get(env)
        return success(open=access.is_open, api_whitelist=setting.api_whitelist, version=setting.version)
    version = body.integer("version", 0)
    access.set(env, is_open=body.boolean("open"), api_whitelist=body.strings("api_whitelist"), version=version)
    return success()


def get_shares(world: World, body: Body) -> bytes:
    """Tell which environments each mini program may use; one whose administrator has not agreed may not use any."""
    source_type = body.fields.get("source_type")
    known = [appid for appid in dict.fromkeys(body.strings("appids")) if world.is_authorised(appid)]
    failed = [{"appid": appid, "errmsg": "invalid appid"} for appid in body.strings("appids") if appid not in known]
    relations: dict[str, list[str]] = {appid: [] for appid in known}
    for share in world.confirmed_shares():
        if share.appid in relations and source_type in (None, share.source_type):
            relations[share.appid].append(share.env)
    return success(
        relation_data=[{"appid": appid, "env_list": envs} for appid, envs in relations.items()], err_list=failed
    )


def _share_error(world: World, env: str, appid: str) -> str | None:
    if env not in world.environments:
        return "invalid env"
    return None if world.is_authorised(appid) else "invalid appid"


HANDLERS: Final = {
    "/componenttcb/createenv": create_env,
    "/componenttcb/describeenvs": describe_envs,
    "/componenttcb/batchshareenv": share_envs,
    "/componenttcb/batchunshareenv": unshare_envs,
    "/componenttcb/batchgetenvid": get_shares,
    "/tcb/modifyenv": modify_env,
    "/tcb/usecloudaccesstoken": use_access_token,
}
