"""createenv, describeenvs, modifyenv, usecloudaccesstoken, and the three of sharing."""

from __future__ import annotations

import re
from typing import Final

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS"]

_ALIAS: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")


def create_env(world: World, body: Body) -> bytes:
    """Open an environment; an alias that exists already opens (and bills) another one."""
    alias = body.text("alias")
    if _ALIAS.fullmatch(alias) is None:
        raise refuse(40097, "alias must start with a-z and hold only a-zA-Z0-9-")
    tranid, env = world.create(alias, body.maybe_text("EnvType"))
    return ok(tranid=tranid, env=env)


def describe_envs(world: World, _body: Body) -> bytes:
    """List every visible environment, and thereby start those that nobody has looked at yet."""
    return b'{"errcode":0,"errmsg":"ok","info_list":' + world.look() + b"}"


def share_envs(world: World, body: Body) -> bytes:
    """Offer environments to mini programs, pair by pair: a pair that fails stands in err_list, under errcode 0."""
    failed: list[dict[str, str]] = []
    links: list[dict[str, str]] = []
    for job in body.rows("data"):
        env = job.text("env")
        for appid in job.texts("appids"):
            flaw = _flaw(world, env, appid)
            if flaw:
                failed.append({"env": env, "appid": appid, "errmsg": flaw})
            else:
                share = world.share(env, appid, body.fields.get("source_type"))
                links.append({"appid": appid, "url": share.url})
    return ok(err_list=failed, msg_info_list=links)


def unshare_envs(world: World, body: Body) -> bytes:
    """Take environments back from mini programs, pair by pair: one that was never shared stands in err_list."""
    source_type = body.fields.get("source_type")
    pairs = [(job.text("env"), appid) for job in body.rows("data") for appid in job.texts("appids")]
    failed = [(env, appid) for env, appid in pairs if not world.unshare(env, appid, source_type)]
    return ok(err_list=[{"env": env, "appid": appid, "errmsg": "not shared"} for env, appid in failed])


def modify_env(world: World, body: Body) -> bytes:
    """Make an environment one that mini programs can use."""
    world.access.modify(body.text("env"))
    return ok()


def use_access_token(world: World, body: Body) -> bytes:
    """Read or set what code in an environment may do with cloudbase_access_token."""
    env, access = body.text("env"), world.access
    if body.text("action") == "get":
        setting = access.get(env)
        return ok(open=access.is_open, api_whitelist=setting.api_whitelist, version=setting.version)
    version = body.number("version", 0)
    access.set(env, is_open=body.flag("open"), api_whitelist=body.texts("api_whitelist"), version=version)
    return ok()


def get_shares(world: World, body: Body) -> bytes:
    """Tell which environments each mini program may use; one whose administrator has not agreed may not use any."""
    source_type = body.fields.get("source_type")
    known = [appid for appid in dict.fromkeys(body.texts("appids")) if world.authorised(appid)]
    failed = [{"appid": appid, "errmsg": "invalid appid"} for appid in body.texts("appids") if appid not in known]
    relations: dict[str, list[str]] = {appid: [] for appid in known}
    for share in world.confirmed():
        if share.appid in relations and source_type in (None, share.source_type):
            relations[share.appid].append(share.env)
    return ok(relation_data=[{"appid": appid, "env_list": envs} for appid, envs in relations.items()], err_list=failed)


def _flaw(world: World, env: str, appid: str) -> str | None:
    if env not in world.environments:
        return "invalid env"
    return None if world.authorised(appid) else "invalid appid"


HANDLERS: Final = {
    "/componenttcb/createenv": create_env,
    "/componenttcb/describeenvs": describe_envs,
    "/componenttcb/batchshareenv": share_envs,
    "/componenttcb/batchunshareenv": unshare_envs,
    "/componenttcb/batchgetenvid": get_shares,
    "/tcb/modifyenv": modify_env,
    "/tcb/usecloudaccesstoken": use_access_token,
}
